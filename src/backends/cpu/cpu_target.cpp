#include "backends/cpu/cpu_target.h"

#include "backends/cpu/isa.h"
#include "backends/cpu/kernels/attention.h"
#include "backends/cpu/kernels/linear.h"
#include "backends/cpu/program.h"
#include "compiler/passes.h"

namespace cajal::cpu {
namespace {

// Of "cpu-avx2"; null for what is no such name.
const IsaLevel* level_of_target(std::string_view name) {
  constexpr std::string_view kPrefix = "cpu-";
  return name.starts_with(kPrefix) ? find_isa_level(name.substr(kPrefix.size())) : nullptr;
}

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

bool is_cpu_target(std::string_view name) { return name == "cpu" || level_of_target(name); }

std::uint32_t isa_of_target(std::string_view name) {
  if (const IsaLevel* level = level_of_target(name)) return level->isa;
  CAJAL_CHECK(name == "cpu", name);
  return detect_isa();
}

std::unique_ptr<Target> make_cpu_target(std::uint32_t isa) { return std::make_unique<CpuTarget>(isa); }

}  // namespace cajal::cpu
