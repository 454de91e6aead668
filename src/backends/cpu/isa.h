#pragma once
// What the CPU we run on can do, as a bit set, and regions of code compiled for it.
// A file is compiled with baseline flags and #includes everything *before* the region: only the functions between
// BEGIN and END use the instruction set, so no inline function of the standard library is ever emitted with it.
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace cajal::cpu {

enum Isa : std::uint32_t {
  kBaseline = 0,
  kAvx2 = 1u << 0,        // avx2, fma, f16c
  kAvx512 = 1u << 1,      // f, bw, vl, dq
  kAvx512Bf16 = 1u << 2,  // with kAvx512Vnni: no CPU has the one without the other
  kAvx512Vnni = 1u << 3,
  kAmx = 1u << 4,  // tile, int8, bf16; with all above: no CPU has it without them
};

// The environment variable CAJAL_CPU_ISA=baseline|avx2|avx512|avx512_vnni|avx512_bf16|amx lowers it, for tests and bug reports; a word
// it does not know is Error(invalid_argument). Where there is AMX, asks the system for its use by this process.
std::uint32_t detect_isa();
std::string isa_name(std::uint32_t isa);  // "avx512_bf16": the highest level in the set

// What processors have together, from the least on; CAJAL_CPU_ISA and targets ("cpu-avx2") go by these names.
struct IsaLevel {
  std::string_view name;
  std::uint32_t isa;  // of the level before, and one bit more
};
inline constexpr std::array<IsaLevel, 6> kIsaLevels = {{{"baseline", kBaseline},
                                                        {"avx2", kAvx2},
                                                        {"avx512", kAvx2 | kAvx512},
                                                        {"avx512_vnni", kAvx2 | kAvx512 | kAvx512Vnni},
                                                        {"avx512_bf16", kAvx2 | kAvx512 | kAvx512Vnni | kAvx512Bf16},
                                                        {"amx", kAvx2 | kAvx512 | kAvx512Vnni | kAvx512Bf16 | kAmx}}};
// Null for a name that is none.
const IsaLevel* find_isa_level(std::string_view name);

// Whether this processor was seen to follow several streams of reads by itself, so that software that fetches far ahead of
// them is only in its way.
bool follows_streams();

}  // namespace cajal::cpu

#define CAJAL_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define CAJAL_TARGET_REGION_BEGIN(isa) \
  CAJAL_PRAGMA(clang attribute push(__attribute__((target(isa))), apply_to = function))
#define CAJAL_TARGET_REGION_END CAJAL_PRAGMA(clang attribute pop)
#else
// GCC 12 takes the deliberate `__Y = __Y` of its own AVX-512 headers for a mistake (GCC bug 105593).
#define CAJAL_TARGET_REGION_BEGIN(isa)                         \
  CAJAL_PRAGMA(GCC diagnostic push)                            \
  CAJAL_PRAGMA(GCC diagnostic ignored "-Wmaybe-uninitialized") \
  CAJAL_PRAGMA(GCC diagnostic ignored "-Wuninitialized") CAJAL_PRAGMA(GCC push_options) CAJAL_PRAGMA(GCC target(isa))
#define CAJAL_TARGET_REGION_END CAJAL_PRAGMA(GCC pop_options) CAJAL_PRAGMA(GCC diagnostic pop)
#endif

#define CAJAL_AVX2 "avx2,fma,f16c"
#define CAJAL_AVX512 "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c"
#define CAJAL_AVX512_VNNI "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c"
#define CAJAL_AVX512_BF16 "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c"
#define CAJAL_AMX "amx-tile,amx-int8,amx-bf16,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,avx2,fma,f16c"
