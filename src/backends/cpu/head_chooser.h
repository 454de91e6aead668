#pragma once
// Chooses tokens where few logits matter: the largest one, or the k largest. A sketch of the head says of most tokens that
// theirs cannot be among them. Those of the others are computed as they always are, bit for bit, so that the token is the one
// that engine/sampler.h chooses of all logits.
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "backends/cpu/choose_shard.h"
#include "backends/cpu/head_sketch.h"
#include "backends/cpu/kernels/linear.h"
#include "base/thread_pool.h"

namespace cajal::cpu {

// The product that makes the logits, as it was bound.
struct HeadProduct {
  TensorType weight;
  const LinearKernel* kernel;
  LinearArgs args;
};

class HeadChooser {
 public:
  // For steps of at most `max_rows` rows of logits on `threads` threads. All memory but the sketch's is taken here.
  HeadChooser(std::shared_ptr<HeadSketch> sketch, const HeadProduct& head, std::int64_t max_rows, int threads);

  std::span<RowSampling> sampling() { return sampling_; }
  std::span<const RowChoice> choices() const { return choices_; }

  // Chooses for the step's rows of logits, as sampling() says, before they are computed. False if it takes all logits of some
  // row: then nothing is chosen. The sketch is made once some short steps could have used one, so that a first token does not
  // wait for it.
  bool choose(const StepRows& step, ThreadPool& pool);
  // What the next choice begins with reading, or the product if none is made.
  ThreadPool::Upcoming upcoming() const;
  void choose_nothing();  // what choices() says of a step that did not ask

  // Of the weight, for so many rows; nothing if all of it.
  std::optional<std::uint64_t> bytes_at_least(std::int64_t rows) const;
  std::int64_t tokens_computed() const { return std::ssize(units_) * unit_rows_; }  // by the last choice, at most

 private:
  bool wants_few_logits(std::int64_t rows) const;
  bool make_sketch(const StepRows& step, ThreadPool& pool);
  bool round_input(std::int64_t row);
  bool read_exact_input(std::int64_t row);
  float unit_of_group(std::size_t first, std::span<const float> exact) const;
  bool choose_among_few(std::int64_t rows, ThreadPool& pool);
  bool list_likeliest(std::int64_t row);
  bool list_possible(std::int64_t rows);
  bool list(std::int64_t unit);
  void compute_logits(std::size_t first, std::int64_t rows, ThreadPool& pool);
  void compute_run(std::size_t first, std::size_t last, std::int64_t rows, std::size_t thread);
  std::optional<float> threshold_of(std::int64_t row);
  RowChoice decide_row(std::int64_t row);

  std::int64_t num_units() const { return ceil_div(head_.args.out_features, unit_rows_); }
  std::int64_t tokens_in(std::int64_t unit) const;
  std::int64_t tiles_in_unit() const { return unit_rows_ / SketchLayout::kTileRows; }
  SketchBounds bounds_memory(std::int64_t row);
  std::span<const float> bounds_of(std::int64_t row) const;  // [tiles of the sketch]
  std::span<float> logits_of(std::size_t listed, std::int64_t row);

  std::shared_ptr<HeadSketch> sketch_;
  HeadProduct head_;
  // Tokens that are computed together, those of a tile of the head or of the sketch, and the bytes of their weights.
  std::int64_t unit_rows_, unit_bytes_;
  std::int64_t max_units_;             // that may be computed
  std::size_t scratch_bytes_;          // of one thread's kernel
  int steps_without_ = 0;              // for which there was no sketch
  int pause_ = 0;                      // steps until the sketch is tried again
  ThreadPool alone_{1};                // what kernels run on that are pieces themselves
  std::vector<RowSampling> sampling_;  // by row
  std::vector<RowChoice> choices_;
  std::vector<SketchInput> inputs_;  // by row
  std::vector<float> exact_;         // a row of activations as the kernel takes it
  std::vector<std::byte> rounded_;   // the same, in a RoundedRow
  std::vector<float> bounds_;
  std::vector<float> thresholds_;          // by row: no logit below it matters
  std::vector<std::int32_t> units_;        // whose logits are computed, the likeliest first
  std::size_t num_likeliest_ = 0;          // that set the thresholds
  std::vector<std::uint8_t> listed_;       // by unit
  std::vector<float> logits_;              // [units_, rows, unit_rows_]
  std::vector<std::byte> scratch_, runs_;  // by thread: the kernel's memory and its results
  std::vector<float> sorted_;
  std::vector<std::int32_t> likeliest_;  // tiles of the sketch
  std::vector<std::byte> packet_;
  std::vector<Candidate> candidates_;
};

}  // namespace cajal::cpu
