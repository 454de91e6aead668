#include "backends/cpu/isa.h"

#include <algorithm>
#include <cstdlib>

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

#include "base/error.h"

namespace cajal::cpu {
namespace {

#if defined(__x86_64__)
// Clang 14 cannot be asked for it by name.
bool supports_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

// Whether the processor has the tiles, and the system lets this process use them: threads that do have 8 KiB more to save.
bool may_use_amx() {
#if defined(__linux__)
  // bf16, tile, int8; older compilers have no names for them.
  constexpr unsigned kNeeded = 1u << 22 | 1u << 24 | 1u << 25;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kNeeded) != kNeeded) return false;
  // ARCH_REQ_XCOMP_PERM of <asm/prctl.h>, from Linux 5.16 on.
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

// AMD's family 19h is Zen 3, which has no AVX-512, and Zen 4.
bool is_zen4() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(0, &a, &b, &c, &d) || b != signature_AMD_ebx || !__get_cpuid(1, &a, &b, &c, &d)) return false;
  const unsigned family = (a >> 8 & 0xf) + (a >> 20 & 0xff);
  return family == 0x19 && __builtin_cpu_supports("avx512f");
}
#endif

// What the processor has of `most`.
std::uint32_t hardware_isa(std::uint32_t most) {
  std::uint32_t isa = kBaseline;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && supports_f16c()) isa |= kAvx2;
  if (isa && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
    isa |= kAvx512;
  if ((isa & kAvx512) && __builtin_cpu_supports("avx512vnni")) isa |= kAvx512Vnni;
  if ((isa & kAvx512Vnni) && __builtin_cpu_supports("avx512bf16")) isa |= kAvx512Bf16;
  if ((most & kAmx) && (isa & kAvx512Bf16) && may_use_amx()) isa |= kAmx;
#endif
  return isa & most;
}

}  // namespace

const IsaLevel* find_isa_level(std::string_view name) {
  const auto* const level =
      std::find_if(kIsaLevels.begin(), kIsaLevels.end(), [name](const IsaLevel& l) { return l.name == name; });
  return level == kIsaLevels.end() ? nullptr : level;
}

std::uint32_t detect_isa() {
  const char* lowered = std::getenv("CAJAL_CPU_ISA");
  if (!lowered || !*lowered) return hardware_isa(kIsaLevels.back().isa);
  if (const IsaLevel* level = find_isa_level(lowered)) return hardware_isa(level->isa);
  fail(ErrorCode::invalid_argument, "CAJAL_CPU_ISA is '", lowered,
       "', expected baseline, avx2, avx512, avx512_vnni, avx512_bf16 or amx");
}

bool follows_streams() {
#if defined(__x86_64__)
  static const bool follows = is_zen4();
  return follows;
#else
  return false;
#endif
}

std::string isa_name(std::uint32_t isa) {
  std::size_t i = kIsaLevels.size() - 1;
  while (i > 0 && !(isa & kIsaLevels[i].isa & ~kIsaLevels[i - 1].isa)) --i;
  return std::string(kIsaLevels[i].name);
}

}  // namespace cajal::cpu
