#include "engine/speculation/assistant_drafter.h"

#include <algorithm>
#include <string>

#include "base/checked.h"
#include "text/tokenizer.h"

namespace cajal {
namespace {

void check_range(const char* name, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value < least || value > most)
    fail(ErrorCode::invalid_argument, name, " of the assistant is ", value, ", expected ", least, " to ", most);
}

std::int64_t blocks_for(std::int64_t tokens) { return ceil_div(tokens, kKvBlockSize); }

AssistantOptions checked_options(const Model& assistant, std::int64_t target_vocab_size, AssistantOptions o) {
  constexpr std::int64_t kMostGuesses = 256, kMost = std::int64_t{1} << 31;
  const std::int64_t vocab_size = assistant.config().vocab_size;
  if (vocab_size != target_vocab_size)
    fail(ErrorCode::invalid_argument, "the assistant ", assistant.name(), " has vocab_size ", vocab_size,
         ", and the model that it guesses for has ", target_vocab_size,
         remedy("take an assistant of the same family, or prompt lookup, which needs none"));
  check_range("num_assistant_tokens", o.num_assistant_tokens, 1, kMostGuesses);
  check_range("max_num_seqs", o.max_num_seqs, 1, kMost);
  check_range("prefill_chunk_size", o.prefill_chunk_size, 1, kMost);
  check_range("max_model_len", o.max_model_len, 0, kMost);
  check_range("max_num_kv_blocks", o.max_num_kv_blocks, 0, kMost);
  if (o.max_model_len == 0) o.max_model_len = default_max_model_len(assistant.config());
  const std::int64_t all = checked_mul(o.max_num_seqs, blocks_for(o.max_model_len), "KV blocks of the assistant");
  o.max_num_kv_blocks = o.max_num_kv_blocks ? std::min(o.max_num_kv_blocks, all) : all;
  return o;
}

RunnerLimits limits_of(const AssistantOptions& o) {
  RunnerLimits limits;
  limits.max_num_seqs = limits.max_num_logits = o.max_num_seqs;
  limits.max_num_batched_tokens = std::max(o.prefill_chunk_size, o.max_num_seqs);
  limits.max_model_len = o.max_model_len;
  limits.num_kv_blocks = 1 + o.max_num_kv_blocks;
  return limits;
}

KVCacheOptions cache_options(const AssistantOptions& o) {
  KVCacheOptions options;
  options.num_blocks = 1 + o.max_num_kv_blocks;
  options.max_blocks_per_seq = blocks_for(o.max_model_len);
  return options;
}

std::string describe(const Tokenizer& tokenizer, std::int32_t id) {
  return tokenizer.contains(id) ? detail::join('"', tokenizer.token(id), '"') : "none";
}

}  // namespace

void check_same_tokens(const Tokenizer& target, const Tokenizer& assistant) {
  for (std::int32_t id = 0; id < std::max(target.vocab_size(), assistant.vocab_size()); ++id) {
    if (target.contains(id) == assistant.contains(id) && target.token(id) == assistant.token(id) &&
        target.token_bytes(id) == assistant.token_bytes(id))
      continue;
    fail(ErrorCode::invalid_argument, "token ", id, " of the assistant is ", describe(assistant, id),
         ", and that of the model that it guesses for is ", describe(target, id),
         remedy("take an assistant with the same tokenizer, or prompt lookup, which needs none"));
  }
}

// A sequence while it is drafted.
struct AssistantDrafter::Drafting {
  const DraftContext& context;
  Draft& draft;
  Cached& cached;
  std::int64_t wanted;  // guesses
  LogitsProcessor processor;
  std::int64_t rows = 0;  // in this step

