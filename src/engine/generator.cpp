#include "engine/generator.h"

#include <algorithm>
#include <optional>

#include "base/checked.h"
#include "engine/answer.h"

namespace cajal {

void check_token_ids(std::span<const std::int32_t> ids, std::int64_t vocab_size, std::int64_t max_model_len) {
  if (ids.empty()) fail(ErrorCode::invalid_argument, "the prompt has no tokens", remedy("give at least one"));
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || ids[i] >= vocab_size)
      fail(ErrorCode::invalid_argument, "token id ", ids[i], " at index ", i,
           " is outside the vocabulary, expected 0..", vocab_size - 1);
  if (static_cast<std::int64_t>(ids.size()) > max_model_len)
    fail(ErrorCode::invalid_argument, "the prompt has ", ids.size(), " tokens, and the model takes at most ",
         max_model_len, remedy("shorten it, or raise --max-model-len if the model allows it"));
}

// A sequence that has been admitted: how far it is, and what turns its logits into text.
struct Generator::Running {
  Running(const SequenceRequest& r, std::size_t i, const Tokenizer* tokenizer)
      : request(r), index(i), answer(r, tokenizer) {}
  const SequenceRequest& request;
  std::size_t index;          // among the requests
  std::int64_t computed = 0;  // tokens whose keys and values are in the cache
  std::vector<std::int32_t> output;
  Answer answer;
  bool finished = false;

  std::int64_t prompt_length() const { return static_cast<std::int64_t>(request.prompt.size()); }
  std::int64_t length() const { return prompt_length() + static_cast<std::int64_t>(output.size()); }
  std::int32_t token(std::int64_t position) const {
    const auto p = static_cast<std::size_t>(position);
    return p < request.prompt.size() ? request.prompt[p] : output[p - request.prompt.size()];
  }
};

namespace {

std::int64_t blocks_for(std::int64_t tokens) { return ceil_div(tokens, kKvBlockSize); }

RunnerLimits limits_of(const Model& model, const GeneratorOptions& o) {
  RunnerLimits limits;
  limits.max_num_seqs = o.max_num_seqs;
  limits.max_num_batched_tokens = std::max(o.prefill_chunk_size, o.max_num_seqs);
  limits.max_num_logits = o.max_num_seqs;
  limits.max_model_len = o.max_model_len ? o.max_model_len : default_max_model_len(model.config());
  const std::int64_t all = o.max_num_seqs * blocks_for(limits.max_model_len);
  limits.num_kv_blocks = 1 + (o.max_num_kv_blocks ? std::min(all, o.max_num_kv_blocks) : all);
  return limits;
}

// Ends a sequence without a token.
template <class Running>
void end(Running& s, FinishReason reason, SequenceResult& result, const RunHooks& hooks) {
  s.finished = true;
  result.finish_reason = reason;
  if (hooks.on_progress) hooks.on_progress({s.index, nullptr, {}, reason});
}

}  // namespace

Generator::Generator(const Model& model, const Tokenizer* tokenizer, const GeneratorOptions& options)
    : model_(model),
      tokenizer_(tokenizer),
      options_(options),
      runner_(model, limits_of(model, options)),
      kv_({.num_blocks = runner_.limits().num_kv_blocks,
           .max_blocks_per_seq = blocks_for(runner_.limits().max_model_len),
           .enable_prefix_caching = false}),
      logits_(static_cast<std::size_t>(runner_.vocab_size())) {}

Generator::~Generator() = default;

bool Generator::admit(const SequenceRequest& request, std::size_t index) {
  if (static_cast<std::int64_t>(running_.size()) >= options_.max_num_seqs) return false;
  const std::int64_t longest = std::min(static_cast<std::int64_t>(request.prompt.size()) + request.max_new_tokens,
                                        runner_.limits().max_model_len);
  // The last token of all is never written, but room for it costs nothing to reason about.
  if (!kv_.add(index, {}) || !kv_.reserve(index, 0, longest)) {
    kv_.release(index);
    if (running_.empty())
      fail(ErrorCode::out_of_memory, "a sequence of ", longest, " tokens needs ", blocks_for(longest),
           " KV blocks, and the pool has ", kv_.num_available_blocks(), remedy("ask for fewer tokens"));
    return false;
  }
  running_.push_back(std::make_unique<Running>(request, index, tokenizer_));
  return true;
}

