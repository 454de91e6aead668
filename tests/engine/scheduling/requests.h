#pragma once
// Requests of every kind for tests of the engine, and who writes down what came of them.
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine/llm_engine.h"

namespace cajal {

// What the engine told of one sequence, and what it told of all.
struct Heard {
  std::vector<GeneratedToken> tokens;
  std::string text, error;
  std::vector<FinishReason> finish_reasons;  // one, if all is well
  std::int64_t num_cached_tokens = 0;
};

class Recorder final : public EngineObserver {
 public:
  using Key = std::pair<RequestId, std::uint32_t>;

  void on_update(const SequenceUpdate& u) noexcept override {
    Heard& heard = sequences[{u.request, u.sequence}];
    if (!heard.finish_reasons.empty()) ++updates_after_the_end;
    if (u.token) heard.tokens.push_back(*u.token);
    heard.text += u.text;
    heard.error += u.error;
    if (u.finish_reason) heard.finish_reasons.push_back(*u.finish_reason);
    heard.num_cached_tokens = u.times->num_cached_tokens;
  }
  void on_step(const StepReport& report) noexcept override {
    ++steps;
    failed_steps += report.failed;
  }
  void on_refused(const RequestRefusal&) noexcept override { ++refused; }
  void on_preempted(const Sequence&) noexcept override { ++preemptions; }
  void on_draft(std::int64_t guesses, std::int64_t accepted) noexcept override {
    num_guesses += guesses;
    num_accepted += accepted;
    drafts_cut_short += accepted < guesses;
  }

  std::int64_t count(FinishReason reason) const {
    std::int64_t n = 0;
    for (const auto& [key, heard] : sequences)
      n += heard.finish_reasons.size() == 1 && heard.finish_reasons[0] == reason;
    return n;
  }

  std::map<Key, Heard> sequences;
  std::int64_t steps = 0, failed_steps = 0, refused = 0, preemptions = 0, updates_after_the_end = 0;
  std::int64_t num_guesses = 0, num_accepted = 0, drafts_cut_short = 0;
};

inline std::vector<std::int32_t> random_tokens(std::mt19937& rng, std::size_t count, std::int64_t vocab_size) {
  std::vector<std::int32_t> ids(count);
  for (auto& id : ids) id = static_cast<std::int32_t>(rng() % static_cast<std::uint64_t>(vocab_size));
  return ids;
}

// Every parameter, alone and with others; every third greedy, of which every second with penalties.
inline SamplingParams sampling_of_kind(std::uint32_t i) {
  SamplingParams s{.temperature = i % 3 == 0 ? 0.0f : 0.4f + 0.2f * static_cast<float>(i % 7)};
  s.seed = 1000 + i / 4;
  if (i % 2) s.repetition_penalty = 1.0f + 0.1f * static_cast<float>(i % 4);
  if (i % 4 == 1) s.presence_penalty = 0.5f;
  if (i % 8 == 3) s.frequency_penalty = 0.7f;
  if (i % 5 == 1) s.top_k = 1 + i % 30;
  if (i % 5 == 2) s.top_p = 0.5f + 0.1f * static_cast<float>(i % 5);
  if (i % 7 == 4) s.min_p = 0.05f;
  return s;
}

// Request i of a mixture: prompts of 1 to 300 tokens, two thirds of them with beginnings that others have too, one in six
// repeating itself; answers of up to 24 tokens, one in eight of up to 199, so that it grows over several blocks.
class Mixture {
 public:
  Mixture(const Model& model, bool with_text, unsigned seed = 1)
      : vocab_size_(model.config().vocab_size), with_text_(with_text), rng_(seed) {
    for (const std::size_t length : {40u, 64u, 130u, 200u, 290u})
      beginnings_.push_back(random_tokens(rng_, length, vocab_size_));
  }

  EngineRequest next() {
    const std::uint32_t i = count_++;
    EngineRequest r{.id = i, .n = i % 5 == 4 ? 2 + i % 2 : 1, .deadline = {}, .cache_salt = {}};
    r.priority = static_cast<std::int32_t>(i * 7 % 3) - 1;
    r.cache_salt = i % 11 == 10 ? "apart" : "";
    SequenceRequest& s = r.sequence;
    s.prompt = prompt(i);
    s.sampling = sampling_of_kind(i);
    s.sequence_index = i % 3;
    s.num_logprobs = static_cast<std::int64_t>(i % 4) - 1;
    s.max_new_tokens = 1 + i * 13 % 24;
    if (i % 8 == 5) {
      s.max_new_tokens = 100 + i * 3 % 100;
    } else {
      if (i % 4 == 2) s.eos_token_ids = random_tokens(rng_, static_cast<std::size_t>(vocab_size_) / 40, vocab_size_);
      if (with_text_ && i % 4 == 3) s.stop = {"e", "the cat", ". A"};
    }
    return r;
  }

 private:
  std::vector<std::int32_t> prompt(std::uint32_t i) {
    const std::size_t length = 1 + rng_() % 300;
    if (i % 6 == 5) {
      const auto word = random_tokens(rng_, 3 + i % 5, vocab_size_);
      std::vector<std::int32_t> repeating(length);
      for (std::size_t p = 0; p < length; ++p) repeating[p] = word[p % word.size()];
      return repeating;
    }
    std::vector<std::int32_t> own = random_tokens(rng_, length, vocab_size_);
    if (i % 3 == 0) return own;
    const auto& beginning = beginnings_[i % beginnings_.size()];
    std::copy_n(beginning.begin(), std::min(length, beginning.size()), own.begin());
    return own;
  }

  std::int64_t vocab_size_;
  bool with_text_;
  std::mt19937 rng_;
  std::vector<std::vector<std::int32_t>> beginnings_;
  std::uint32_t count_ = 0;
};

// Runs an engine until it has nothing to do; its books must be right now and then, and in the end all is free.
inline void run_to_the_end(EngineCore& core) {
  for (int step = 0; core.has_work(); ++step) {
    core.step();
    if (step % 64 == 0) {
      ASSERT_EQ(core.find_inconsistency(), "");
    }
  }
  core.settle();
  ASSERT_EQ(core.find_inconsistency(), "");
  EXPECT_EQ(core.kv_cache().num_available_blocks(), core.kv_cache().num_blocks() - 1);
}

// The same tokens, log-probabilities, text and end, bit for bit.
inline void expect_same(const Heard& heard, const Heard& expected, const std::string& what) {
  EXPECT_EQ(heard.text, expected.text) << what;
  EXPECT_EQ(heard.finish_reasons, expected.finish_reasons) << what;
  ASSERT_EQ(heard.tokens.size(), expected.tokens.size()) << what;
  for (std::size_t t = 0; t < heard.tokens.size(); ++t) {
    ASSERT_EQ(heard.tokens[t].chosen, expected.tokens[t].chosen) << what << ", token " << t;
    ASSERT_EQ(heard.tokens[t].top, expected.tokens[t].top) << what << ", token " << t;
  }
}

inline std::string name_of(const Recorder::Key& key) {
  return detail::join("request ", key.first, ", sequence ", key.second);
}

}  // namespace cajal