  std::int64_t num_guesses() const { return std::ssize(draft.tokens); }
  std::int64_t length() const { return std::ssize(context.tokens) + num_guesses(); }
  std::int32_t token(std::int64_t position) const {
    const auto p = static_cast<std::size_t>(position);
    return p < context.tokens.size() ? context.tokens[p] : draft.tokens[p - context.tokens.size()];
  }
  TokenRow row(std::int64_t p, std::int32_t seq_index, std::int32_t slot) const {
    // As the engine does it for the model itself: a prompt's tokens go by the prompt's length, others by their own.
    const std::int64_t rope_length = p < context.prompt_length ? context.prompt_length : p + 1;
    return {token(p), static_cast<std::int32_t>(p),           seq_index,
            slot,     static_cast<std::int32_t>(rope_length), p + 1 == length()};
  }
  // Chooses as Answer does for the model itself.
  void add_guess(std::span<float> logits) {
    processor.apply(logits);
    const SamplingParams& sampling = *context.sampling;
    add_guess(sampling.greedy()
                  ? argmax(logits)
                  : sample_gumbel(logits, sampling.seed, context.sequence_index, static_cast<std::uint64_t>(length())));
  }
  void add_guess(std::int32_t token) {
    processor.accept(token);
    draft.tokens.push_back(token);
  }
};

AssistantDrafter::AssistantDrafter(const Model& assistant, std::int64_t target_vocab_size,
                                   const AssistantOptions& options)
    : options_(checked_options(assistant, target_vocab_size, options)),
      runner_(assistant, limits_of(options_)),
      kv_(cache_options(options_)),
      logits_(static_cast<std::size_t>(runner_.vocab_size())) {
  const Qwen3Config& c = assistant.config();
  rope_depends_on_length_ = rotary_table(c.rope, c.head_dim, c.max_position_embeddings).original_length > 0;
}

AssistantDrafter::~AssistantDrafter() = default;

void AssistantDrafter::propose(std::span<const DraftContext> contexts, std::span<Draft> drafts) {
  CAJAL_CHECK(contexts.size() == drafts.size());
  ++calls_;
  for (Draft& draft : drafts) draft.clear();
  for (const DraftContext& context : contexts)  // none of them makes room for another
    if (const auto it = cached_.find(context.sequence); it != cached_.end()) it->second.last_call = calls_;
  try {
    const auto size = static_cast<std::size_t>(options_.max_num_seqs);
    for (std::size_t first = 0; first < contexts.size(); first += size) {
      const std::size_t count = std::min(size, contexts.size() - first);
      draft_group(contexts.subspan(first, count), drafts.subspan(first, count));
    }
  } catch (...) {  // nobody knows what is in the cache
    forget_all();
    for (Draft& draft : drafts) draft.clear();
    throw;
  }
}

void AssistantDrafter::draft_group(std::span<const DraftContext> contexts, std::span<Draft> drafts) {
  group_.clear();
  group_.reserve(contexts.size());
  for (std::size_t i = 0; i < contexts.size(); ++i)
    if (!begin(contexts[i], drafts[i])) forget(contexts[i].sequence);
  while (compose_step()) {
    runner_.run(step_);
    take_guesses();
  }
  // Guesses never get a name: what is overwritten must not be found by others.
  for (const Drafting& s : group_)
    kv_.commit(s.context.sequence, s.context.tokens.first(std::min(s.context.tokens.size(), s.cached.tokens.size())));
}

// False if the sequence gets no guesses and need not stay in the cache.
bool AssistantDrafter::begin(const DraftContext& context, Draft& draft) {
  const std::int64_t length = std::ssize(context.tokens);
  if (length == 0 || length > options_.max_model_len) return false;
  // The last guess is not computed.
  const std::int64_t wanted =
      std::min({context.max_tokens, options_.num_assistant_tokens, options_.max_model_len - length + 1});
  if (wanted <= 0) return true;
  CAJAL_CHECK(context.sampling && 0 <= context.prompt_length && context.prompt_length <= length);
  const std::int64_t longest = length + wanted - 1;
  if (blocks_for(longest) > options_.max_num_kv_blocks) return false;
  Cached& cached = find_cached(context);
  if (!make_room(context.sequence, cached.length(), longest)) return false;
  const auto prompt_length = static_cast<std::size_t>(context.prompt_length);
  LogitsProcessor processor(*context.sampling, context.tokens.first(prompt_length));
  for (const std::int32_t token : context.tokens.subspan(prompt_length)) processor.accept(token);
  group_.push_back({context, draft, cached, wanted, std::move(processor)});
  return true;
}

