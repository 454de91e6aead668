#include "backends/cpu/isa.h"

#include <cstdlib>
#include <string_view>

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
  constexpr unsigned kNeeded =
      1u << 22 | 1u << 24 | 1u << 25;  // bf16, tile, int8; older compilers have no names for them
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kNeeded) != kNeeded) return false;
  constexpr long kRequestPermission = 0x1023,
                 kTileData = 18;  // ARCH_REQ_XCOMP_PERM of <asm/prctl.h>, from Linux 5.16 on
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

constexpr std::uint32_t kUpToAvx512Vnni = kAvx2 | kAvx512 | kAvx512Vnni,
                        kUpToAvx512Bf16 = kUpToAvx512Vnni | kAvx512Bf16;

std::uint32_t hardware_isa() {
  std::uint32_t isa = kBaseline;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && supports_f16c()) isa |= kAvx2;
  if (isa && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
    isa |= kAvx512;
  if ((isa & kAvx512) && __builtin_cpu_supports("avx512vnni")) isa |= kAvx512Vnni;
  if ((isa & kAvx512Vnni) && __builtin_cpu_supports("avx512bf16")) isa |= kAvx512Bf16;
#endif
  return isa;
}

}  // namespace

std::uint32_t detect_isa() {
  const std::uint32_t isa = hardware_isa();
  const auto with_amx = [isa] { return isa & kAvx512Bf16 && may_use_amx() ? isa | kAmx : isa; };
  const char* lowered = std::getenv("CAJAL_CPU_ISA");
  if (!lowered || !*lowered) return with_amx();
  const std::string_view name = lowered;
  if (name == "baseline") return kBaseline;
  if (name == "avx2") return isa & kAvx2;
  if (name == "avx512") return isa & (kAvx2 | kAvx512);
  if (name == "avx512_vnni") return isa & kUpToAvx512Vnni;
  if (name == "avx512_bf16") return isa & kUpToAvx512Bf16;
  if (name == "amx") return with_amx();
  fail(ErrorCode::invalid_argument, "CAJAL_CPU_ISA is '", name,
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
  if (isa & kAmx) return "amx";
  if (isa & kAvx512Bf16) return "avx512_bf16";
  if (isa & kAvx512Vnni) return "avx512_vnni";
  if (isa & kAvx512) return "avx512";
  if (isa & kAvx2) return "avx2";
  return "baseline";
}

}  // namespace cajal::cpu
