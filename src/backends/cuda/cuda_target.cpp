#include "backends/cuda/cuda_target.h"

#include "backends/cuda/kernel_regions.h"
#include "backends/cuda/kernels/linear.h"
#include "backends/cuda/program.h"
#include "compiler/passes.h"

namespace cajal::cuda {
namespace {

// Weights of so many outputs are work enough for all multiprocessors; where sums in parts wait for each other, long prompts
// lose half of the matrix units' speed.
constexpr std::int64_t kEnoughOutputs = 2048;

class CudaTarget final : public Target {
 public:
  explicit CudaTarget(int sm) : sm_(sm) {}

  std::string name() const override { return detail::join("sm_", sm_); }

  Graph prepare(const Graph& built) const override {
    const Graph graph = merge_sum_parts(built, kEnoughOutputs);
    StoragePolicy policy;
    policy.linear_weight = [](const TensorType& t) -> Storage {
      if (t.dtype == DType::bf16) return Packed{kWeightTile, kWeightTile};
      return Plain{};
    };
    policy.k_cache = policy.v_cache = [](const TensorType&) -> Storage { return Plain{}; };
    constexpr std::string_view kKinds[] = {kAddRmsNorm, kSiluMulHalves, kQkNormRopeKvWrite};
    return eliminate_dead_code(fuse_regions(assign_storage(fuse_projections(graph), policy), kKinds));
  }

  // Choosing kernels asks no device: what they need of one is its compute capability.
  TargetPlan plan(const Graph& prepared, int /*num_threads*/) const override {
    TargetPlan made{with_kernel_regions(prepared, sm_), {}, {}};
    Selection selection = select_kernels(made.graph, {.sm = sm_});
    made.kernel_names = std::move(selection.kernel_names);
    made.memory =
        plan_memory(made.graph, sequential_schedule(made.graph), selection.scratch_bytes, selection.late_reads);
    return made;
  }

 private:
  int sm_;
};

}  // namespace

std::unique_ptr<Target> make_cuda_target(int sm) { return std::make_unique<CudaTarget>(sm); }

}  // namespace cajal::cuda
