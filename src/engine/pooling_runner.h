#pragma once
// Reads many texts through a model once each, several in a step and long ones in pieces, for what is made of rows rather than
// of new tokens: embeddings, rerankers.
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/model_runner.h"

namespace cajal {

struct PoolingOptions {
  std::int64_t max_num_seqs = 64;             // texts of one step
  std::int64_t max_num_batched_tokens = 512;  // rows of one step
  // Asked before each step; what it throws leaves the run.
  std::function<void()> before_step = {};
};

// Blocks of a cache that steps of these limits never run out of, the spare one included.
std::int64_t num_pooling_blocks(const RunnerLimits& limits);

// Which rows of a text are wanted.
enum class WantedRows { last, first, all };

class PoolingRunner {
 public:
  // One row of a text, `row` being its number among the step's, for ModelRunner::read_*.
  struct Row {
    std::size_t text = 0;
    std::int64_t position = 0;
    bool is_last = false;  // of the wanted ones of its text
    std::int64_t row = 0;
  };
  using OnRow = std::function<void(const Row&, const ModelRunner&)>;

  PoolingRunner(const Model& model, const Qwen3Outputs& outputs, PoolingOptions options)
      : model_(model), outputs_(outputs), options_(std::move(options)) {}

  // Takes memory for as many texts as a step has, and for the longest one, or for what the model was exported with if that
  // was for encoding; gives it back at the end. Every text has at
  // least one token. Rows come text by text in their order; what they hold depends on no other text.
  void run(std::span<const std::vector<std::int32_t>> texts, WantedRows wanted, const OnRow& on_row) const;

 private:
  RunnerLimits limits_for(std::span<const std::vector<std::int32_t>> texts, WantedRows wanted) const;

  const Model& model_;
  Qwen3Outputs outputs_;
  PoolingOptions options_;
};

}  // namespace cajal
