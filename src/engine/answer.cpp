#include "engine/answer.h"

#include <algorithm>

#include "base/error.h"

namespace cajal {

Answer::Answer(const SequenceRequest& request, std::uint32_t sequence_index, const Tokenizer* tokenizer)
    : request_(request),
      sequence_index_(sequence_index),
      processor_(request.sampling, request.prompt),
      stop_(request.stop) {
  if (!request.constraints.empty()) allowed_.emplace(request.constraints, request.eos_token_ids);
  if (tokenizer) detokenizer_.emplace(*tokenizer, request.skip_special_tokens);
}

GeneratedToken Answer::choose(std::span<const float> logits, std::int64_t position, std::vector<float>& scratch) {
  const SamplingParams& sampling = request_.sampling;
  std::span<const float> processed = logits;
  if (allowed_ || !processor_.changes_nothing()) {
    scratch.assign(logits.begin(), logits.end());
    if (allowed_ && !allowed_->apply(scratch))
      fail(ErrorCode::unsupported, "the grammar of the answer lets no token come next");
    processor_.apply(scratch);
    processed = scratch;
  }
  const std::int32_t id = sampling.greedy() ? argmax(processed)
                                            : sample_gumbel(processed, sampling.seed, sequence_index_,
                                                            static_cast<std::uint64_t>(position));
  processor_.accept(id);
  if (allowed_) allowed_->accept(id);
  GeneratedToken token{.chosen = {id, 0.0}, .top = {}};
  if (request_.num_logprobs < 0) return token;
  const double lse = log_sum_exp(logits);
  token.chosen.logprob = static_cast<double>(logits[static_cast<std::size_t>(id)]) - lse;
  if (request_.num_logprobs > 0) token.top = top_logprobs(logits, lse, request_.num_logprobs);
  return token;
}

RowSampling device_sampling(const SequenceRequest& request, std::uint32_t sequence_index, std::int64_t position) {
  if (request.num_logprobs > kMostTopLogprobs || !request.constraints.empty()) return {};
  RowSampling row = device_sampling(request.sampling, sequence_index, position);
  row.num_logprobs = static_cast<std::int32_t>(request.num_logprobs);
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

void Answer::prepare(std::size_t vocab_size) {
  if (allowed_) allowed_->prepare(vocab_size);
}

std::int64_t Answer::count_valid(std::span<const std::int32_t> draft) const {
  return allowed_ ? allowed_->count_valid(draft) : std::ssize(draft);
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
