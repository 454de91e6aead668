#include "simulator/scenario.h"

#include <algorithm>
#include <limits>
#include <string>

#include "base/checked.h"
#include "simulator/every_other_token.h"
#include "simulator/random.h"

namespace cajal::simulator {
namespace {

constexpr std::int64_t kFarAway = std::numeric_limits<std::int64_t>::max();

// Each is rare by itself; a scenario has two to five of them.
enum class Feature {
  tiny_pool,
  slots,
  few_rows,
  no_prefix_caching,
  families,
  salts,
  siblings,
  aborts,
  deadlines,
  priorities,
  step_faults,
  drafts,
  bad_requests,
  short_queue,
  long_sequences,
  not_finite,
  bursts,
  odd_sampling,
  count
};

class Maker {
 public:
  explicit Maker(std::uint64_t seed) : random_(seed) { scenario_.seed = seed; }

  Scenario make() {
    const std::int64_t count = random_.between(2, 5);
    for (std::int64_t i = 0; i < count; ++i) features_ |= 1u << random_.below(static_cast<int>(Feature::count));
    make_model();
    make_options();
    make_families();
    make_requests();
    make_faults();
    std::stable_sort(scenario_.events.begin(), scenario_.events.end(),
                     [](const Event& a, const Event& b) { return a.step < b.step; });
    return std::move(scenario_);
  }

 private:
  bool has(Feature feature) const { return features_ >> static_cast<int>(feature) & 1; }

  void make_model();
  void make_options();
  void make_families();
  void make_requests();
  void make_faults();
  void add_clock_jump(std::int64_t step);
  std::vector<std::int32_t> make_prompt(std::int64_t length);
  SamplingParams make_sampling();
  void constrain(SequenceRequest& request);
  EngineRequest make_request();
  Event make_add(std::int64_t step);
  void spoil(Event& add);
  void make_abort(const Event& add);

