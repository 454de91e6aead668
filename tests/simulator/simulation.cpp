#include "simulator/simulation.h"

#include <algorithm>
#include <ostream>
#include <utility>

#include "base/checked.h"
#include "simulator/allocation_faults.h"
#include "simulator/event_mirror.h"
#include "simulator/witness.h"

namespace cajal::simulator {

SimulationCounts& SimulationCounts::operator+=(const SimulationCounts& other) {
  for (const auto member :
       {&SimulationCounts::steps, &SimulationCounts::rows, &SimulationCounts::tokens, &SimulationCounts::requests,
        &SimulationCounts::refused, &SimulationCounts::stopped, &SimulationCounts::full, &SimulationCounts::interrupted,
        &SimulationCounts::expired, &SimulationCounts::failed, &SimulationCounts::not_finite,
        &SimulationCounts::preemptions, &SimulationCounts::cached_tokens, &SimulationCounts::block_copies,
        &SimulationCounts::guesses, &SimulationCounts::right_guesses, &SimulationCounts::evicted_blocks,
        &SimulationCounts::ended_engines})
    this->*member += other.*member;
  return *this;
}

namespace {

constexpr RequestId kLastRequest = ~RequestId{0};

FakeExecutorOptions executor_options(const Scenario& scenario) {
  const EngineCoreOptions& o = scenario.options;
  return {.num_blocks = o.num_kv_blocks,
          .block_size = o.kv_block_size,
          .max_blocks_per_seq = ceil_div(o.max_model_len, o.kv_block_size),
          .max_num_seqs = o.max_num_seqs,
          .max_rows = o.max_num_batched_tokens,
          .max_rows_per_seq = std::max(o.prefill_chunk_size, 1 + scenario.draft.max_draft_tokens),
          .step_time = scenario.step_time};
}

class Simulation {
 public:
  Simulation(const Scenario& scenario, const SimulationOptions& options)
      : scenario_(scenario),
        options_(options),
        model_(scenario.model),
        executor_(executor_options(scenario), model_, scenario.faults, clock_),
        sabotaged_(executor_, options.sabotage, scenario.options.kv_block_size),
        drafter_(scenario.draft, model_),
        witness_({model_, executor_, clock_, options.story}, scenario.options.max_model_len, options.sabotage),
        engine_(with_events(scenario.options), {.executor = sabotaged_,
                                                .clock = clock_,
                                                .observer = witness_,
                                                .drafter = scenario.draft.max_draft_tokens ? &drafter_ : nullptr}),
        events_(scenario.events) {
    executor_.tell_story_to(options.story);
  }

  SimulationResult run();

 private:
  EngineCoreOptions with_events(EngineCoreOptions options) {
    options.on_kv_event = [this](const KVCacheEvent& event) { mirror_.hear(event); };
    return options;
  }
  bool wrong() const { return !witness_.error().empty(); }
  void play();
  bool play_events();
  void play(const Event& event);
  void add(EngineRequest request, bool must_be_refused);
  bool is_full_for(const EngineRequest& request) const;
  void abort(RequestId id);
  void step();
  void check_progress();
  void check_books();
  void check_end();

