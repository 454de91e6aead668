#pragma once
// Finds, in a graph of at most 16 rows, what the kernel `chain` runs in one launch between two attentions.
#include <optional>
#include <vector>

#include "backends/cuda/kernels/chain.h"
#include "backends/cuda/program.h"

namespace cajal::cuda {

struct DecodeChain {
  struct Linear {
    std::uint32_t node;
    Value weight;
    std::optional<Value> bias;
    std::int32_t parts;
  };
  struct Layer {
    Value input_norm, qkv_result, attended, post_norm;
    Linear qkv, o, gate_up, down;
  };
  // A launch: the first has a norm and layer 0's q, k, v; launch l + 1 has layer l from o on and the next layer's q, k, v, or
  // the final norm and the head. Its nodes, ascending; it stands where the last one does.
  using Nodes = std::vector<std::uint32_t>;

  std::vector<Layer> layers;
  std::vector<Nodes> launches;
  Value x, final_norm, logits_indices, logits;
  Linear head;
  std::int32_t rows = 0, logits_rows = 0, hidden = 0, heads_columns = 0, qkv_columns = 0, intermediate = 0,
               vocabulary = 0;
  float epsilon = 0;

  std::optional<std::size_t> launch_of(std::uint32_t node) const;
  std::int64_t layer_bytes() const;  // of weights
};

// Nothing where the graph is not of this kind, or has sizes that the kernel does not take.
std::optional<DecodeChain> find_decode_chain(const Graph& graph);

// Whether its launches can leave that much of a multiprocessor's shared memory to what runs beside them.
bool leaves_room(const DecodeChain& chain, std::int32_t spare_bytes);
// All launches in order, with their memory filled in. They leave `spare_bytes` of a multiprocessor's shared memory to what runs
// beside them, if they can.
std::vector<Launch> chain_launches(const DecodeChain& chain, const Places& places, std::int32_t spare_bytes);

}  // namespace cajal::cuda
