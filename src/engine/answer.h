#pragma once
// What turns the logits of one sequence into tokens and text, whoever computes them.
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backends/sampling.h"
#include "engine/request.h"
#include "engine/sampler.h"
#include "engine/stop_strings.h"
#include "text/detokenizer.h"

namespace cajal {

// device_sampling() of a request, with its log-probabilities; on_host too if it wants more of them than devices give.
RowSampling device_sampling(const SequenceRequest& request, std::uint32_t sequence_index, std::int64_t position);

class Answer {
 public:
  // The request and the tokenizer must outlive this; without a tokenizer (null) there is no text. `sequence_index`
  // selects the random numbers, together with the request's seed.
  Answer(const SequenceRequest& request, std::uint32_t sequence_index, const Tokenizer* tokenizer);
  Answer(const SequenceRequest& request, const Tokenizer* tokenizer)
      : Answer(request, request.sequence_index, tokenizer) {}

  // The next token. `position` is that of the token in its sequence; `scratch` may be shared by all sequences. Throws
  // Error if the request's grammar lets none come.
  GeneratedToken choose(std::span<const float> logits, std::int64_t position, std::vector<float>& scratch);
  // The same from what an executor has chosen, as device_sampling() told it to.
  static GeneratedToken take(const RowChoice& choice, std::int64_t num_logprobs);
  bool is_ending_token(std::int32_t id) const;
  // What choose() will need beside the logits, made ahead of time, and how many guesses are worth computing.
  void prepare(std::size_t vocab_size);
  std::int64_t count_valid(std::span<const std::int32_t> draft) const;
  // The text that becomes certain with a token. `full`: no further token may come.
  std::string accept(std::int32_t id, bool full);
  // What was held back, when no more tokens come.
  std::string flush();

  std::optional<FinishReason> finish_reason() const { return finish_reason_; }  // once the answer has ended
  std::string_view stopped_by() const { return stop_.stopped_by(); }  // the stop string that has ended it, or ""

 private:
  const SequenceRequest& request_;
  std::uint32_t sequence_index_;
  LogitsProcessor processor_;
  std::optional<AllowedTokens> allowed_;  // if the request constrains them
  StopStrings stop_;
  std::optional<Detokenizer> detokenizer_;
  std::optional<FinishReason> finish_reason_;
};

}  // namespace cajal
