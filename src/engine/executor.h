#pragma once
// What runs steps for the engine: a model on a device, or anything that answers like one.
#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include "backends/sampling.h"

namespace cajal {

// One token of a step.
struct TokenRow {
  std::int32_t token_id = 0;
  std::int32_t position = 0;     // in its sequence
  std::int32_t seq_index = 0;    // of its sequence among those of the step
  std::int32_t slot = 0;         // where its key and value go
  std::int32_t rope_length = 0;  // the length that RoPE kinds with length-dependent frequencies go by
  bool wants_logits = false;
};

// Keys and values of a whole block, of all layers.
struct BlockCopy {
  std::int32_t from = 0, to = 0;
  bool operator==(const BlockCopy&) const = default;
};

struct StepInput {
  std::vector<BlockCopy> block_copies;  // done first, one after another
  std::vector<TokenRow> rows;
  std::vector<std::span<const std::int32_t>> block_tables;  // by seq_index
  // How tokens are to be chosen, for each row that wants logits, in the order of the rows; or empty: not by the executor.
  std::vector<RowSampling> sampling;
};

// Runs one step at a time.
class Executor {
 public:
  virtual ~Executor() = default;
  virtual std::int64_t vocab_size() const = 0;
  // Begins a step; the input may change as soon as this returns. Throws Error, and then the step did not run.
  virtual void launch(const StepInput& input) = 0;
  // Waits for the launched step; false if it takes longer. Throws Error if the step failed: what it would have written to
  // the cache is undefined then.
  [[nodiscard]] virtual bool wait(std::chrono::nanoseconds at_most) = 0;
  // Logits of the i-th row that wanted them, in the order of the rows, as f32 into [vocab_size]; between wait() and the
  // next launch().
  virtual void read_logits(std::int64_t i, std::span<float> into) const = 0;
  // The token of that row, if the executor has chosen it or found its logits not finite; null: read_logits() and choose.
  virtual const RowChoice* choice(std::int64_t /*i*/) const { return nullptr; }
};

}  // namespace cajal
