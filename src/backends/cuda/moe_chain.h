#pragma once
// Finds what follows attention in layers with experts, where few rows run, for moe_chain to do in one launch.
#include <optional>
#include <vector>

#include "backends/cuda/kernels/moe_chain.h"
#include "backends/cuda/program.h"

namespace cajal::cuda {

struct MoeChain {
  Value attention, x, o, norm, router, gate_up, down, sum;
  std::optional<Value> next_norm, qkv, qkv_out;  // where a layer follows
  std::optional<Value> weights, ids;             // where somebody else wants them
  std::vector<std::uint32_t> nodes;              // all that the launch does, ascending
  std::uint32_t experts = 0;                     // the one of them that does most
  MoeChainArgs args{};                           // sizes alone
};

// In the order in which they run.
class MoeChains {
 public:
  MoeChains() = default;
  explicit MoeChains(const Graph& graph);

  bool empty() const { return chains_.empty(); }
  const MoeChain* of(std::uint32_t node) const;  // or null
  // The launch of a chain, whose memory all chains of a graph share.
  std::function<void(cudaStream_t)> launch(const MoeChain& chain, const Places& places);

 private:
  std::vector<MoeChain> chains_;
  std::byte* exchange_ = nullptr;
};

}  // namespace cajal::cuda
