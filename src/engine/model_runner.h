#pragma once
// Runs steps: takes rows of tokens, fills the smallest bucket that holds them, launches it, gives logits back.
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "engine/executor.h"
#include "engine/model.h"

namespace cajal {

struct RunnerLimits {
  std::int64_t max_num_seqs = 1;              // in one step
  std::int64_t max_num_batched_tokens = 512;  // rows of one step
  std::int64_t max_num_logits = 1;            // rows of one step that outputs are wanted of
  std::int64_t max_model_len = 1;             // tokens of a sequence
  std::int64_t num_kv_blocks = 2;             // the spare one included
  Qwen3Outputs outputs = {};                  // what steps give
  bool choose_on_device = true;               // tokens, where the device can
};

// Where the model is on several ranks, so is the runner: what is done with rank 0's is done on all of them.
class ModelRunner final : public Executor {
 public:
  ModelRunner(const Model& model, const RunnerLimits& limits);

  const RunnerLimits& limits() const { return limits_; }
  std::int64_t vocab_size() const override { return model_.config().vocab_size; }
  std::int64_t hidden_size() const { return model_.config().hidden_size; }

  // Computes one step and waits for it.
  void run(const StepInput& input);
  void launch(const StepInput& input) override;
  [[nodiscard]] bool wait(std::chrono::nanoseconds at_most) override;
  void read_logits(std::int64_t i, std::span<float> into) const override;
  const RowChoice* choice(std::int64_t i) const override;
  // The same of last_hidden_state, into [hidden_size]; only of a runner that was made for it.
  void read_last_hidden_state(std::int64_t i, std::span<float> into) const;
  // The experts that row `row` chose in the `mixture`-th layer that has some; only of a runner that was made for it.
  std::span<const std::int32_t> chosen_experts(std::int64_t mixture, std::int64_t row) const;

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
  void allocate_states();
  void make_executable(const Bucket& bucket);
  void bind(Executable& executable);
  static bool tell_sampling(Executable& executable, std::span<const RowSampling> rows);
  void launch_here(Executable& executable, const StepInput& input);
  void copy_blocks(std::span<const BlockCopy> copies);
  void read_row(std::size_t output, std::int64_t i, std::span<float> into) const;

  const Model& model_;
  RunnerLimits limits_;
  std::vector<std::int64_t> bucket_sizes_;
  bool rope_depends_on_length_ = false;
  std::map<std::int64_t, std::unique_ptr<Executable>> executables_;  // by num_tokens
  std::map<std::string, std::unique_ptr<Buffer>> states_;
  std::unique_ptr<Buffer> arena_;
  std::uint64_t kv_cache_bytes_ = 0;
  Executable* last_ = nullptr;
  std::int64_t num_choices_ = 0;  // rows of the last step whose tokens were to be chosen
  Event launched_;
  RankObject on_all_ranks_;
};

// The numbers of token rows that buckets are made for: powers of two up to the limit, and the limit.
std::vector<std::int64_t> bucket_sizes(std::int64_t max_num_batched_tokens);
// The bucket of so many rows, one of bucket_sizes().
Bucket bucket_of(const RunnerLimits& limits, std::int64_t rows);

}  // namespace cajal
