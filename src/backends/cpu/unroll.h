#pragma once
// CAJAL_UNROLL before a loop of a constant number of rounds unrolls all of it, so that arrays of vectors that it indexes
// live in registers.
#if defined(__clang__)
#define CAJAL_UNROLL _Pragma("unroll")
#else
#define CAJAL_UNROLL _Pragma("GCC unroll 32")
#endif
