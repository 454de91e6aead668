#pragma once
// Finds, in a graph of at most 16 rows, the chain of nodes from the first norm to the logits that decode_persistent runs in one
// launch.
#include <optional>
#include <vector>

#include "backends/cuda/kernels/persistent.h"
#include "backends/cuda/program.h"

namespace cajal::cuda {

struct DecodeChain {
  // Inputs of the chain, in the order of DecodeLayer and DecodeArgs. Biases may be missing.
  struct Layer {
    Value input_norm, qkv, q_norm, k_norm, o, post_norm, gate_up, down, k_cache, v_cache;
    std::optional<Value> qkv_bias, o_bias;
  };
  std::vector<Layer> layers;
  Value x, table, final_norm, head, slot_mapping, block_tables, seq_indices, positions, logits_indices, logits;
  std::vector<std::uint32_t> nodes;  // all that the launch does, ascending; the last one makes the logits
  DecodeArgs args{};                 // sizes alone

  bool has(std::uint32_t node) const;
};

// Nothing where the graph is not of this kind, or has sizes that the kernel does not take.
std::optional<DecodeChain> find_decode_chain(const Graph& graph);

// The launch, with its memory filled in.
std::function<void(cudaStream_t)> decode_launch(const DecodeChain& chain, const Places& places);

}  // namespace cajal::cuda
