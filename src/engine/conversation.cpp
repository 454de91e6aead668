#include "engine/conversation.h"

#include <algorithm>
#include <optional>
#include <string>

#include "base/checked.h"
#include "engine/answer.h"
#include "models/rope.h"

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

Conversation::Conversation(const Model& model, const Tokenizer* tokenizer, const ConversationOptions& options)
    : tokenizer_(tokenizer),
      chunk_size_(options.prefill_chunk_size),
      reusable_(!keys_depend_on_length(model.config())),
      runner_(model, limits_of(model, options)),
      kv_({.num_blocks = runner_.limits().num_kv_blocks,
           .max_blocks_per_seq = ceil_div(runner_.limits().max_model_len, kKvBlockSize),
           .enable_prefix_caching = false}),
      logits_(static_cast<std::size_t>(runner_.vocab_size())) {
  const bool reserved = kv_.add(kSequence, {}) && kv_.reserve(kSequence, 0, runner_.limits().max_model_len);
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
    const bool completes = length_of(ids) - length_of(cached_) <= chunk_size_;
    step_.sampling.assign(completes ? 1 : 0, device_sampling(request, request.sequence_index, length_of(ids)));
    compute(ids, prompt_length);
    if (length_of(cached_) < length_of(ids)) continue;
    const RowChoice* const choice = runner_.choice(0);
    if (!choice) runner_.read_logits(0, logits_);
    if (choice ? choice->status == ChoiceStatus::not_finite : !all_finite(logits_))
      return end(FinishReason::numerical_error);

    result.tokens.push_back(choice ? Answer::take(*choice, request.num_logprobs)
                                   : answer.choose(logits_, length_of(ids), processed_));
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