  const Scenario& scenario_;
  const SimulationOptions& options_;
  FakeModel model_;
  SimulatedClock clock_;
  FakeExecutor executor_;
  SabotagedExecutor sabotaged_;
  FakeDrafter drafter_;
  Witness witness_;
  EventMirror mirror_;
  EngineCore engine_;
  std::vector<Event> events_;  // that have not happened
  std::int64_t step_ = 0, steps_with_work_ = 0;
  std::int64_t work_ = 64;  // steps that all requests so far may take
  std::int64_t idle_ = 0;   // steps in a row that did nothing although there was work
  std::int64_t faults_seen_ = 0, failed_allocations_ = 0;
};

SimulationResult Simulation::run() {
  play();
  if (options_.failing_allocation && !wrong()) {  // whatever happened, the next request is answered
    AllocationFaults::disarm();
    failed_allocations_ = std::exchange(AllocationFaults::fired, 0);
    add({.id = kLastRequest, .sequence = {.prompt = {1}, .max_new_tokens = 3}}, false);
    play();
  }
  if (!wrong()) check_end();
  SimulationResult result{witness_.error(), witness_.counts(), failed_allocations_};
  result.counts.steps = steps_with_work_;
  result.counts.rows = executor_.rows();
  result.counts.block_copies = executor_.copies();
  result.counts.evicted_blocks = engine_.kv_cache().statistics().evicted_blocks;
  result.counts.ended_engines = engine_.failure().empty() ? 0 : 1;
  if (!result.failure.empty()) result.failure = detail::join("step ", step_, ": ", result.failure);
  return result;
}

void Simulation::play() {
  while (!wrong()) {
    const bool more = play_events();
    if (wrong()) return;
    if (engine_.has_work()) {
      step();
    } else if (!more) {
      return;
    } else {
      ++step_;
    }
  }
}

// Everything that is due. False if nothing is left.
bool Simulation::play_events() {
  // What waits for updates that never come happens when there is nothing else left to do.
  const bool idle = !engine_.has_work();
  std::vector<Event> later;
  const auto due = [&](const Event& e) {
    return e.step <= step_ && (e.after_updates <= witness_.num_updates() || idle);
  };
  const auto first = std::stable_partition(events_.begin(), events_.end(), due);
  later.assign(std::make_move_iterator(first), std::make_move_iterator(events_.end()));
  events_.erase(first, events_.end());
  std::swap(events_, later);
  for (const Event& event : later) {
    if (wrong()) return true;
    play(event);
  }
  if (idle && later.empty() && !events_.empty()) {  // nothing happens until then
    const auto next = std::min_element(events_.begin(), events_.end(),
                                       [](const Event& a, const Event& b) { return a.step < b.step; });
    step_ = std::max(step_, next->step - 1);
  }
  return !events_.empty() || !later.empty();
}

void Simulation::play(const Event& event) {
  switch (event.kind) {
    case Event::Kind::abort: return abort(event.id);
    case Event::Kind::advance_clock: return clock_.advance(event.by);
    case Event::Kind::add: break;
  }
  EngineRequest request = event.request;
  if (event.time_left) request.deadline = clock_.now() + *event.time_left;
  add(std::move(request), event.must_be_refused);
}

void Simulation::add(EngineRequest request, bool must_be_refused) {
  if (options_.story) *options_.story << "  step " << step_ << ": add request " << request.id << '\n';
  const bool full = is_full_for(request);
  const bool must = must_be_refused || full || witness_.is_live(request.id) || !engine_.failure().empty();
  EngineRequest given = request;
  std::optional<RequestRefusal> refusal;
  if (options_.sabotage != Sabotage::lost_request) {
    const AllocationFaults::Resume resume;
    refusal = engine_.add(std::move(given));
  }
  if (refusal) {
    ++witness_.counts().refused;
    if (refusal->message.empty()) witness_.complain("a refusal without a message");
    if (!must && AllocationFaults::fired == 0)
      witness_.complain(detail::join("request ", request.id, " was refused without a reason: ", refusal->message));
    return;
  }
  if (must) return witness_.complain(detail::join("request ", request.id, " was taken and must be refused"));
  const std::int64_t prompt = static_cast<std::int64_t>(request.sequence.prompt.size());
  const std::int64_t most = std::min(request.sequence.max_new_tokens, scenario_.options.max_model_len - prompt);
  // Whoever is first in order gets on by a row with every step, and is first at most twice: it may be overtaken once by
  // each request that comes later, which is counted with that one.
  work_ += 2 * static_cast<std::int64_t>(request.n) * (prompt + most + 3);
  witness_.expect_request(request);
}

bool Simulation::is_full_for(const EngineRequest& request) const {
  const EngineCoreOptions& o = scenario_.options;
  const auto tokens = static_cast<std::int64_t>(request.sequence.prompt.size());
  return engine_.num_waiting() + static_cast<std::int64_t>(request.n) > o.max_num_waiting ||
         witness_.num_live_prompt_tokens() + tokens > o.max_waiting_tokens;
}

void Simulation::abort(RequestId id) {
  if (options_.story) *options_.story << "  step " << step_ << ": abort request " << id << '\n';
  witness_.expect_abort(id);
  if (options_.sabotage != Sabotage::forgotten_abort) {
    const AllocationFaults::Resume resume;
    engine_.abort(id);
  }
  if (witness_.is_live(id)) witness_.complain(detail::join("request ", id, " was aborted and is not over"));
}

void Simulation::step() {
  if (options_.story) *options_.story << "  step " << step_ << ":\n";
  ++step_;
  ++steps_with_work_;
  const std::int64_t launches = executor_.launches(), updates = witness_.num_updates();
  witness_.expect_step();
  {
    const AllocationFaults::Resume resume;
    engine_.step();
  }
  idle_ = executor_.launches() > launches || witness_.num_updates() > updates ? 0 : idle_ + 1;
  check_books();
  check_progress();
}

void Simulation::check_progress() {
  if (executor_.faults_fired() > faults_seen_) {  // all who run begin anew
    faults_seen_ = executor_.faults_fired();
    work_ += scenario_.options.max_model_len + 3;
  }
  if (idle_ > 1) witness_.complain("steps do nothing although there is work");
  if (steps_with_work_ > work_)
    witness_.complain(detail::join("no end after ", steps_with_work_, " steps, where ", work_, " are enough"));
  if (const auto late = witness_.find_overdue(); late && engine_.failure().empty())
    witness_.complain(detail::join("the time of request ", *late, " is over and it is not"));
  const bool ended = !engine_.failure().empty();
  if (ended && witness_.num_live()) witness_.complain("the engine has ended, and requests have not");
  const bool may_end = executor_.hung() || executor_.failures_in_a_row() >= EngineCore::kMaxFailedSteps;
  if (ended != may_end && !options_.failing_allocation)
    witness_.complain(ended ? "the engine has ended without need" : "the engine goes on after too many failed steps");
}

void Simulation::check_books() {
  witness_.complain(executor_.error());
  witness_.complain(drafter_.error());
  witness_.complain(mirror_.error());
  witness_.complain(engine_.find_inconsistency());
  if (engine_.num_running() > scenario_.options.max_num_seqs) witness_.complain("too many sequences run");
  if (!executor_.hung() && executor_.rows() != witness_.rows_reported())
    witness_.complain(detail::join(executor_.rows(), " rows were computed, ", witness_.rows_reported(), " reported"));
}

void Simulation::check_end() {
  check_books();
  if (witness_.num_live()) witness_.complain(detail::join(witness_.num_live(), " requests never ended"));
  if (engine_.num_running() + engine_.num_waiting()) witness_.complain("sequences are left without a request");
  const KVCacheManager& kv = engine_.kv_cache();
  if (kv.num_available_blocks() != kv.num_blocks() - 1)
    witness_.complain(detail::join(kv.num_available_blocks(), " of ", kv.num_blocks() - 1, " blocks came back"));
  if (drafter_.num_known())
    witness_.complain(detail::join("the drafter remembers ", drafter_.num_known(), " sequences"));
}

}  // namespace

SimulationResult simulate(const Scenario& scenario, const SimulationOptions& options) {
  const AllocationFaults::Pause pause;
  Simulation simulation(scenario, options);
  const AllocationFaults::Armed armed(options.failing_allocation, options.num_failing_allocations);
  return simulation.run();
}

}  // namespace cajal::simulator
