#pragma once
// For functions that hosts and devices must compute alike. Both are compiled without contraction, so the same source gives
// the same bits. Such headers are C++17, which is what device code is compiled as.
#ifdef __CUDACC__
#define CAJAL_HOST_DEVICE __host__ __device__
#else
#define CAJAL_HOST_DEVICE
#endif
