#include "simulator/shrink.h"

#include <algorithm>
#include <utility>

#include "base/checked.h"

namespace cajal::simulator {
namespace {

class Shrinker {
 public:
  Shrinker(Scenario scenario, const std::function<bool(const Scenario&)>& fails, int max_tries)
      : best_(std::move(scenario)), fails_(fails), tries_left_(max_tries) {}

  Scenario run() {
    do {
      progress_ = false;
      drop_parts(&Scenario::events);
      drop_parts(&Scenario::faults);
      close_gaps();
      simplify_surroundings();
      for (std::size_t i = 0; i < best_.events.size() && tries_left_ > 0; ++i) simplify_event(i);
    } while (progress_ && tries_left_ > 0);
    return std::move(best_);
  }

 private:
  bool accept(Scenario candidate) {
    if (tries_left_ <= 0) return false;
    --tries_left_;
    if (!fails_(candidate)) return false;
    best_ = std::move(candidate);
    return progress_ = true;
  }
  template <class Change>
  bool attempt(Change&& change) {
    Scenario candidate = best_;
    change(candidate);
    return accept(std::move(candidate));
  }

  // Takes large runs out first, and single ones at last.
  template <class T>
  void drop_parts(std::vector<T> Scenario::*list) {
    for (std::size_t size = std::max<std::size_t>(1, (best_.*list).size() / 2); size > 0; size /= 2)
      for (std::size_t at = 0; at < (best_.*list).size();)
        if (!attempt([&](Scenario& s) {
              const auto begin = (s.*list).begin() + static_cast<std::ptrdiff_t>(at);
              (s.*list).erase(begin, begin + static_cast<std::ptrdiff_t>(std::min(size, (s.*list).size() - at)));
            }))
          at += size;
  }

  // Halves a number towards the least that makes sense, and then goes on one by one.
  template <class Get>
  void lower(std::int64_t least, Get&& get) {
    using Number = std::remove_reference_t<decltype(get(best_))>;
    while (get(best_) > static_cast<Number>(least)) {
      const auto now = static_cast<std::int64_t>(get(best_));
      const auto set = [&](std::int64_t to) {
        Scenario candidate = best_;
        get(candidate) = static_cast<Number>(to);
        repair(candidate);
        return get(candidate) < static_cast<Number>(now) && accept(std::move(candidate));
      };
      if (!set(least) && !set(least + (now - least) / 2) && !set(now - 1)) return;
    }
  }
  template <class T, class Get>
  void reset(const T& to, Get&& get) {
    if (get(best_) != to) attempt([&](Scenario& s) { get(s) = to, repair(s); });
  }

  // Moves an event, and all that follow, to where the one before it is.
  void close_gaps() {
    for (std::size_t i = 0; i < best_.events.size(); ++i) {
      const std::int64_t gap = best_.events[i].step - (i ? best_.events[i - 1].step : 0);
      if (gap > 0)
        attempt([&](Scenario& s) {
          for (std::size_t j = i; j < s.events.size(); ++j) s.events[j].step -= gap;
        });
    }
  }

  // What the engine demands of its options.
  static void repair(Scenario& s) {
    EngineCoreOptions& o = s.options;
    o.max_num_batched_tokens = std::max(o.max_num_batched_tokens, o.max_num_seqs);
    const std::int64_t one = ceil_div(o.max_model_len, o.kv_block_size);
    o.num_kv_blocks = std::max(o.num_kv_blocks, 1 + one * (o.reserve_slots ? o.max_num_seqs : 1));
  }

  void simplify_surroundings() {
    lower(
        1, [](Scenario & s) -> auto& { return s.options.max_num_seqs; });
    lower(
        1, [](Scenario & s) -> auto& { return s.options.max_model_len; });
    lower(
        1, [](Scenario & s) -> auto& { return s.options.num_kv_blocks; });
    lower(
        1, [](Scenario & s) -> auto& { return s.options.kv_block_size; });
    lower(
        1, [](Scenario & s) -> auto& { return s.options.max_num_batched_tokens; });
    lower(
        1, [](Scenario & s) -> auto& { return s.options.prefill_chunk_size; });
    lower(
        0, [](Scenario & s) -> auto& { return s.draft.max_draft_tokens; });
    lower(
        0, [](Scenario & s) -> auto& { return s.draft.nonsense_percent; });
    lower(
        0, [](Scenario & s) -> auto& { return s.draft.throw_percent; });
    lower(
        0, [](Scenario & s) -> auto& { return s.model.nan_per_mille; });
    lower(
        0, [](Scenario & s) -> auto& { return s.model.eos_percent; });
    reset(
        false, [](Scenario & s) -> auto& { return s.options.reserve_slots; });
    reset(
        false, [](Scenario & s) -> auto& { return s.options.enable_prefix_caching; });
    reset(
        EngineCoreOptions{}.max_num_waiting, [](Scenario & s) -> auto& { return s.options.max_num_waiting; });
    reset(
        EngineCoreOptions{}.max_waiting_tokens, [](Scenario & s) -> auto& { return s.options.max_waiting_tokens; });
  }

  void simplify_event(std::size_t i) {
    const auto event = [i](Scenario& s) -> Event& { return s.events[i]; };
    lower(
        0, [&](Scenario & s) -> auto& { return event(s).step; });
    lower(
        0, [&](Scenario & s) -> auto& { return event(s).after_updates; });
    if (best_.events[i].kind != Event::Kind::add || best_.events[i].must_be_refused) return;
    const auto sequence = [&](Scenario& s) -> SequenceRequest& { return event(s).request.sequence; };
    lower(
        1, [&](Scenario & s) -> auto& { return event(s).request.n; });
    lower(
        1, [&](Scenario & s) -> auto& { return sequence(s).max_new_tokens; });
    reset(
        0, [&](Scenario & s) -> auto& { return event(s).request.priority; });
    reset(
        std::nullopt, [&](Scenario & s) -> auto& { return event(s).time_left; });
    reset(
        -1, [&](Scenario & s) -> auto& { return sequence(s).num_logprobs; });
    reset(
        0u, [&](Scenario & s) -> auto& { return sequence(s).sequence_index; });
    attempt([&](Scenario& s) { sequence(s).sampling = {.temperature = 0}; });
    attempt([&](Scenario& s) { sequence(s).eos_token_ids.clear(); });
    // The end of a prompt may say what its salt is, so its beginning goes.
    for (std::size_t size = best_.events[i].request.sequence.prompt.size() / 2; size > 0; size /= 2)
      while (sequence(best_).prompt.size() > size && attempt([&](Scenario& s) {
               auto& prompt = sequence(s).prompt;
               prompt.erase(prompt.begin(), prompt.begin() + static_cast<std::ptrdiff_t>(size));
             })) {
      }
  }

  Scenario best_;
  const std::function<bool(const Scenario&)>& fails_;
  int tries_left_;
  bool progress_ = false;
};

}  // namespace

Scenario shrink(Scenario scenario, const std::function<bool(const Scenario&)>& fails, int max_tries) {
  return Shrinker(std::move(scenario), fails, max_tries).run();
}

}  // namespace cajal::simulator
