#include "backends/cpu/cpu_target.h"

#include <array>

#include "backends/cpu/isa.h"
#include "backends/cpu/kernels/attention.h"
#include "backends/cpu/kernels/linear.h"
#include "backends/cpu/program.h"
#include "compiler/passes.h"

namespace cajal::cpu {
namespace {

struct NamedIsa {
  std::string_view name;
  std::uint32_t isa;
};
constexpr std::array<NamedIsa, 6> kTargets = {{{"cpu-baseline", kBaseline},
                                               {"cpu-avx2", kAvx2},
                                               {"cpu-avx512", kAvx2 | kAvx512},
                                               {"cpu-avx512_vnni", kAvx2 | kAvx512 | kAvx512Vnni},
                                               {"cpu-avx512_bf16", kAvx2 | kAvx512 | kAvx512Vnni | kAvx512Bf16},
                                               {"cpu-amx", kAvx2 | kAvx512 | kAvx512Vnni | kAvx512Bf16 | kAmx}}};

class CpuTarget final : public Target {
 public:
  explicit CpuTarget(std::uint32_t isa) : isa_(isa) {}

  std::string name() const override { return "cpu-" + isa_name(isa_); }

  Graph prepare(const Graph& graph) const override {
    StoragePolicy policy;
    policy.linear_weight = [this](const TensorType& t) -> Storage {
      if (t.lossless()) return check_lossless_weights(isa_), t.storage;
      return t.quantized() ? quantized_weight_storage(*t.quantized()) : linear_weight_storage(t.dtype, isa_);
    };
    policy.k_cache = [this](const TensorType& t) { return cache_storage(t).k; };
    policy.v_cache = [this](const TensorType& t) { return cache_storage(t).v; };
    constexpr std::string_view kKinds[] = {kAddRmsNorm, kSiluMulHalves, kQkNormRopeKvWrite};
    return eliminate_dead_code(fuse_regions(assign_storage(fuse_projections(graph), policy), kKinds));
  }

  TargetPlan plan(const Graph& prepared, int num_threads) const override {
    TargetPlan made{inline_regions(prepared, has_region_kernel), {}, {}};
    Selection selection = select_kernels(made.graph, isa_, num_threads);
    made.kernel_names = std::move(selection.kernel_names);
    made.memory = plan_memory(made.graph, sequential_schedule(made.graph), selection.scratch_bytes);
    return made;
  }

 private:
  KvStorage cache_storage(const TensorType& t) const {
    const std::int64_t head_dim = t.shape[3];
    return t.quantized() ? quantized_kv_cache_storage(*t.quantized(), head_dim, isa_)
                         : kv_cache_storage(t.dtype, head_dim, isa_);
  }

  std::uint32_t isa_;
};

}  // namespace

bool is_cpu_target(std::string_view name) {
  if (name == "cpu") return true;
  for (const NamedIsa& target : kTargets)
    if (target.name == name) return true;
  return false;
}

std::uint32_t isa_of_target(std::string_view name) {
  for (const NamedIsa& target : kTargets)
    if (target.name == name) return target.isa;
  CAJAL_CHECK(name == "cpu", name);
  return detect_isa();
}

std::unique_ptr<Target> make_cpu_target(std::uint32_t isa) { return std::make_unique<CpuTarget>(isa); }

}  // namespace cajal::cpu