// What of the context is in the cache, at most all but its last token: that one's logits are wanted.
AssistantDrafter::Cached& AssistantDrafter::find_cached(const DraftContext& context) {
  auto it = cached_.find(context.sequence);
  if (it != cached_.end() && it->second.prompt_length != context.prompt_length) {
    forget(context.sequence);  // it began anew
    it = cached_.end();
  }
  if (it == cached_.end()) {
    // Where frequencies depend on the prompt's length, so do its keys.
    const std::string salt = rope_depends_on_length_ ? std::to_string(context.prompt_length) : std::string();
    it = cached_.try_emplace(context.sequence).first;
    const auto found = kv_.add(context.sequence, context.tokens, salt);
    CAJAL_CHECK(found, "a pool without slots takes any sequence");
    it->second.tokens.assign(context.tokens.begin(), context.tokens.begin() + *found);
    it->second.prompt_length = context.prompt_length;
    it->second.last_call = calls_;
    return it->second;
  }
  std::vector<std::int32_t>& tokens = it->second.tokens;
  const auto known = context.tokens.first(std::min(tokens.size(), context.tokens.size() - 1));
  tokens.resize(
      static_cast<std::size_t>(std::mismatch(known.begin(), known.end(), tokens.begin()).first - known.begin()));
  return it->second;
}

bool AssistantDrafter::make_room(std::uint64_t sequence, std::int64_t first_written, std::int64_t num_tokens) {
  while (!kv_.reserve(sequence, first_written, num_tokens)) {
    auto oldest = cached_.end();
    for (auto it = cached_.begin(); it != cached_.end(); ++it)
      if (it->second.last_call < calls_ && (oldest == cached_.end() || it->second.last_call < oldest->second.last_call))
        oldest = it;
    if (oldest == cached_.end()) return false;
    forget(oldest->first);
  }
  return true;
}

// Sequences that are caught up first, a row each; then those that are not, in order, as far as the rows last. So each step
// brings every guess on that it can. False if there is nothing to do.
bool AssistantDrafter::compose_step() {
  const auto copies = kv_.pending_copies();
  step_.block_copies.assign(copies.begin(), copies.end());
  kv_.clear_pending_copies();
  step_.rows.clear();
  step_.block_tables.clear();
  step_.sampling.clear();
  in_step_.clear();
  std::int64_t budget = runner_.limits().max_num_batched_tokens;
  for (const bool behind : {false, true})
    for (Drafting& s : group_) {
      const std::int64_t first = s.cached.length(), left = s.length() - first;
      if (s.num_guesses() >= s.wanted || (left > 1) != behind || budget == 0) continue;
      s.rows = std::min({left, budget, options_.prefill_chunk_size});
      const auto seq_index = static_cast<std::int32_t>(in_step_.size());
      in_step_.push_back(&s);
      step_.block_tables.push_back(kv_.block_table(s.context.sequence));
      for (std::int64_t p = first; p < first + s.rows; ++p)
        step_.rows.push_back(s.row(p, seq_index, kv_.slot(s.context.sequence, p)));
      if (s.rows == left)
        step_.sampling.push_back(device_sampling(*s.context.sampling, s.context.sequence_index, s.length()));
      budget -= s.rows;
    }
  return !step_.rows.empty();
}

void AssistantDrafter::take_guesses() {
  num_computed_tokens_ += std::ssize(step_.rows);
  std::int64_t next_logits = 0;
  for (Drafting* const s : in_step_) {
    for (std::int64_t i = 0; i < s->rows; ++i) s->cached.tokens.push_back(s->token(s->cached.length()));
    if (s->cached.length() < s->length()) continue;
    const std::int64_t row = next_logits++;
    const RowChoice* const choice = runner_.choice(row);
    if (!choice) runner_.read_logits(row, logits_);
    if (choice ? choice->status == ChoiceStatus::not_finite : !all_finite(logits_))
      s->wanted = s->num_guesses();  // the model itself would end the answer
    else if (choice)
      s->add_guess(choice->token_id);
    else
      s->add_guess(logits_);
  }
}

void AssistantDrafter::forget(std::uint64_t sequence) noexcept {
  kv_.release(sequence);
  cached_.erase(sequence);
}

void AssistantDrafter::forget_all() noexcept {
  for (const auto& [sequence, cached] : cached_) kv_.release(sequence);
  cached_.clear();
  kv_.clear_prefix_cache();
  kv_.clear_pending_copies();
}

}  // namespace cajal
