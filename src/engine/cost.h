#pragma once
// What a step must do at the least: the operations and bytes that no kernel can avoid, worked out from the graph itself.
// Measured times are judged by it: a step that takes its floor cannot be made faster on that machine.
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "graph/graph.h"

namespace cajal {

// The rows of one sequence in a step.
struct SequenceRows {
  std::int64_t before = 0;  // tokens whose keys and values are in the cache already
  std::int64_t rows = 1;    // tokens of this step, at positions before, before + 1, …
};

struct StepShape {
  std::vector<SequenceRows> sequences;
  std::int64_t num_logits = 0;  // rows of logits; with 0 of them the head is not run
  // What of the head's weight is read where tokens are chosen by less than all of it (Executable::choosing_bytes).
  std::optional<std::uint64_t> choosing_bytes = {};
  std::int64_t num_tokens() const;
};
StepShape uniform_step(std::int64_t num_seqs, SequenceRows each, std::int64_t logits_per_seq);

// Doubles, because the number of distinct experts is an expected one.
struct Cost {
  double linear_flops = 0;     // of matrix products, experts included; a multiply and an add are two operations
  double quantized_flops = 0;  // those of linear_flops whose weights are quantised
  double attention_flops = 0;  // of scores and sums over values, for the positions that each row sees
  double weight_bytes = 0;     // each weight once, as stored; embedding rows and experts only as far as they are needed
  double kv_read_bytes = 0;    // positions before this step that some row of it sees, each once
  double kv_written_bytes = 0;  // positions of this step
  double activation_bytes = 0;  // between ops, read and written; they fit caches, so they are not part of bytes()

  double flops() const { return linear_flops + attention_flops; }
  double bytes() const { return weight_bytes + kv_read_bytes + kv_written_bytes; }
  Cost& operator+=(const Cost& other);
};

// Of one step. The graph may be of any bucket, before or after a backend's passes: only the step's own rows count.
//
// An embedding needs as many rows of its table as there are tokens; if the head has the same table, nothing beyond it.
// With n tokens, an E-expert layer with k choices needs E * (1 - (1 - k / E)^n) experts: the expected number if each token
// chooses k of them at random, independently of the others. Norms, activations and rotations are counted as no operations.
Cost step_cost(const Graph& graph, const StepShape& step);

// The same by node, in the graph's order, for profiles. A weight that two nodes read counts for each of them, so the sum
// may be above step_cost's.
std::vector<Cost> node_costs(const Graph& graph, const StepShape& step);

// What a device does at best; 0: unknown, or the device has no instruction for it.
struct Ceilings {
  double read_bytes_per_s = 0;
  double f32_flops_per_s = 0, bf16_flops_per_s = 0, int8_ops_per_s = 0;
  // Of matrix products over elements of `dtype`. A device without an instruction for bf16 widens it to f32.
  double flops_per_s(DType dtype) const;
};
Ceilings max(const Ceilings& a, const Ceilings& b);  // of each the larger

// max(bytes / bandwidth, operations / peak of dtype); a ceiling of 0 sets no floor. Operations on quantised weights count
// at the peak of 8-bit integers, where that is higher.
double floor_seconds(const Cost& cost, const Ceilings& ceilings, DType dtype);

}  // namespace cajal
