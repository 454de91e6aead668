#include "engine/scheduling/engine_core.h"

#include <algorithm>
#include <cmath>
#include <mutex>

#include "base/checked.h"
#include "base/thread_pool.h"
#include "engine/speculation/verifier.h"

namespace cajal {

struct SamplingScratch {
  std::vector<float> logits, processed;
};

namespace {

constexpr const char* kOutOfMemory = "out of memory";  // short enough for a string's own buffer
constexpr std::string_view kNoMemory = "the host has no memory left for this request";

KVCacheOptions kv_options(const EngineCoreOptions& o) {
  return {.num_blocks = o.num_kv_blocks,
          .max_blocks_per_seq = ceil_div(o.max_model_len, o.kv_block_size),
          .block_size = o.kv_block_size,
          .enable_prefix_caching = o.enable_prefix_caching && !o.reserve_slots,
          .num_slots = o.reserve_slots ? o.max_num_seqs : 0,
          .on_event = o.on_kv_event,
          .hash = nullptr};
}

const EngineCoreOptions& checked(const EngineCoreOptions& o) {
  CAJAL_CHECK(o.max_num_seqs > 0 && o.max_num_batched_tokens >= o.max_num_seqs && o.prefill_chunk_size > 0 &&
              o.max_model_len > 0 && o.kv_block_size > 0 && o.max_num_waiting > 0);
  const std::int64_t needed = ceil_div(o.max_model_len, o.kv_block_size) * (o.reserve_slots ? o.max_num_seqs : 1) + 1;
  if (o.num_kv_blocks < needed)
    fail(ErrorCode::out_of_memory, "the KV cache has ", o.num_kv_blocks, " blocks of ", o.kv_block_size,
         " tokens, and ", o.reserve_slots ? "its slots" : "one sequence", " of ", o.max_model_len, " tokens need",
         o.reserve_slots ? " " : "s ", needed, remedy("lower --max-model-len, or give the cache more memory"));
  return o;
}

template <class... Parts>
RequestRefusal refuse(ErrorCode code, std::string remedy, const Parts&... parts) {
  return {code, detail::join(parts...), std::move(remedy)};
}

}  // namespace

EngineCore::EngineCore(const EngineCoreOptions& options, const Parts& parts)
    : options_(checked(options)),
      parts_(parts),
      kv_(kv_options(options)),
      scheduler_({.max_num_seqs = options.max_num_seqs,
                  .max_num_batched_tokens = options.max_num_batched_tokens,
                  .prefill_chunk_size = options.prefill_chunk_size,
                  .max_model_len = options.max_model_len,
                  .vocab_size = parts.executor.vocab_size()},
                 kv_, parts.drafter, *this) {
  if (parts.drafter && parts.drafter->needs_hidden_states())
    fail(ErrorCode::unsupported, "the drafter ", parts.drafter->name(),
         " needs the model's hidden states, which no graph gives yet",
         remedy("use an assistant model or prompt lookup"));
  const auto rows = static_cast<std::size_t>(options.max_num_batched_tokens);
  input_.rows.reserve(rows);
  input_.block_tables.reserve(static_cast<std::size_t>(options.max_num_seqs));
  input_.sampling.reserve(rows);
  deliveries_.reserve(static_cast<std::size_t>(options.max_num_seqs));
  const int threads = parts.threads ? parts.threads->size() : 1;
  for (int i = 0; i < threads; ++i) {
    scratch_.push_back(std::make_unique<SamplingScratch>());
    scratch_.back()->logits.resize(static_cast<std::size_t>(parts.executor.vocab_size()));
    scratch_.back()->processed.reserve(scratch_.back()->logits.size());
  }
}

EngineCore::~EngineCore() = default;

std::optional<RequestRefusal> EngineCore::find_fault_of_limits(const SequenceRequest& s) const {
  const RequestLimits& limits = options_.request_limits;
  if (limits.max_prompt_len > 0 && std::ssize(s.prompt) > limits.max_prompt_len)
    return refuse(ErrorCode::invalid_argument,
                  "shorten the prompt, or export with a larger --max-context-length or with --prefill-chunk-size",
                  "The input sequence length (", s.prompt.size(), ") exceeds the model static sequence length (",
                  limits.max_prompt_len, ")");
  if (limits.max_top_k > 0 && s.sampling.top_k > limits.max_top_k)
    return refuse(ErrorCode::invalid_argument, "lower it, or export with a larger --max-topk", "top_k is ",
                  s.sampling.top_k, ", and the model was exported with max_topk ", limits.max_top_k);
  if (!limits.logits && s.num_logprobs >= 0)
    return refuse(ErrorCode::invalid_argument, "leave them out, or export with --output-logits",
                  "log-probabilities are asked for, and the model was exported with output_logits false: its tokens "
                  "are chosen on the device");
  return {};
}

std::optional<RequestRefusal> EngineCore::find_fault(const EngineRequest& r) const {
  const SequenceRequest& s = r.sequence;
  if (!failure_.empty()) return refuse(ErrorCode::unavailable, "start it again", "the engine has ended: ", failure_);
  if (requests_.contains(r.id))
    return refuse(ErrorCode::invalid_argument, "give each request an id of its own", "request id ", r.id,
                  " is in use by a request that is not over");
  if (r.n < 1 || r.n > kMaxSequencesPerRequest)
    return refuse(ErrorCode::invalid_argument, {}, "n is ", r.n, ", expected 1..", kMaxSequencesPerRequest);
  if (s.max_new_tokens < 0)
    return refuse(ErrorCode::invalid_argument, {}, "max_new_tokens is ", s.max_new_tokens, ", expected 0 or more");
  if (s.num_logprobs > parts_.executor.vocab_size())
    return refuse(ErrorCode::invalid_argument, {}, "logprobs is ", s.num_logprobs, ", and the vocabulary has ",
                  parts_.executor.vocab_size(), " tokens");
  if (auto fault = find_fault_of_limits(s)) return fault;
  if (!s.stop.empty() && !parts_.tokenizer)
    return refuse(ErrorCode::invalid_argument, "use the ids of ending tokens instead",
                  "a stop string needs the text of the answer, and there is no tokenizer");
  if (num_waiting() + r.n > options_.max_num_waiting)
    return refuse(ErrorCode::unavailable, "try again later", "the queue is full: ", num_waiting(),
                  " sequences wait, at most ", options_.max_num_waiting, " may");
  const auto tokens = static_cast<std::int64_t>(s.prompt.size());
  if (waiting_tokens_ + tokens > options_.max_waiting_tokens)
    return refuse(ErrorCode::unavailable, "try again later", "the queue is full: prompts of ", waiting_tokens_,
                  " tokens are under way, at most ", options_.max_waiting_tokens, " may be, and this one has ", tokens);
  return {};
}

std::optional<RequestRefusal> EngineCore::add(EngineRequest request) noexcept {
  std::optional<RequestRefusal> refusal;
  try {
    refusal = try_add(std::move(request));
  } catch (const std::exception&) {
    refusal.emplace(RequestRefusal{ErrorCode::out_of_memory, kOutOfMemory, {}});
  }
  if (refusal) parts_.observer.on_refused(*refusal);
  return refusal;
}

std::optional<RequestRefusal> EngineCore::try_add(EngineRequest request) {
  try {
    if (auto fault = find_fault(request)) return fault;
    check_token_ids(request.sequence.prompt, parts_.executor.vocab_size(), options_.max_model_len);
    check_sampling_params(request.sequence.sampling);
    check_constraints(request.sequence.constraints, parts_.executor.vocab_size(), request.sequence.max_new_tokens);
    auto state = std::make_unique<RequestState>();
    state->request = std::move(request);
    state->serial = next_serial_;
    const EngineRequest& r = state->request;
    for (std::uint32_t i = 0; i < r.n; ++i)
      state->sequences.push_back(std::make_unique<Sequence>(*state, i, next_sequence_ + i));
    state->num_unfinished = r.n;
    const Clock::Time now = parts_.clock.now();
    const auto place = requests_.emplace(r.id, std::move(state)).first;
    RequestState& added = *place->second;
    try {
      for (const auto& sequence : added.sequences) {
        sequence->times.arrived = now;
        scheduler_.enqueue(*sequence);
      }
    } catch (...) {
      for (const auto& sequence : added.sequences) scheduler_.remove(*sequence);
      requests_.erase(place);
      throw;
    }
    ++next_serial_;
    next_sequence_ += r.n;
    waiting_tokens_ += static_cast<std::int64_t>(r.sequence.prompt.size());
    parts_.observer.on_added(added);
    if (r.deadline) next_deadline_ = std::min(next_deadline_.value_or(*r.deadline), *r.deadline);
    return {};
  } catch (const Error& e) {
    return RequestRefusal{e.code(), e.message(), e.remedy()};
  }
}

void EngineCore::step() noexcept {
  if (!failure_.empty()) return;
  collect();
  expire();
  if (failure_.empty()) launch();
  deliver();
}

void EngineCore::settle() noexcept {
  if (!failure_.empty()) return;
  collect();
  deliver();
}

// --- what a step gave

void EngineCore::collect() noexcept {
  if (flight_.empty()) return;
  try {
    if (!parts_.executor.wait(options_.step_timeout)) {
      hangs_ = true;
      report_.failed = report_.timed_out = true;
      report_.finished = report_.sampled = parts_.clock.now();
      parts_.observer.on_step(report_);
      return end_engine(detail::join("the device has not finished a step within ",
                                     std::chrono::duration<double>(options_.step_timeout).count(), " s"));
    }
  } catch (const std::exception& e) {
    return fail_step(e.what());
  }
  report_.finished = parts_.clock.now();
  failed_steps_ = 0;
  const auto rows = flight_;
  if (parts_.threads && rows.size() > 1) {
    std::mutex mutex;  // of scratch_
    parts_.threads->parallel_for(static_cast<std::int64_t>(rows.size()), 1, [&](std::int64_t begin, std::int64_t end) {
      std::unique_lock lock(mutex);
      auto scratch = std::move(scratch_.back());
      scratch_.pop_back();
      lock.unlock();
      for (std::int64_t i = begin; i < end; ++i) take_rows(rows[static_cast<std::size_t>(i)], *scratch);
      lock.lock();
      scratch_.push_back(std::move(scratch));
    });
  } else {
    for (PlannedRows& r : rows) take_rows(r, *scratch_.back());
  }
  flight_ = {};
  const Clock::Time now = report_.finished;
  for (PlannedRows& r : rows) {
    if (!r.sequence) continue;
    Sequence& s = *r.sequence;
    if (!s.fresh.empty()) {
      const auto before = s.times.last_token;
      for (std::size_t i = 0; i < s.fresh.size(); ++i) s.times.on_token(now);
      parts_.observer.on_tokens(s, before, static_cast<std::int64_t>(s.fresh.size()));
      const auto accepted = s.computed - r.first - r.num_tokens;
      if (!r.draft.empty()) {
        report_.num_accepted += accepted;
        parts_.observer.on_draft(static_cast<std::int64_t>(r.draft.size()), accepted);
      }
    }
    const bool failed = s.finish_reason == FinishReason::error && s.error.empty();
    if (s.finish_reason == FinishReason::numerical_error || failed)
      kv_.clear_prefix_cache();  // what it computed before may be as bad, and others may be about to share it
    else
      kv_.commit(s.id, std::span(s.tokens).first(static_cast<std::size_t>(s.computed)));
    if (s.finish_reason) scheduler_.remove(s);
    if (s.finish_reason || !s.fresh.empty()) deliveries_.push_back(&s);
  }
  report_.sampled = parts_.clock.now();
  parts_.observer.on_step(report_);
}

// The tokens that a sequence's rows give. Touches nothing but the sequence, so that several may go on at once.
void EngineCore::take_rows(PlannedRows& rows, SamplingScratch& scratch) noexcept {
  if (!rows.sequence) return;
  Sequence& s = *rows.sequence;
  s.computed += rows.num_tokens;
  if (!rows.wants_logits) return;
  const auto choose = [&](std::int64_t row, std::int64_t) { return take_token(s, rows.first_logits + row, scratch); };
  try {
    // What was guessed right has its row computed already.
    s.computed += verify_chain(rows.draft, s.length(), std::cref(choose)).num_accepted;
  } catch (const Error& e) {
    s.finish_reason = FinishReason::error;
    s.error = e.message();
  } catch (const std::exception&) {
    s.finish_reason = FinishReason::error;
  }
}

// The next token, unless the sequence has come to its end.
std::optional<std::int32_t> EngineCore::take_token(Sequence& s, std::int64_t logits_row, SamplingScratch& scratch) {
  if (s.finish_reason) return {};
  const RowChoice* const choice = parts_.executor.choice(logits_row);
  if (!choice) parts_.executor.read_logits(logits_row, scratch.logits);
  if (choice ? choice->status == ChoiceStatus::not_finite : !all_finite(scratch.logits)) {  // no token can be trusted
    s.finish_reason = FinishReason::numerical_error;
    return {};
  }
  if (!s.answer) s.answer.emplace(s.request(), s.request().sequence_index + s.index, parts_.tokenizer);
  GeneratedToken token = choice ? Answer::take(*choice, s.request().num_logprobs)
                                : s.answer->choose(scratch.logits, s.length(), scratch.processed);
  const std::int32_t id = token.chosen.token_id;
  s.fresh.push_back({.token = std::move(token), .text = {}});
  s.tokens.push_back(id);
  const bool full = s.num_output_tokens() >= s.request().max_new_tokens || s.length() >= options_.max_model_len;
  if (!s.request().stop.empty()) {  // its text decides
    s.fresh.back().text = s.answer->accept(id, full);
    s.finish_reason = s.answer->finish_reason();
  } else if (s.answer->is_ending_token(id)) {
    s.finish_reason = FinishReason::stop;
  } else if (full) {
    s.finish_reason = FinishReason::length;
  }
  return id;
}

// --- the next step

void EngineCore::expire() noexcept {
  if (!next_deadline_) return;
  const Clock::Time now = parts_.clock.now();
  if (now < *next_deadline_) return;
  next_deadline_.reset();
  for (auto next = requests_.begin(); next != requests_.end();) {
    RequestState& request = *(next++)->second;
    const auto deadline = request.request.deadline;
    if (!deadline) continue;
    if (*deadline <= now)
      end_request(request, FinishReason::deadline_exceeded, {});
    else
      next_deadline_ = std::min(next_deadline_.value_or(*deadline), *deadline);
  }
}

void EngineCore::launch() noexcept {
  report_ = {.serial = report_.serial + 1, .scheduled = parts_.clock.now()};
  flight_ = scheduler_.schedule();
  if (flight_.empty()) return;
  for (const PlannedRows& rows : flight_) {
    const bool decodes = rows.num_tokens == 1 && rows.wants_logits;
    (decodes ? report_.num_decode_rows : report_.num_prompt_rows) += rows.num_tokens;
    report_.num_draft_rows += static_cast<std::int64_t>(rows.draft.size());
  }
  report_.num_draft_failures = scheduler_.num_draft_failures();
  report_.num_running = num_running();
  report_.num_waiting = num_waiting();
  report_.num_kv_blocks = kv_.num_blocks() - 1;
  report_.num_used_kv_blocks = report_.num_kv_blocks - kv_.num_available_blocks();
  try {
    scheduler_.fill(input_);
    tell_sampling();
    parts_.executor.launch(input_);
  } catch (const std::exception& e) {
    return fail_step(e.what());
  }
  report_.launched = parts_.clock.now();
}

// How the tokens of the rows that want logits are chosen, for executors that do it.
void EngineCore::tell_sampling() {
  input_.sampling.clear();
  for (const PlannedRows& rows : flight_) {
    if (!rows.wants_logits) continue;
    const Sequence& s = *rows.sequence;
    for (std::int64_t i = 0; i <= std::ssize(rows.draft); ++i)
      input_.sampling.push_back(device_sampling(s.request(), s.request().sequence_index + s.index, s.length() + i));
  }
}

// What a failed step would have written is undefined, and so are copies that it should have made for sequences that it did
// not run: those begin anew.
void EngineCore::fail_step(std::string_view why) noexcept {
  try {
    step_failure_ = why;
  } catch (const std::exception&) {
    step_failure_ = kOutOfMemory;
  }
  report_.failed = true;
  report_.finished = report_.sampled = parts_.clock.now();
  const auto rows = flight_;
  flight_ = {};
  kv_.clear_pending_copies();
  for (const PlannedRows& r : rows)
    if (r.sequence) finish(*r.sequence, FinishReason::error, step_failure_);
  scheduler_.preempt_all();
  parts_.observer.on_step(report_);
  if (++failed_steps_ >= kMaxFailedSteps) end_engine(step_failure_);
}

void EngineCore::end_engine(std::string_view why) noexcept {
  try {
    failure_ = why;
  } catch (const std::exception&) {
    failure_ = kOutOfMemory;
  }
  if (failure_.empty()) failure_ = "unknown";
  while (!requests_.empty()) end_request(*requests_.begin()->second, FinishReason::error, failure_);
  flight_ = {};
}

// --- the ends

void EngineCore::abort(RequestId id) noexcept {
  if (const auto found = requests_.find(id); found != requests_.end())
    end_request(*found->second, FinishReason::interrupted, {});
}

void EngineCore::abort_all() noexcept {
  while (!requests_.empty()) end_request(*requests_.begin()->second, FinishReason::interrupted, {});
}

void EngineCore::end_request(RequestState& request, FinishReason reason, std::string_view why) noexcept {
  const std::size_t n = request.sequences.size();
  for (std::size_t i = 0; i < n; ++i) {
    Sequence* sequence = request.sequences[i].get();
    const bool last = sequence && request.num_unfinished == 1;
    if (sequence) finish(*sequence, reason, why);
    if (last) return;  // the request is gone
  }
}

// Ends a sequence that is not over, whatever list it is in.
void EngineCore::finish(Sequence& s, FinishReason reason, std::string_view why) noexcept {
  for (PlannedRows& rows : flight_)
    if (rows.sequence == &s) rows.sequence = nullptr;
  std::replace(deliveries_.begin(), deliveries_.end(), &s, static_cast<Sequence*>(nullptr));
  if (s.finish_reason) {  // that was on its way
    report_fresh(s);
    return destroy(s);
  }
  scheduler_.remove(s);
  report_fresh(s);
  std::string text;
  try {
    if (s.answer) text = s.answer->flush();
  } catch (const std::exception&) {
    text.clear();
  }
  s.finish_reason = reason;
  update(s, nullptr, text, why, true);
  destroy(s);
}

void EngineCore::deliver() noexcept {
  if (deliveries_.empty()) return;
  const Clock::Time begin = parts_.clock.now();
  for (std::size_t i = 0; i < deliveries_.size(); ++i) {
    Sequence* s = deliveries_[i];
    if (!s) continue;
    deliveries_[i] = nullptr;
    report_fresh(*s);
    if (s->finish_reason)
      destroy(*s);
    else if (s->answer)
      prepare(*s);
  }
  deliveries_.clear();
  parts_.observer.on_delivered(begin, parts_.clock.now());
}

// What choosing its next token takes beside the model's logits, while the model runs. If it cannot be done, choosing says so.
void EngineCore::prepare(Sequence& s) noexcept {
  try {
    s.answer->prepare(static_cast<std::size_t>(parts_.executor.vocab_size()));
  } catch (const std::exception&) {
    return;
  }
}

// Its new tokens, and its end if it has come to it.
void EngineCore::report_fresh(Sequence& s) noexcept {
  const bool by_token = s.finish_reason == FinishReason::stop || s.finish_reason == FinishReason::length;
  for (std::size_t i = 0; i < s.fresh.size(); ++i) {
    FreshToken& fresh = s.fresh[i];
    const bool last = by_token && i + 1 == s.fresh.size();
    std::string text;
    try {
      text = fresh.text
                 ? std::move(*fresh.text)
                 : s.answer->accept(fresh.token.chosen.token_id, last && s.finish_reason == FinishReason::length);
    } catch (const std::exception&) {
      text.clear();  // the token is worth more than nothing
    }
    update(s, &fresh.token, text, {}, last);
  }
  s.fresh.clear();
  if (!s.finish_reason || by_token) return;
  const bool not_finite = s.finish_reason == FinishReason::numerical_error;
  const std::string_view error = s.error.empty() ? kNoMemory : std::string_view(s.error);
  update(s, nullptr, {}, not_finite ? std::string_view("the model's logits are not finite") : error, true);
}

void EngineCore::update(Sequence& s, const GeneratedToken* token, std::string_view text, std::string_view error,
                        bool last) noexcept {
  if (last) s.times.on_finished(parts_.clock.now());
  parts_.observer.on_update({.request = s.owner.request.id,
                             .sequence = s.index,
                             .sequence_id = s.id,
                             .token = token,
                             .text = text,
                             .finish_reason = last ? s.finish_reason : std::nullopt,
                             .error = error,
                             .stopped_by = last && s.answer ? s.answer->stopped_by() : std::string_view(),
                             .times = &s.times,
                             .num_prompt_tokens = s.prompt_length()});
}

void EngineCore::destroy(Sequence& s) noexcept {
  RequestState& owner = s.owner;
  if (parts_.drafter) parts_.drafter->forget(s.id);
  owner.sequences[s.index].reset();
  if (--owner.num_unfinished > 0) return;
  waiting_tokens_ -= static_cast<std::int64_t>(owner.request.sequence.prompt.size());
  const RequestId id = owner.request.id;
  requests_.erase(id);
}

void EngineCore::on_admitted(Sequence& s, std::int64_t num_cached_tokens) noexcept {
  if (!s.times.first_scheduled) s.times.num_cached_tokens = num_cached_tokens;
  s.times.on_scheduled(report_.scheduled);
  parts_.observer.on_admitted(s);
}

void EngineCore::on_preempted(Sequence& s) noexcept { parts_.observer.on_preempted(s); }

void EngineCore::on_refused(Sequence& s, FinishReason reason, std::string_view why) noexcept { finish(s, reason, why); }

std::string EngineCore::find_inconsistency() const {
  if (auto problem = kv_.find_inconsistency(); !problem.empty()) return problem;
  std::size_t sequences = 0;
  std::int64_t tokens = 0;
  for (const auto& [id, request] : requests_) {
    std::uint32_t unfinished = 0;
    for (const auto& s : request->sequences) {
      if (!s) continue;
      ++unfinished;
      const bool waits = scheduler_.waiting().contains(s.get());
      const bool ends = s->finish_reason.has_value();
      if (s->running == (waits || ends)) return detail::join("sequence ", s->id, " is in no list or in two");
      if (s->running != kv_.contains(s->id)) return detail::join("sequence ", s->id, " has blocks that it should not");
      if (s->running && (s->computed < 0 || s->computed >= s->length()))
        return detail::join("sequence ", s->id, " has computed ", s->computed, " of ", s->length(), " tokens");
    }
    if (unfinished != request->num_unfinished || unfinished == 0)
      return detail::join("request ", id, " counts ", request->num_unfinished, " sequences and has ", unfinished);
    sequences += unfinished;
    tokens += static_cast<std::int64_t>(request->request.sequence.prompt.size());
  }
  if (tokens != waiting_tokens_) return detail::join(waiting_tokens_, " tokens are counted, ", tokens, " are there");
  if (sequences < static_cast<std::size_t>(num_running() + num_waiting())) return "a list has a sequence of no request";
  if (!std::is_sorted(scheduler_.running().begin(), scheduler_.running().end(), ServedBefore()))
    return "the running sequences are out of order";
  return {};
}

}  // namespace cajal
