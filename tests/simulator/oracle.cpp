#include "simulator/oracle.h"

#include <algorithm>
#include <limits>

#include "simulator/every_other_token.h"

namespace cajal::simulator {

Oracle::Oracle(const FakeModel& model, const SequenceRequest& request, std::uint32_t sequence_index,
               std::int64_t max_model_len, std::span<const std::int32_t> output)
    : model_(model),
      request_(request),
      sequence_index_(sequence_index),
      max_model_len_(max_model_len),
      length_(static_cast<std::int64_t>(request.prompt.size() + output.size())),
      num_generated_(static_cast<std::int64_t>(output.size())),
      state_(model.root()),
      processor_(request.sampling, request.prompt),
      logits_(static_cast<std::size_t>(model.behaviour().vocab_size)) {
  for (const std::int32_t token : request.prompt) state_ = model_.next(state_, token);
  for (const std::int32_t token : output) {
    state_ = model_.next(state_, token);
    processor_.accept(token);
  }
}

// As the request's constraints say it, by the place of the token alone.
void Oracle::constrain() {
  const TokenConstraints& c = request_.constraints;
  for (const auto& [token, bias] : c.logit_bias) processed_[static_cast<std::size_t>(token)] += bias;
  const auto forbid = [&](std::int32_t token) {
    processed_[static_cast<std::size_t>(token)] = -std::numeric_limits<float>::infinity();
  };
  for (std::int32_t token = 0; token < model_.behaviour().vocab_size; ++token)
    if (c.grammar && !EveryOtherToken::allows(num_generated_, token)) forbid(token);
  if (num_generated_ < c.min_tokens)
    for (const std::int32_t token : request_.eos_token_ids) forbid(token);
}

GeneratedToken Oracle::choose() {
  processed_ = logits_;
  constrain();
  processor_.apply(processed_);
  const SamplingParams& sampling = request_.sampling;
  const std::int32_t id = sampling.greedy() ? argmax(processed_)
                                            : sample_gumbel(processed_, sampling.seed, sequence_index_,
                                                            static_cast<std::uint64_t>(length_));
  processor_.accept(id);
  GeneratedToken token{.chosen = {id, 0.0}, .top = {}};
  if (request_.num_logprobs < 0) return token;
  const double lse = log_sum_exp(logits_);
  token.chosen.logprob = static_cast<double>(logits_[static_cast<std::size_t>(id)]) - lse;
  if (request_.num_logprobs > 0) token.top = top_logprobs(logits_, lse, request_.num_logprobs);
  return token;
}

Oracle::Next Oracle::next() {
  const auto full = [&] { return num_generated_ >= request_.max_new_tokens || length_ >= max_model_len_; };
  if (full()) return {std::nullopt, FinishReason::length};
  model_.logits(state_, logits_);
  if (!all_finite(logits_)) return {std::nullopt, FinishReason::numerical_error};
  Next result{choose(), std::nullopt};
  const std::int32_t id = result.token->chosen.token_id;
  state_ = model_.next(state_, id);
  ++length_;
  ++num_generated_;
  const auto& eos = request_.eos_token_ids;
  if (std::find(eos.begin(), eos.end(), id) != eos.end())
    result.finish_reason = FinishReason::stop;
  else if (full())
    result.finish_reason = FinishReason::length;
  return result;
}

}  // namespace cajal::simulator
