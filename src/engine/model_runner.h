#pragma once
// Runs steps: takes rows of tokens, fills the smallest bucket that holds them, launches it, gives logits back.
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "engine/model.h"

namespace cajal {

struct RunnerLimits {
  std::int64_t max_num_seqs = 1;              // in one step
  std::int64_t max_num_batched_tokens = 512;  // rows of one step
  std::int64_t max_num_logits = 1;            // rows of logits of one step
  std::int64_t max_model_len = 1;             // tokens of a sequence
  std::int64_t num_kv_blocks = 2;             // the spare one included
};

// One token of a step.
struct TokenRow {
  std::int32_t token_id = 0;
  std::int32_t position = 0;     // in its sequence
  std::int32_t seq_index = 0;    // of its sequence among those of the step
  std::int32_t slot = 0;         // where its key and value go
  std::int32_t rope_length = 0;  // the length that RoPE kinds with length-dependent frequencies go by
  bool wants_logits = false;
};

struct StepInput {
  std::vector<TokenRow> rows;
  std::vector<std::span<const std::int32_t>> block_tables;  // by seq_index
};

class ModelRunner {
 public:
  ModelRunner(const Model& model, const RunnerLimits& limits);

  const RunnerLimits& limits() const { return limits_; }
  std::int64_t vocab_size() const { return model_.config().vocab_size; }

  // Computes one step and waits for it.
  void run(const StepInput& input);
  // Logits of the i-th row that wanted them, in the order of the rows, widened to f32, into [vocab_size].
  void read_logits(std::int64_t i, std::span<float> into) const;

  // Makes the buckets of these numbers of rows ready now, so that no later step has to.
  void warm_up(std::span<const std::int64_t> rows);
  // The executable that steps of so many rows run, made now if need be; for profiles.
  Executable& executable(std::int64_t rows);

  std::uint64_t kv_cache_bytes() const { return kv_cache_bytes_; }
  std::uint64_t arena_bytes() const {
    return arena_ ? arena_->bytes() : 0;
  }  // activations of the largest bucket used so far

 private:
  Bucket bucket(std::int64_t rows) const;
  void allocate_states(const Graph& graph);
  void bind(Executable& executable);

  const Model& model_;
  RunnerLimits limits_;
  std::vector<std::int64_t> bucket_sizes_;
  bool rope_depends_on_length_ = false;
  std::map<std::int64_t, std::unique_ptr<Executable>> executables_;  // by num_tokens
  std::map<std::string, std::unique_ptr<Buffer>> states_;
  std::unique_ptr<Buffer> arena_;
  std::uint64_t kv_cache_bytes_ = 0;
  Executable* last_ = nullptr;
};

// The numbers of token rows that buckets are made for: powers of two up to the limit, and the limit.
std::vector<std::int64_t> bucket_sizes(std::int64_t max_num_batched_tokens);

}  // namespace cajal
