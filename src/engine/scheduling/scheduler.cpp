#include "engine/scheduling/scheduler.h"

#include <algorithm>
#include <exception>

#include "base/checked.h"

namespace cajal {
namespace {

// Prompts that are computed side by side: enough for short ones to pass a long one, few enough for each to get on.
constexpr std::size_t kMaxPartialPrompts = 8;

// Whether a sibling has computed the prompt but for its last token, which everybody computes for its logits.
const Sequence* find_sibling(const Sequence& sequence, bool& computing) {
  const Sequence* found = nullptr;
  computing = false;
  for (const auto& other : sequence.owner.sequences) {
    if (!other || other.get() == &sequence || !other->running) continue;
    if (other->computed >= sequence.prompt_length() - 1)
      found = other.get();
    else
      computing = true;
  }
  return found;
}

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options, KVCacheManager& kv, Drafter* drafter, SchedulerEvents& events)
    : options_(options), kv_(kv), drafter_(drafter), events_(events) {
  CAJAL_CHECK(options.max_num_seqs > 0 && options.max_num_batched_tokens >= options.max_num_seqs &&
              options.prefill_chunk_size > 0 && options.max_model_len > 0);
  const auto seats = static_cast<std::size_t>(options.max_num_seqs);
  running_.reserve(seats);
  plan_.reserve(seats);
  prompts_.reserve(seats);
  prompt_rows_.reserve(seats);
  draft_contexts_.reserve(seats);
  if (drafter_) drafts_.resize(seats);
}

void Scheduler::enqueue(Sequence& sequence) { waiting_.insert(&sequence); }

void Scheduler::remove(Sequence& sequence) noexcept {
  if (sequence.running) {
    running_.erase(std::find(running_.begin(), running_.end(), &sequence));
    sequence.running = false;
    kv_.release(sequence.id);
  } else if (sequence.place.empty()) {
    waiting_.erase(&sequence);
  }
  if (blocked_ == &sequence) blocked_ = nullptr;
}

void Scheduler::preempt(Sequence& sequence) noexcept {
  running_.erase(std::find(running_.begin(), running_.end(), &sequence));
  sequence.running = false;
  kv_.release(sequence.id);
  sequence.computed = 0;
  ++sequence.times.num_preemptions;
  waiting_.insert(std::move(sequence.place));
  events_.on_preempted(sequence);
}

void Scheduler::preempt_all() noexcept {
  while (!running_.empty()) preempt(*running_.back());
}

std::span<PlannedRows> Scheduler::schedule() {
  plan_.clear();
  budget_ = options_.max_num_batched_tokens;
  plan_decoding();
  num_decoding_ = plan_.size();
  admit();
  plan_prompts();
  if (drafter_) plan_drafts();
  std::int64_t logits = 0;
  for (PlannedRows& rows : plan_) {
    rows.wants_logits = rows.first + rows.num_tokens == rows.sequence->length();
    rows.first_logits = logits;
    if (rows.wants_logits) logits += 1 + static_cast<std::int64_t>(rows.draft.size());
  }
  return plan_;
}

void Scheduler::plan_decoding() {
  for (std::size_t i = 0; i < running_.size(); ++i) {
    Sequence& s = *running_[i];
    if (s.remaining() != 1 || !make_room(s)) continue;
    plan_.push_back({.sequence = &s, .first = s.computed, .num_tokens = 1, .draft = {}});
    --budget_;
  }
}

// False if the sequence had to give way itself.
bool Scheduler::make_room(Sequence& sequence) {
  while (!kv_.reserve(sequence.id, sequence.computed, sequence.length())) {
    Sequence& last = *running_.back();
    preempt(last);
    if (&last == &sequence) return false;
  }
  return true;
}

void Scheduler::admit() {
  std::size_t partial = running_.size() - plan_.size();
  std::int64_t wanted = 0;
  for (const Sequence* s : running_) wanted += s->remaining();
  wanted -= static_cast<std::int64_t>(plan_.size());
  const RequestState* held_back = nullptr;  // its sequences wait until one of them has computed their prompt
  for (auto next = waiting_.begin(); next != waiting_.end();) {
    if (static_cast<std::int64_t>(running_.size()) >= options_.max_num_seqs || budget_ == 0) return;
    if (partial >= kMaxPartialPrompts && wanted >= budget_) return;
    Sequence& s = **next++;
    if (&s.owner == held_back) continue;
    const Admission admission = try_admit(s);
    if (admission == Admission::no_room) return;
    if (admission == Admission::held_back) held_back = &s.owner;
    if (admission != Admission::admitted) continue;
    ++partial;
    wanted += s.remaining();
  }
}

Scheduler::Admission Scheduler::try_admit(Sequence& s) {
  if (s.prompt_length() >= options_.max_model_len || s.request().max_new_tokens < 1) {
    waiting_.erase(&s);
    events_.on_refused(s, FinishReason::length, {});
    return Admission::refused;
  }
  bool computing = false;
  const Sequence* sibling = find_sibling(s, computing);
  if (computing && !sibling) return Admission::held_back;
  if (blocked_ == &s && kv_.num_available_blocks() <= blocked_at_) return Admission::no_room;
  blocked_ = nullptr;
  try {
    start(s);
    if (!take_blocks(s, sibling)) {
      blocked_ = &s;
      blocked_at_ = kv_.num_available_blocks();
      return Admission::no_room;
    }
  } catch (const std::exception&) {  // no memory for the books of it
    kv_.release(s.id);
    waiting_.erase(&s);
    events_.on_refused(s, FinishReason::error, "the host has no memory left for this request");
    return Admission::refused;
  }
  s.place = waiting_.extract(&s);
  s.running = true;
  running_.insert(std::upper_bound(running_.begin(), running_.end(), &s, ServedBefore()), &s);
  events_.on_admitted(s, s.computed);
  return Admission::admitted;
}

// What only a sequence that runs needs.
void Scheduler::start(Sequence& s) {
  if (!s.tokens.empty()) return;
  const std::int64_t longest =
      s.prompt_length() + std::min(s.request().max_new_tokens, options_.max_model_len - s.prompt_length());
  std::vector<std::int32_t> tokens;
  tokens.reserve(static_cast<std::size_t>(longest));
  tokens.assign(s.request().prompt.begin(), s.request().prompt.end());
  s.fresh.reserve(1 + (drafter_ ? static_cast<std::size_t>(drafter_->max_draft_tokens()) : 0));
  s.tokens = std::move(tokens);
}

// All blocks of the tokens so far, and one in reserve for each sequence that may soon want to grow.
bool Scheduler::take_blocks(Sequence& s, const Sequence* sibling) {
  s.computed = 0;
  const std::int64_t shared = s.prompt_length() - 1;
  if (sibling && s.num_output_tokens() == 0 && shared > 0 && kv_.fork(sibling->id, s.id, shared)) {
    s.computed = shared;
  } else {
    const auto found = kv_.add(s.id, s.tokens, s.owner.request.cache_salt);
    if (found)
      s.computed = *found;
    else if (!running_.empty() || !kv_.add(s.id, {}))
      return false;
  }
  const auto headroom = static_cast<std::int64_t>(running_.size());
  if (kv_.reserve(s.id, s.computed, s.length()) && kv_.num_available_blocks() >= headroom) return true;
  kv_.release(s.id);
  s.computed = 0;
  return false;
}

void Scheduler::plan_prompts() {
  prompts_.clear();
  prompt_rows_.clear();
  std::size_t planned = 0;
  for (Sequence* s : running_)
    if (planned < num_decoding_ && plan_[planned].sequence == s)
      ++planned;
    else
      prompts_.push_back(s);
  for (std::size_t i = 0; i < prompts_.size() && budget_ > 0; ++i) {
    std::int64_t rows = std::min({prompts_[i]->remaining(), options_.prefill_chunk_size, budget_});
    if (i + 1 < prompts_.size()) rows = std::min(rows, std::max<std::int64_t>(1, budget_ / 2));
    prompt_rows_.push_back(rows);
    budget_ -= rows;
  }
  for (std::size_t i = 0; i < prompt_rows_.size(); ++i) {
    Sequence& s = *prompts_[i];
    const std::int64_t more = std::min({s.remaining(), options_.prefill_chunk_size, prompt_rows_[i] + budget_});
    budget_ -= more - prompt_rows_[i];
    plan_.push_back({.sequence = &s, .first = s.computed, .num_tokens = more, .draft = {}});
  }
}

std::int64_t Scheduler::most_drafts(const Sequence& s) const {
  const std::int64_t tokens_left =
      std::min(s.request().max_new_tokens - s.num_output_tokens(), options_.max_model_len - s.length());
  return std::clamp<std::int64_t>(tokens_left - 1, 0, drafter_->max_draft_tokens());
}

void Scheduler::plan_drafts() {
  draft_contexts_.clear();
  for (std::size_t i = 0; i < num_decoding_; ++i) {
    const Sequence& s = *plan_[i].sequence;
    const std::int64_t share = budget_ / static_cast<std::int64_t>(num_decoding_ - i);
    const std::int64_t most = std::min(most_drafts(s), share);
    budget_ -= most;
    draft_contexts_.push_back({.sequence = s.id,
                               .tokens = s.tokens,
                               .prompt_length = s.prompt_length(),
                               .sampling = &s.request().sampling,
                               .sequence_index = s.request().sequence_index + s.index,
                               .max_tokens = most});
    drafts_[i].clear();
  }
  if (draft_contexts_.empty()) return;
  try {
    drafter_->propose(draft_contexts_, std::span(drafts_).first(num_decoding_));
  } catch (const std::exception&) {  // a guess is never owed
    ++num_draft_failures_;
    return;
  }
  for (std::size_t i = 0; i < num_decoding_; ++i) {
    const Sequence& s = *plan_[i].sequence;
    std::span<const std::int32_t> draft = drafts_[i].tokens;
    draft = draft.first(std::min(draft.size(), static_cast<std::size_t>(draft_contexts_[i].max_tokens)));
    const auto unknown =
        std::find_if(draft.begin(), draft.end(), [&](std::int32_t id) { return id < 0 || id >= options_.vocab_size; });
    draft = draft.first(static_cast<std::size_t>(unknown - draft.begin()));
    if (!drafts_[i].parents.empty()) draft = {};
    try {
      if (s.answer) draft = draft.first(static_cast<std::size_t>(s.answer->count_valid(draft)));
    } catch (const std::exception&) {
      draft = {};
    }
    // Nobody is preempted for a guess.
    if (!draft.empty() && kv_.reserve(s.id, s.computed, s.length() + static_cast<std::int64_t>(draft.size())))
      plan_[i].draft = draft;
  }
}

void Scheduler::fill(StepInput& input) {
  input.rows.clear();
  input.block_tables.clear();
  input.block_copies.assign(kv_.pending_copies().begin(), kv_.pending_copies().end());
  kv_.clear_pending_copies();
  for (const PlannedRows& rows : plan_) {
    const Sequence& s = *rows.sequence;
    const auto seq_index = static_cast<std::int32_t>(input.block_tables.size());
    const std::span<const std::int32_t> table = kv_.block_table(s.id);
    input.block_tables.push_back(table);
    const std::int64_t own = rows.first + rows.num_tokens, end = own + static_cast<std::int64_t>(rows.draft.size());
    for (std::int64_t p = rows.first; p < end; ++p) {
      // A prompt's tokens go by the length of the prompt, a generated one by how long the sequence was with it: what
      // Hugging Face's generate does, whatever the chunks are.
      const std::int64_t rope_length = p < s.prompt_length() ? s.prompt_length() : p + 1;
      const std::int64_t block = table[static_cast<std::size_t>(p / kv_.block_size())];
      input.rows.push_back(
          {.token_id = p < own ? s.tokens[static_cast<std::size_t>(p)] : rows.draft[static_cast<std::size_t>(p - own)],
           .position = static_cast<std::int32_t>(p),
           .seq_index = seq_index,
           .slot = static_cast<std::int32_t>(block * kv_.block_size() + p % kv_.block_size()),
           .rope_length = static_cast<std::int32_t>(rope_length),
           .wants_logits = rows.wants_logits && p + 1 >= own});
    }
  }
}

}  // namespace cajal
