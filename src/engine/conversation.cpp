#include "engine/conversation.h"

#include <algorithm>
#include <optional>
#include <string>

#include "base/checked.h"
#include "engine/stop_strings.h"
#include "models/rope.h"
#include "text/detokenizer.h"

namespace cajal {
namespace {

constexpr KVCacheManager::SequenceId kSequence = 0;

RunnerLimits limits_of(const Model& model, const ConversationOptions& o) {
  RunnerLimits limits;
  limits.max_num_batched_tokens = o.prefill_chunk_size;
  limits.max_model_len = o.max_model_len ? o.max_model_len : default_max_model_len(model.config());
  limits.num_kv_blocks = 1 + ceil_div(limits.max_model_len, kKvBlockSize);
  return limits;
}

// Where the frequencies go by the length of the whole prompt, a longer one changes the keys of all its tokens.
bool keys_depend_on_length(const Qwen3Config& config) {
  return rotary_table(config.rope, config.head_dim, config.max_position_embeddings).original_length > 0;
}

std::int64_t length_of(std::span<const std::int32_t> ids) { return static_cast<std::int64_t>(ids.size()); }

}  // namespace

// What turns the logits of one answer into tokens and text.
class Conversation::Answer {
 public:
  Answer(const SequenceRequest& request, const Tokenizer* tokenizer)
      : request_(request), processor_(request.sampling, request.prompt), stop_(request.stop) {
    if (tokenizer) detokenizer_.emplace(*tokenizer, true);
  }

  // `position` is that of the token in its sequence.
  GeneratedToken choose(std::span<const float> logits, std::int64_t position) {
    processed_.assign(logits.begin(), logits.end());
    processor_.apply(processed_);
    const SamplingParams& sampling = request_.sampling;
    const std::int32_t id = sampling.greedy() ? argmax(processed_)
                                              : sample_gumbel(processed_, sampling.seed, request_.sequence_index,
                                                              static_cast<std::uint64_t>(position));
    processor_.accept(id);
    GeneratedToken token{.chosen = {id, 0.0}, .top = {}};
    if (request_.num_logprobs < 0) return token;
    const double lse = log_sum_exp(logits);
    token.chosen.logprob = static_cast<double>(logits[static_cast<std::size_t>(id)]) - lse;
    if (request_.num_logprobs > 0) token.top = top_logprobs(logits, lse, request_.num_logprobs);
    return token;
  }

  // The text that becomes certain with a token, and whether the answer ends with it.
  std::string accept(std::int32_t id, bool full) {
    const auto& eos = request_.eos_token_ids;
    const bool ended = std::find(eos.begin(), eos.end(), id) != eos.end();
    std::string text;
    if (detokenizer_ && !ended) text = stop_.push(detokenizer_->push(id));
    if (ended || full) text += flush();
    if (ended || stop_.stopped())
      finish_reason_ = FinishReason::stop;
    else if (full)
      finish_reason_ = FinishReason::length;
    return text;
  }

  // What was held back, when no more tokens come.
  std::string flush() {
    if (!detokenizer_ || stop_.stopped()) return {};
    std::string text = stop_.push(detokenizer_->flush());
    return text + stop_.flush();
  }

  std::optional<FinishReason> finish_reason() const { return finish_reason_; }

 private:
  const SequenceRequest& request_;
  LogitsProcessor processor_;
  StopStrings stop_;
  std::optional<Detokenizer> detokenizer_;
  std::optional<FinishReason> finish_reason_;
  std::vector<float> processed_;
};

Conversation::Conversation(const Model& model, const Tokenizer* tokenizer, const ConversationOptions& options)
    : tokenizer_(tokenizer),
      chunk_size_(options.prefill_chunk_size),
      reusable_(!keys_depend_on_length(model.config())),
      runner_(model, limits_of(model, options)),
      kv_(runner_.limits().num_kv_blocks, ceil_div(runner_.limits().max_model_len, kKvBlockSize)),
      logits_(static_cast<std::size_t>(runner_.vocab_size())) {
  const bool reserved = kv_.reserve(kSequence, runner_.limits().max_model_len);
  CAJAL_CHECK(reserved);
}

// The last token is computed in any case, for its logits.
void Conversation::keep_common_prefix(std::span<const std::int32_t> prompt) {
  const auto differ = std::mismatch(cached_.begin(), cached_.end(), prompt.begin(), prompt.end() - 1);
  cached_.erase(reusable_ ? differ.first : cached_.begin(), cached_.end());
  num_reused_ = length_of(cached_);
}

// One step of what the cache lacks of `ids`.
void Conversation::compute(std::span<const std::int32_t> ids, std::int64_t prompt_length) {
  const std::int64_t begin = length_of(cached_), end = std::min(begin + chunk_size_, length_of(ids));
  step_.rows.clear();
  step_.block_tables.assign(1, kv_.block_table(kSequence));
  for (std::int64_t p = begin; p < end; ++p) {
    const std::int64_t rope_length = p < prompt_length ? prompt_length : p + 1;  // as in a Generator
    step_.rows.push_back({ids[static_cast<std::size_t>(p)], static_cast<std::int32_t>(p), 0, kv_.slot(kSequence, p),
                          static_cast<std::int32_t>(rope_length), p + 1 == length_of(ids)});
  }
  runner_.run(step_);
  cached_.insert(cached_.end(), ids.begin() + begin, ids.begin() + end);
}

SequenceResult Conversation::generate(const SequenceRequest& request, const RunHooks& hooks) {
  check_token_ids(request.prompt, runner_.vocab_size(), max_model_len());
  check_sampling_params(request.sampling);
  Answer answer(request, tokenizer_);
  const std::int64_t prompt_length = length_of(request.prompt);
  std::vector<std::int32_t> ids = request.prompt;
  SequenceResult result;
  const auto end = [&](FinishReason reason) {
    const std::string text = answer.flush();
    result.text += text;
    result.finish_reason = reason;
    if (hooks.on_progress) hooks.on_progress({0, nullptr, text, reason});
    return result;
  };

  keep_common_prefix(request.prompt);
  if (request.max_new_tokens < 1 || prompt_length >= max_model_len()) return end(FinishReason::length);
  while (true) {
    if (hooks.is_wanted && !hooks.is_wanted(0)) return end(FinishReason::interrupted);
    compute(ids, prompt_length);
    if (length_of(cached_) < length_of(ids)) continue;
    runner_.read_logits(0, logits_);
    if (!all_finite(logits_)) return end(FinishReason::numerical_error);

    result.tokens.push_back(answer.choose(logits_, length_of(ids)));
    const std::int32_t id = result.tokens.back().chosen.token_id;
    ids.push_back(id);
    const bool full = length_of(ids) - prompt_length >= request.max_new_tokens || length_of(ids) >= max_model_len();
    const std::string text = answer.accept(id, full);
    result.text += text;
    if (hooks.on_progress) hooks.on_progress({0, &result.tokens.back(), text, answer.finish_reason()});
    if (!answer.finish_reason()) continue;
    result.finish_reason = *answer.finish_reason();
    return result;
  }
}

}  // namespace cajal
