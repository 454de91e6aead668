#pragma once
// Answers of `generate` as people and programs read them.
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/request.h"

namespace cajal::cli {

// When the tokens of one request came.
class Stopwatch {
 public:
  using Clock = std::chrono::steady_clock;
  explicit Stopwatch(std::size_t num_sequences) : started_(num_sequences, false) {}

  void begin() { begin_ = Clock::now(); }
  void token(std::size_t sequence);
  std::int64_t tokens() const { return tokens_; }
  // {load_ms, ttft_ms, tpot_ms, prompt_tokens_per_s, completion_tokens_per_s}; what is not known is null.
  Json report(std::chrono::nanoseconds load_time, std::int64_t prompt_tokens) const;

 private:
  std::vector<bool> started_;
  std::int64_t tokens_ = 0;
  Clock::time_point begin_ = Clock::now(), first_ = begin_, all_started_ = begin_, last_ = begin_;
};

// A request and what came of it.
struct AnsweredRequest {
  std::vector<std::int32_t> prompt;
  std::uint64_t seed = 0;
  bool wants_logprobs = false;
  std::vector<SequenceResult> results;
  Stopwatch stopwatch{0};
};

// The object that `--json` prints. `has_text`: there is a tokenizer.
Json answer_json(const std::string& model, const AnsweredRequest& answer, bool has_text,
                 std::chrono::nanoseconds load_time);

// The plain form of one sequence: its text, or its ids where there is no tokenizer, with a newline at the end.
std::string plain_text(const SequenceResult& result, bool has_text);
// Of several: each under a line that says which it is, after `label`.
std::string plain_texts(std::span<const SequenceResult> results, bool has_text, const std::string& label = {});

}  // namespace cajal::cli