// Sequences that generate first, a row each; then prompts, oldest first, as far as the step's rows last.
void Generator::compose_step() {
  step_.rows.clear();
  step_.block_tables.clear();
  wanting_.clear();
  std::int64_t budget = runner_.limits().max_num_batched_tokens;
  for (const bool prefill : {false, true})
    for (auto& s : running_) {
      const std::int64_t left = s->length() - s->computed;
      if ((left > 1 || s->computed == 0) != prefill || budget == 0) continue;
      const std::int64_t count = std::min({left, budget, options_.prefill_chunk_size});
      const auto seq_index = static_cast<std::int32_t>(step_.block_tables.size());
      step_.block_tables.push_back(kv_.block_table(s->index));
      for (std::int64_t p = s->computed; p < s->computed + count; ++p) {
        // A prompt's tokens go by the length of the prompt, a generated one by how long the sequence was with it: what
        // Hugging Face's generate does, whatever the chunks are.
        const std::int64_t rope_length = p < s->prompt_length() ? s->prompt_length() : p + 1;
        step_.rows.push_back({s->token(p), static_cast<std::int32_t>(p), seq_index, kv_.slot(s->index, p),
                              static_cast<std::int32_t>(rope_length), p + 1 == s->length()});
      }
      s->computed += count;
      budget -= count;
      if (s->computed == s->length()) wanting_.push_back(s.get());
    }
}

void Generator::take_token(Running& s, SequenceResult& result, const RunHooks& hooks) {
  if (!all_finite(logits_)) {  // no token can be trusted
    end(s, FinishReason::numerical_error, result, hooks);
    return;
  }
  result.tokens.push_back(s.answer.choose(logits_, s.length(), processed_));
  const std::int32_t id = result.tokens.back().chosen.token_id;
  s.output.push_back(id);
  const bool full = static_cast<std::int64_t>(s.output.size()) >= s.request.max_new_tokens ||
                    s.length() >= runner_.limits().max_model_len;
  const std::string text = s.answer.accept(id, full);
  s.finished = s.answer.finish_reason().has_value();
  if (s.finished) result.finish_reason = *s.answer.finish_reason();
  result.text += text;
  if (!hooks.on_progress) return;
  hooks.on_progress(
      {s.index, &result.tokens.back(), text, s.finished ? std::optional(result.finish_reason) : std::nullopt});
}

void Generator::take_logits(std::vector<SequenceResult>& results, const RunHooks& hooks) {
  for (std::size_t i = 0; i < wanting_.size(); ++i) {
    Running& s = *wanting_[i];
    runner_.read_logits(static_cast<std::int64_t>(i), logits_);
    take_token(s, results[s.index], hooks);
    if (s.finished) kv_.release(s.index);
  }
}

void Generator::drop_unwanted(std::vector<SequenceResult>& results, const RunHooks& hooks) {
  if (!hooks.is_wanted) return;
  for (auto& s : running_) {
    if (hooks.is_wanted(s->index)) continue;
    kv_.release(s->index);
    end(*s, FinishReason::interrupted, results[s->index], hooks);
  }
  std::erase_if(running_, [](const auto& s) { return s->finished; });
}

std::vector<SequenceResult> Generator::run(std::span<const SequenceRequest> requests, const OnToken& on_token) {
  if (!on_token) return run(requests, RunHooks{});
  bool wanted = true;
  RunHooks hooks;
  hooks.on_progress = [&](const SequenceProgress& p) {
    if (wanted && p.token) wanted = on_token(p.sequence, p.token->chosen.token_id, p.text);
  };
  hooks.is_wanted = [&](std::size_t) { return wanted; };
  return run(requests, hooks);
}

std::vector<SequenceResult> Generator::run(std::span<const SequenceRequest> requests, const RunHooks& hooks) {
  for (const auto& r : requests) {
    check_token_ids(r.prompt, runner_.vocab_size(), runner_.limits().max_model_len);
    check_sampling_params(r.sampling);
  }
  std::vector<SequenceResult> results(requests.size());
  std::size_t next = 0;
  while (true) {
    drop_unwanted(results, hooks);
    while (next < requests.size()) {
      const SequenceRequest& r = requests[next];
      // Not wanted any more, nothing to generate, or no room for it: the sequence is over before it begins.
      const bool wanted = !hooks.is_wanted || hooks.is_wanted(next);
      const bool room =
          r.max_new_tokens > 0 && static_cast<std::int64_t>(r.prompt.size()) < runner_.limits().max_model_len;
      if (wanted && room && !admit(r, next)) break;
      if (!wanted) results[next].finish_reason = FinishReason::interrupted;
      if ((!wanted || !room) && hooks.on_progress) hooks.on_progress({next, nullptr, {}, results[next].finish_reason});
      ++next;
    }
    if (running_.empty()) return results;
    compose_step();
    runner_.run(step_);
    take_logits(results, hooks);
    std::erase_if(running_, [](const auto& s) { return s->finished; });
  }
}

}  // namespace cajal