  Random random_;
  Scenario scenario_;
  std::uint32_t features_ = 0;
  std::vector<std::vector<std::int32_t>> families_, prompts_;
  RequestId next_id_ = 1;
};

void Maker::make_model() {
  ModelBehaviour& m = scenario_.model;
  m.seed = random_.bits();
  m.num_salt_tokens = has(Feature::salts) ? 3 : 0;
  m.vocab_size = static_cast<std::int32_t>(random_.pick({16, 24, 33})) + m.num_salt_tokens;
  m.eos_percent = static_cast<std::int32_t>(random_.pick({0, 3, 10, 40}));
  m.peaked_percent = static_cast<std::int32_t>(random_.pick({0, 30, 90}));
  m.nan_per_mille = has(Feature::not_finite) ? static_cast<std::int32_t>(random_.pick({5, 50, 300})) : 0;
  if (has(Feature::drafts)) {
    DraftBehaviour& d = scenario_.draft;
    d.max_draft_tokens = random_.heavy_tailed(1, 8);
    d.right_percent = static_cast<std::int32_t>(random_.pick({0, 50, 90, 100}));
    d.nonsense_percent = static_cast<std::int32_t>(random_.pick({0, 0, 10, 60}));
    d.throw_percent = static_cast<std::int32_t>(random_.pick({0, 0, 10, 100}));
  }
}

void Maker::make_options() {
  EngineCoreOptions& o = scenario_.options;
  o.max_num_seqs = random_.chance(50) ? random_.heavy_tailed(1, 32) : random_.between(2, 12);
  if (has(Feature::few_rows)) o.max_num_seqs = random_.heavy_tailed(1, 9);
  o.max_num_batched_tokens = o.max_num_seqs + (has(Feature::few_rows) ? 0 : random_.heavy_tailed(0, 64));
  o.prefill_chunk_size = random_.heavy_tailed(1, 64);
  if (has(Feature::few_rows) && random_.chance(50)) o.prefill_chunk_size = 1;
  o.max_model_len = random_.chance(30) ? random_.heavy_tailed(2, 40) : random_.between(16, 64);
  if (has(Feature::long_sequences)) o.max_model_len = random_.between(64, 300);
  o.kv_block_size = random_.pick({1, 2, 4, 8, 64});
  o.enable_prefix_caching = !has(Feature::no_prefix_caching);
  o.reserve_slots = has(Feature::slots);
  const std::int64_t one = ceil_div(o.max_model_len, o.kv_block_size);
  const std::int64_t all = one * o.max_num_seqs;
  const std::int64_t slack = has(Feature::tiny_pool) ? random_.pick({0, 0, 1, 2}) : random_.heavy_tailed(0, all);
  o.num_kv_blocks = 1 + (o.reserve_slots ? all : std::min(one + slack, all + 4));
  if (has(Feature::short_queue)) o.max_num_waiting = random_.heavy_tailed(1, 8);
  if (has(Feature::short_queue) && random_.chance(50)) o.max_waiting_tokens = random_.heavy_tailed(1, 100);
  scenario_.step_time = Clock::Time(random_.pick({0, 1'000'000, 1'000'000}));
}

void Maker::make_families() {
  const std::int64_t count = has(Feature::families) ? random_.between(1, 3) : 4;
  for (std::int64_t i = 0; i < count; ++i) {
    auto& family = families_.emplace_back(static_cast<std::size_t>(scenario_.options.max_model_len));
    // Some share a beginning with others, and some repeat themselves.
    const std::int64_t period = random_.heavy_tailed(1, 40);
    for (std::size_t p = 0; p < family.size(); ++p)
      family[p] =
          p >= static_cast<std::size_t>(period) && random_.chance(90)
              ? family[p - static_cast<std::size_t>(period)]
              : static_cast<std::int32_t>(random_.below(scenario_.model.vocab_size - scenario_.model.num_salt_tokens));
  }
}

std::vector<std::int32_t> Maker::make_prompt(std::int64_t length) {
  const ModelBehaviour& m = scenario_.model;
  const auto& family = families_[static_cast<std::size_t>(random_.below(static_cast<std::int64_t>(families_.size())))];
  std::vector<std::int32_t> prompt(family.begin(), family.begin() + length);
  // From somewhere on it goes its own way; with the feature, most often nowhere.
  if (!random_.chance(has(Feature::families) ? 60 : 20))
    for (auto p = static_cast<std::size_t>(random_.below(length)); p < prompt.size(); ++p)
      prompt[p] = static_cast<std::int32_t>(random_.below(m.vocab_size - m.num_salt_tokens));
  return prompt;
}

SamplingParams Maker::make_sampling() {
  SamplingParams s;
  s.seed = static_cast<std::uint64_t>(random_.below(3));
  s.temperature = random_.chance(60) ? 0.0f : random_.pick({0.3f, 1.0f, 2.0f});
  if (!has(Feature::odd_sampling)) return s;
  s.top_k = random_.pick({0, 1, 3, 1000});
  s.top_p = random_.pick({1.0f, 0.5f, 0.9f});
  s.min_p = random_.pick({0.0f, 0.0f, 0.2f});
  s.repetition_penalty = random_.pick({1.0f, 1.3f, 0.7f});
  s.presence_penalty = random_.pick({0.0f, 1.5f});
  s.frequency_penalty = random_.pick({0.0f, 0.7f, -0.5f});
  return s;
}

void Maker::constrain(SequenceRequest& r) {
  TokenConstraints& c = r.constraints;
  if (random_.chance(40)) c.grammar = std::make_shared<EveryOtherToken>();
  if (random_.chance(20))
    c.min_tokens = std::min<std::int64_t>(random_.below(12), std::max<std::int64_t>(0, r.max_new_tokens));
  if (random_.chance(20))
    c.logit_bias = {{static_cast<std::int32_t>(random_.below(8)), random_.pick({-100.0f, 2.0f, 100.0f})}};
}

EngineRequest Maker::make_request() {
  const EngineCoreOptions& o = scenario_.options;
  EngineRequest r;
  r.id = next_id_++;
  const std::int64_t longest = random_.chance(10) ? o.max_model_len : std::max<std::int64_t>(1, o.max_model_len / 2);
  const bool again = !prompts_.empty() && random_.chance(has(Feature::families) ? 30 : 5);
  if (again)  // all of it is in the cache, perhaps
    r.sequence.prompt = prompts_[static_cast<std::size_t>(random_.below(static_cast<std::int64_t>(prompts_.size())))];
  else
    r.sequence.prompt =
        make_prompt(random_.chance(50) ? random_.heavy_tailed(1, longest) : random_.between(1, longest));
  if (has(Feature::salts)) {  // the last token of the prompt tells the executor which salt it runs under
    const std::int64_t salt = random_.below(scenario_.model.num_salt_tokens);
    r.cache_salt = salt == 0 ? "" : std::string(1, static_cast<char>('a' + salt));
    r.sequence.prompt.back() = static_cast<std::int32_t>(scenario_.model.vocab_size - 1 - salt);
  }
  prompts_.push_back(r.sequence.prompt);
  r.sequence.sampling = make_sampling();
  r.sequence.sequence_index = static_cast<std::uint32_t>(random_.chance(90) ? 0 : random_.below(4));
  r.sequence.max_new_tokens = random_.chance(50) ? random_.heavy_tailed(1, o.max_model_len) : o.max_model_len;
  if (random_.chance(3)) r.sequence.max_new_tokens = random_.pick({std::int64_t{0}, kFarAway});
  if (random_.chance(80)) r.sequence.eos_token_ids = {FakeModel::kEos};
  if (random_.chance(10)) r.sequence.eos_token_ids.push_back(static_cast<std::int32_t>(random_.below(16)));
  r.sequence.num_logprobs = random_.pick({-1, -1, -1, -1, 0, 2, scenario_.model.vocab_size});
  // Who guesses knows nothing of constraints, and could not always be right.
  if (has(Feature::odd_sampling) && scenario_.draft.right_percent < 100) constrain(r.sequence);
  if (has(Feature::siblings)) r.n = static_cast<std::uint32_t>(random_.between(1, 4));
  if (has(Feature::priorities))
    r.priority =
        static_cast<std::int32_t>(random_.chance(90) ? random_.between(-1, 1) : random_.pick({INT32_MIN, INT32_MAX}));
  return r;
}

// Makes a request one that no engine may take.
void Maker::spoil(Event& add) {
  EngineRequest& r = add.request;
  add.must_be_refused = true;
  const auto somewhere = static_cast<std::size_t>(random_.below(static_cast<std::int64_t>(r.sequence.prompt.size())));
  switch (random_.below(9)) {
    case 0: r.sequence.prompt.clear(); break;
    case 1: r.sequence.prompt[somewhere] = random_.pick({-1, INT32_MIN}); break;
    case 2: r.sequence.prompt[somewhere] = random_.pick({scenario_.model.vocab_size, INT32_MAX}); break;
    case 3: r.sequence.prompt.resize(static_cast<std::size_t>(scenario_.options.max_model_len) + 1, 1); break;
    case 4: r.n = 0; break;
    case 5: r.n = random_.pick({std::uint32_t{1} << 31, ~std::uint32_t{0}}); break;
    case 6: r.sequence.num_logprobs = scenario_.model.vocab_size + 1; break;
    case 7: r.sequence.max_new_tokens = random_.pick({std::int64_t{-1}, -kFarAway}); break;
    default: r.sequence.sampling.temperature = random_.pick({-1.0f, std::numeric_limits<float>::quiet_NaN()});
  }
}

Event Maker::make_add(std::int64_t step) {
  Event e{.kind = Event::Kind::add, .step = step, .request = make_request()};
  if (has(Feature::deadlines) && random_.chance(70))
    e.time_left =
        Clock::Time(random_.pick({std::int64_t{-1}, std::int64_t{0}, random_.heavy_tailed(1, 64) * 1'000'000}));
  if (has(Feature::bad_requests) && random_.chance(30)) spoil(e);
  if (random_.chance(has(Feature::bad_requests) ? 20 : 2))  // an id that may be in use
    e.request.id = static_cast<RequestId>(random_.between(1, static_cast<std::int64_t>(next_id_)));
  if (random_.chance(5)) e.after_updates = random_.heavy_tailed(1, 100);
  return e;
}

void Maker::make_abort(const Event& add) {
  const std::int64_t times = random_.pick({1, 1, 1, 2});
  for (std::int64_t i = 0; i < times; ++i) {
    Event e{.kind = Event::Kind::abort, .step = add.step + random_.heavy_tailed(0, 60)};
    e.id = random_.chance(95) ? add.request.id : static_cast<RequestId>(random_.bits());
    if (random_.chance(20)) e.after_updates = random_.heavy_tailed(1, 100);
    scenario_.events.push_back(e);
  }
}

void Maker::add_clock_jump(std::int64_t step) {
  Event e{.kind = Event::Kind::advance_clock, .step = step};
  e.by = Clock::Time(random_.pick({std::int64_t{1}, std::int64_t{20'000'000}, std::int64_t{3'600'000'000'000}}));
  scenario_.events.push_back(e);
}

void Maker::make_requests() {
  const std::int64_t count = random_.chance(30) ? random_.heavy_tailed(1, 10) : random_.heavy_tailed(10, 120);
  const std::int64_t longest_gap = random_.pick({0, 3, 12, 40});
  std::int64_t step = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const Event add = make_add(step);
    scenario_.events.push_back(add);
    if (random_.chance(has(Feature::aborts) ? 60 : 3)) make_abort(add);
    if (random_.chance(has(Feature::deadlines) ? 15 : 1)) add_clock_jump(step);
    if (!has(Feature::bursts))
      step += random_.heavy_tailed(0, longest_gap);
    else if (random_.chance(10))
      step += random_.heavy_tailed(0, 200);
  }
}

void Maker::make_faults() {
  if (!has(Feature::step_faults) && !(has(Feature::not_finite) && random_.chance(50))) return;
  const auto add = [&](std::int64_t launch) {
    Fault fault{.kind = random_.chance(50) ? Fault::Kind::launch_throws : Fault::Kind::wait_throws, .launch = launch};
    if (random_.chance(2)) fault.kind = Fault::Kind::hang;
    if (has(Feature::not_finite) || random_.chance(10)) fault.kind = Fault::Kind::corrupts;
    scenario_.faults.push_back(fault);
  };
  const std::int64_t count = random_.heavy_tailed(1, 30);
  if (random_.chance(50))  // wherever; three in a row end the engine
    for (std::int64_t i = 0; i < count; ++i)
      add(random_.chance(50) ? random_.heavy_tailed(0, 20) : random_.between(0, 200));
  else  // again and again, and it goes on
    for (std::int64_t launch = 0; launch < 20 * count; launch += random_.between(2, 6)) add(launch);
}

}  // namespace

Scenario make_scenario(std::uint64_t seed) { return Maker(seed).make(); }

}  // namespace cajal::simulator
