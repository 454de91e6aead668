// Scenarios for people.
#include <ostream>
#include <string>

#include "simulator/scenario.h"

namespace cajal::simulator {
namespace {

void describe_surroundings(const Scenario& s, std::ostream& out) {
  const EngineCoreOptions& o = s.options;
  out << "engine: " << o.num_kv_blocks << " KV blocks (one spare) of " << o.kv_block_size << " tokens, max_model_len "
      << o.max_model_len << ", max_num_seqs " << o.max_num_seqs << ", max_num_batched_tokens "
      << o.max_num_batched_tokens << ", prefill_chunk_size " << o.prefill_chunk_size
      << (o.enable_prefix_caching ? "" : ", no prefix caching") << (o.reserve_slots ? ", slots" : "");
  if (o.max_num_waiting != EngineCoreOptions{}.max_num_waiting) out << ", max_num_waiting " << o.max_num_waiting;
  if (o.max_waiting_tokens != EngineCoreOptions{}.max_waiting_tokens)
    out << ", max_waiting_tokens " << o.max_waiting_tokens;
  out << "\nmodel: " << s.model.vocab_size << " tokens, of which " << s.model.num_salt_tokens << " name salts; "
      << s.model.eos_percent << " % of positions end, " << s.model.nan_per_mille
      << " in 1000 are not finite; a step takes " << s.step_time.count() << " ns\n";
  if (s.draft.max_draft_tokens)
    out << "drafter: " << s.draft.max_draft_tokens << " tokens, " << s.draft.right_percent << " % right, "
        << s.draft.nonsense_percent << " % nonsense, throws in " << s.draft.throw_percent << " %\n";
}

void describe_request(const Event& e, std::ostream& out) {
  const EngineRequest& r = e.request;
  const SequenceRequest& q = r.sequence;
  out << "add request " << r.id << ": " << q.prompt.size() << " tokens [";
  for (std::size_t i = 0; i < q.prompt.size() && i < 40; ++i) out << (i ? " " : "") << q.prompt[i];
  out << (q.prompt.size() > 40 ? " …]" : "]") << ", max_new_tokens " << q.max_new_tokens;
  if (r.n != 1) out << ", n " << r.n;
  if (r.priority) out << ", priority " << r.priority;
  if (!r.cache_salt.empty()) out << ", salt " << r.cache_salt;
  if (e.time_left) out << ", " << e.time_left->count() << " ns left";
  if (q.sampling.temperature != 0) out << ", temperature " << q.sampling.temperature << ", seed " << q.sampling.seed;
  if (q.num_logprobs >= 0) out << ", logprobs " << q.num_logprobs;
  for (const std::int32_t id : q.eos_token_ids) out << ", ends with " << id;
  if (e.must_be_refused) out << " (must be refused)";
}

void describe_event(const Event& e, std::ostream& out) {
  out << "step " << e.step;
  if (e.after_updates) out << ", after " << e.after_updates << " updates";
  out << ": ";
  switch (e.kind) {
    case Event::Kind::add: describe_request(e, out); break;
    case Event::Kind::abort: out << "abort request " << e.id; break;
    case Event::Kind::advance_clock: out << e.by.count() << " ns pass"; break;
  }
  out << '\n';
}

}  // namespace

void describe(const Scenario& scenario, std::ostream& out) {
  static constexpr const char* kFaults[] = {"throws", "fails while it runs", "never ends", "corrupts its first row"};
  describe_surroundings(scenario, out);
  for (const Event& e : scenario.events) describe_event(e, out);
  for (const Fault& f : scenario.faults)
    out << "launch " << f.launch << ' ' << kFaults[static_cast<int>(f.kind)] << '\n';
}

}  // namespace cajal::simulator
