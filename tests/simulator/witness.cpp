#include "simulator/witness.h"

#include <algorithm>
#include <ostream>
#include <tuple>

#include "base/error.h"
#include "simulator/allocation_faults.h"

namespace cajal::simulator {

void Witness::expect_request(const EngineRequest& request) {
  Live& live = live_[request.id];
  live.request = request;
  live.serial = next_serial_++;
  live.sequences.resize(request.n);
  ++counts_.requests;
}

void Witness::expect_step() {
  note_corruptions();
  ++step_;
  faults_before_ = executor_.faults_fired();
}

void Witness::note_corruptions() {
  if (executor_.corruptions() == corruptions_) return;
  corruptions_ = executor_.corruptions();
  last_corruption_ = step_;
}

// Once the engine has seen that numbers were not finite, before it planned the step in which it says so, nobody who is
// admitted may come upon them any more. (Siblings may: they share with each other what no cache has a name for.)
bool Witness::may_be_corrupt(const Live& request, const LiveSequence& s) {
  note_corruptions();
  if (last_corruption_ < 0) return false;
  if (request.request.n > 1) return true;
  return std::none_of(numerical_errors_.begin(), numerical_errors_.end(),
                      [&](std::int64_t step) { return last_corruption_ < step && step <= s.admitted; });
}

void Witness::expect_abort(RequestId id) {
  if (const auto found = live_.find(id); found != live_.end()) found->second.aborted = true;
}

std::int64_t Witness::num_live_prompt_tokens() const {
  std::int64_t count = 0;
  for (const auto& [id, live] : live_) count += static_cast<std::int64_t>(live.request.sequence.prompt.size());
  return count;
}

std::optional<RequestId> Witness::find_overdue() const {
  for (const auto& [id, live] : live_)
    if (live.request.deadline && *live.request.deadline <= clock_.now()) return id;
  return {};
}

// --- updates

void Witness::on_update(const SequenceUpdate& update) noexcept {
  const AllocationFaults::Pause pause;
  ++num_updates_;
  if (sabotage_ == Sabotage::lost_update && num_updates_ % 8 == 0) return;
  tell(update);
  SequenceUpdate heard = update;
  if (sabotage_ == Sabotage::late_end && heard.token) heard.finish_reason.reset();
  if (error_.empty()) check_update(heard);
  if (sabotage_ == Sabotage::doubled_update && num_updates_ % 8 == 0 && error_.empty()) check_update(heard);
}

void Witness::check_update(const SequenceUpdate& update) {
  const auto found = live_.find(update.request);
  if (found == live_.end()) return complain(detail::join("an update of request ", update.request, ", which is over"));
  Live& request = found->second;
  if (update.sequence >= request.sequences.size())
    return complain(detail::join("an update of sequence ", update.sequence, " of request ", update.request));
  LiveSequence& s = request.sequences[update.sequence];
  if (s.over) return complain(detail::join("an update of a sequence of request ", update.request, " that is over"));
  if (!update.text.empty()) complain("text without a tokenizer");
  const bool early = update.finish_reason == FinishReason::interrupted || update.finish_reason == FinishReason::error ||
                     update.finish_reason == FinishReason::deadline_exceeded;
  const bool corrupt = update.finish_reason == FinishReason::numerical_error && may_be_corrupt(request, s);
  if (early) {
    check_early_end(update, request);
  } else if (!corrupt) {
    if (!s.oracle)
      s.oracle.emplace(model_, request.request.sequence, request.request.sequence.sequence_index + update.sequence,
                       max_model_len_);
    check_token(update, s.oracle->next());
  }
  if (update.token) ++counts_.tokens;
  if (update.finish_reason) end(update, request);
}

void Witness::check_token(const SequenceUpdate& update, const Oracle::Next& expected) {
  const auto here = [&](const auto&... what) {
    complain(detail::join("request ", update.request, " sequence ", update.sequence, ": ", what...));
  };
  if (!update.token && !update.finish_reason) return here("an update that says nothing");
  if (update.token && !expected.token) return here("token ", update.token->chosen.token_id, " after the end");
  if (!update.token && expected.token)
    return here("ends as ", to_string(*update.finish_reason), " before token ", expected.token->chosen.token_id);
  if (update.token && update.token->chosen.token_id != expected.token->chosen.token_id)
    return here("token ", update.token->chosen.token_id, ", expected ", expected.token->chosen.token_id);
  if (update.token && (update.token->chosen != expected.token->chosen || update.token->top != expected.token->top))
    return here("log-probabilities are not those of token ", update.token->chosen.token_id);
  if (update.finish_reason != expected.finish_reason)
    return here("finish_reason is ", update.finish_reason ? to_string(*update.finish_reason) : "absent", ", expected ",
                expected.finish_reason ? to_string(*expected.finish_reason) : "none");
  if (update.finish_reason == FinishReason::numerical_error && update.error.empty())
    here("a numerical error without a message");
}

void Witness::check_early_end(const SequenceUpdate& update, const Live& request) {
  const auto here = [&](const char* what) {
    complain(detail::join("request ", update.request, " sequence ", update.sequence, ": ", what));
  };
  if (update.token) return here("a token together with an early end");
  if (update.finish_reason == FinishReason::interrupted && !request.aborted) here("interrupted by nobody");
  const bool errors_may_come = executor_.faults_fired() > faults_before_ || AllocationFaults::fired > 0;
  if (update.finish_reason == FinishReason::error && !errors_may_come) here("an error out of nothing");
  if (update.finish_reason == FinishReason::error && update.error.empty()) here("an error without a message");
  if (update.finish_reason == FinishReason::deadline_exceeded &&
      (!request.request.deadline || clock_.now() < *request.request.deadline))
    here("expired before its time was over");
}

void Witness::end(const SequenceUpdate& update, Live& request) {
  switch (*update.finish_reason) {
    case FinishReason::stop: ++counts_.stopped; break;
    case FinishReason::length: ++counts_.full; break;
    case FinishReason::interrupted: ++counts_.interrupted; break;
    case FinishReason::numerical_error:
      ++counts_.not_finite;
      numerical_errors_.push_back(step_);
      break;
    case FinishReason::deadline_exceeded: ++counts_.expired; break;
    case FinishReason::error: ++counts_.failed; break;
  }
  LiveSequence& s = request.sequences[update.sequence];
  s.over = true;
  s.running = nullptr;
  if (++request.num_over == request.sequences.size()) live_.erase(update.request);
}

void Witness::tell(const SequenceUpdate& update) const {
  if (!story_) return;
  *story_ << "    request " << update.request << " sequence " << update.sequence << ':';
  if (update.token) *story_ << " token " << update.token->chosen.token_id;
  if (update.finish_reason) *story_ << " ends: " << to_string(*update.finish_reason);
  if (!update.error.empty()) *story_ << " (" << update.error << ')';
  *story_ << '\n';
}

// --- order

template <class Visit>
void Witness::for_each(bool before, const Sequence& sequence, Visit&& visit) {
  const auto rank_of = [](const EngineRequest& request, std::uint64_t serial, std::size_t index) {
    return std::tuple(request.priority, serial, index);
  };
  const auto own = live_.find(sequence.owner.request.id);
  if (own == live_.end()) return complain("the engine runs a sequence of a request that is over");
  const auto rank = rank_of(own->second.request, own->second.serial, sequence.index);
  for (auto& [id, live] : live_)
    for (std::size_t i = 0; i < live.sequences.size(); ++i) {
      const auto other = rank_of(live.request, live.serial, i);
      if (before ? other < rank : rank < other) visit(live, live.sequences[i]);
    }
}

// Nobody overtakes, but whose sibling is at the same prompt waits for that.
void Witness::on_admitted(const Sequence& sequence) noexcept {
  const AllocationFaults::Pause pause;
  if (story_)
    *story_ << "    request " << sequence.owner.request.id << " sequence " << sequence.index << " runs, "
            << sequence.computed << " tokens are there\n";
  for_each(true, sequence, [&](const Live& other, const LiveSequence& s) {
    bool sibling_runs = false;
    for (const LiveSequence& sibling : other.sequences) sibling_runs |= sibling.running != nullptr;
    if (!s.over && !s.running && !sibling_runs)
      complain(detail::join("request ", sequence.owner.request.id, " overtakes request ", other.request.id));
  });
  const auto own = live_.find(sequence.owner.request.id);
  if (own == live_.end()) return;
  LiveSequence& s = own->second.sequences[sequence.index];
  if (s.over || s.running) complain("a sequence is admitted that runs or is over");
  s.running = &sequence;
  s.admitted = step_;
  counts_.cached_tokens += sequence.computed;
}

void Witness::on_preempted(const Sequence& sequence) noexcept {
  const AllocationFaults::Pause pause;
  if (story_)
    *story_ << "    request " << sequence.owner.request.id << " sequence " << sequence.index << " is preempted\n";
  for_each(false, sequence, [&](const Live& other, const LiveSequence& s) {
    if (s.running && s.running->running)  // and not merely its last tokens are still to be told
      complain(
          detail::join("request ", sequence.owner.request.id, " gives way and request ", other.request.id, " not"));
  });
  const auto own = live_.find(sequence.owner.request.id);
  if (own == live_.end()) return;
  LiveSequence& s = own->second.sequences[sequence.index];
  if (!s.running) complain("a sequence is preempted that does not run");
  s.running = nullptr;
  ++counts_.preemptions;
}

void Witness::on_draft(std::int64_t num_guesses, std::int64_t num_accepted) noexcept {
  counts_.guesses += num_guesses;
  counts_.right_guesses += num_accepted;
}

void Witness::on_step(const StepReport& report) noexcept {
  if (report.failed) return;
  rows_reported_ += report.num_prompt_rows + report.num_decode_rows + report.num_draft_rows;
}

}  // namespace cajal::simulator
