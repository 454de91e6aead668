#include "engine/answer.h"

#include <algorithm>
#include <cmath>

namespace cajal {

Answer::Answer(const SequenceRequest& request, std::uint32_t sequence_index, const Tokenizer* tokenizer)
    : request_(request),
      sequence_index_(sequence_index),
      processor_(request.sampling, request.prompt),
      stop_(request.stop) {
  if (tokenizer) detokenizer_.emplace(*tokenizer, true);
}

GeneratedToken Answer::choose(std::span<const float> logits, std::int64_t position, std::vector<float>& scratch) {
  const SamplingParams& sampling = request_.sampling;
  std::span<const float> processed = logits;
  if (!processor_.changes_nothing()) {
    scratch.assign(logits.begin(), logits.end());
    processor_.apply(scratch);
    processed = scratch;
  }
  const std::int32_t id = sampling.greedy() ? argmax(processed)
                                            : sample_gumbel(processed, sampling.seed, sequence_index_,
                                                            static_cast<std::uint64_t>(position));
  processor_.accept(id);
  GeneratedToken token{.chosen = {id, 0.0}, .top = {}};
  if (request_.num_logprobs < 0) return token;
  const double lse = log_sum_exp(logits);
  token.chosen.logprob = static_cast<double>(logits[static_cast<std::size_t>(id)]) - lse;
  if (request_.num_logprobs > 0) token.top = top_logprobs(logits, lse, request_.num_logprobs);
  return token;
}

RowSampling device_sampling(const SequenceRequest& request, std::uint32_t sequence_index, std::int64_t position) {
  const SamplingParams& p = request.sampling;
  RowSampling row;
  const bool penalties = p.repetition_penalty != 1 || p.presence_penalty != 0 || p.frequency_penalty != 0;
  if (penalties || request.num_logprobs > kMostTopLogprobs) return row;
  row.num_logprobs = static_cast<std::int32_t>(request.num_logprobs);
  if (p.greedy()) {
    row.how = ChooseHow::greedy;
    return row;
  }
  // Far from 1, logits that differ may become equal, or infinite.
  constexpr float kLeastTemperature = 1e-3f, kMostTemperature = 1e3f;
  constexpr std::int64_t kMostTopK = 1024;  // more are candidates that a device does not keep
  if (p.temperature < kLeastTemperature || p.temperature > kMostTemperature || p.top_k > kMostTopK) return row;
  row.how = ChooseHow::draw;
  row.temperature = p.temperature;
  row.top_k = static_cast<std::int32_t>(p.top_k);
  row.top_p = static_cast<double>(p.top_p);
  if (p.min_p > 0) row.log_min_p = std::log(static_cast<double>(p.min_p));
  row.key = {p.seed, static_cast<std::uint64_t>(position), sequence_index};
  return row;
}

GeneratedToken Answer::take(const RowChoice& choice, std::int64_t num_logprobs) {
  GeneratedToken token{.chosen = {choice.token_id, 0.0}, .top = {}};
  if (num_logprobs < 0) return token;
  const double lse = log_sum_exp(choice.largest, choice.sum_of_weights);
  token.chosen.logprob = static_cast<double>(choice.logit) - lse;
  for (std::int32_t i = 0; i < choice.num_top && num_logprobs > 0; ++i)
    token.top.push_back({choice.top_ids[i], static_cast<double>(choice.top_logits[i]) - lse});
  return token;
}

bool Answer::is_ending_token(std::int32_t id) const {
  const auto& eos = request_.eos_token_ids;
  return std::find(eos.begin(), eos.end(), id) != eos.end();
}

std::string Answer::accept(std::int32_t id, bool full) {
  const bool ended = is_ending_token(id);
  std::string text;
  if (detokenizer_ && !ended) text = stop_.push(detokenizer_->push(id));
  if (ended || full) text += flush();
  if (ended || stop_.stopped())
    finish_reason_ = FinishReason::stop;
  else if (full)
    finish_reason_ = FinishReason::length;
  return text;
}

std::string Answer::flush() {
  if (!detokenizer_ || stop_.stopped()) return {};
  std::string text = stop_.push(detokenizer_->flush());
  return text + stop_.flush();
}

}  // namespace cajal
