#include "backends/target.h"

#include <charconv>

#include "backends/backend.h"
#include "backends/cpu/cpu_target.h"
#ifdef CAJAL_CUDA
#include "backends/cuda/cuda_target.h"
#endif

namespace cajal {
namespace {

constexpr int kMostSm = 999;

[[noreturn]] void fail_unknown(std::string_view name) {
  fail(ErrorCode::invalid_argument, "target '", name, "' is unknown",
       remedy("use cpu, cpu-baseline, cpu-avx2, cpu-avx512, cpu-avx512_vnni, cpu-avx512_bf16, cpu-amx, or sm_80 and "
              "later such "
              "as sm_90"));
}

}  // namespace

std::optional<int> sm_of_target(std::string_view name) {
  if (!name.starts_with("sm_")) return std::nullopt;
  name.remove_prefix(3);
  int sm = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), sm);
  if (error != std::errc() || end != name.data() + name.size() || sm < kLeastSm || sm > kMostSm) return std::nullopt;
  return sm;
}

std::unique_ptr<Target> make_target(std::string_view name) {
  if (device_of_target(name) == "cpu") return cpu::make_cpu_target(cpu::isa_of_target(name));
#ifdef CAJAL_CUDA
  return cuda::make_cuda_target(*sm_of_target(name));
#else
  fail(ErrorCode::unsupported, "target '", name, "': ", why_no_cuda(),
       remedy("build with CUDA=1, which needs no GPU, or use a cpu target"));
#endif
}

std::string_view device_of_target(std::string_view target) {
  if (cpu::is_cpu_target(target)) return "cpu";
  if (sm_of_target(target)) return "cuda";
  fail_unknown(target);
}

void fail_other_target(std::string_view made_for, std::string_view here) {
  fail(ErrorCode::unsupported, "The model was compiled for ", made_for, " but the current device is ", here,
       ". Please use a compatible device.", remedy("run it there, or export it again with --target ", here));
}

}  // namespace cajal
