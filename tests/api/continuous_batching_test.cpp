// What the library offers of the engine's scheduling: who runs beside whom, in which order, how long, and what is told of it.
#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>
#include <mutex>
#include <sstream>
#include <thread>

#include "api/api_fixture.h"
#include "cajal/cajal.h"

namespace cajal::testing {
namespace {

using ::testing::HasSubstr;

using Ids = std::vector<std::int32_t>;

// `count` different tokens, which begin with `first`.
Ids tokens_from(std::int32_t first, std::int32_t count) {
  Ids ids;
  for (std::int32_t i = 0; i < count; ++i) ids.push_back(first + i);
  return ids;
}

// An answer whose end somebody waits for.
class Stream {
 public:
  OnDelta callback() {
    return [this](const Delta& d) {
      {
        const std::lock_guard lock(mutex_);
        answer_.token_ids.insert(answer_.token_ids.end(), d.token_ids.begin(), d.token_ids.end());
        answer_.finish_reason = d.finish_reason;
        answer_.metrics = d.metrics;
      }
      if (!begun_ && !d.token_ids.empty()) {
        begun_ = true;
        first_token_.set_value();
      }
      if (d.finish_reason != FinishReason::none) over_.set_value();
    };
  }
  void wait_for_first_token() { first_token_.get_future().wait(); }
  const Completion& wait_until_over() {
    over_.get_future().wait();
    return answer_;
  }
  Completion so_far() {
    const std::lock_guard lock(mutex_);
    return answer_;
  }

 private:
  std::mutex mutex_;
  Completion answer_;
  bool begun_ = false;
  std::promise<void> first_token_, over_;
};

std::unique_ptr<Engine> open(const std::function<void(EngineConfig&)>& change = {}) {
  EngineConfig config;
  config.model = golden_folder();
  config.threads = 1;
  if (change) change(config);
  return std::make_unique<Engine>(config);
}

class ContinuousBatching : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { model_ = new TextModel; }
  static void TearDownTestSuite() { delete model_; }
  static std::unique_ptr<Engine> engine(const std::function<void(EngineConfig&)>& change = {}) {
    EngineConfig config = model_->config();
    if (change) change(config);
    return std::make_unique<Engine>(config);
  }
  static TextModel* model_;
};
TextModel* ContinuousBatching::model_ = nullptr;

TEST_F(ContinuousBatching, ARequestThatComesWhileAnotherRunsGetsItsTokensBesideIt) {
  const auto e = engine();
  Stream first, second;
  const auto running = e->submit("Once", endless(), first.callback());
  first.wait_for_first_token();
  e->submit("upon", {.max_tokens = 4, .ignore_eos = true}, second.callback());
  EXPECT_EQ(second.wait_until_over().token_ids.size(), 4u);
  EXPECT_EQ(first.so_far().finish_reason, FinishReason::none);
  // The same for one that waits for its answer, and for a task.
  EXPECT_EQ(e->generate("a", {.max_tokens = 3, .ignore_eos = true}).completions[0].token_ids.size(), 3u);
  e->score("Once upon a time");
  EXPECT_EQ(first.so_far().finish_reason, FinishReason::none);
  e->abort(running.id);
  EXPECT_EQ(first.wait_until_over().finish_reason, FinishReason::aborted);
}

TEST_F(ContinuousBatching, TasksHoldNobodyUp) {
  const auto e = engine();
  Stream answer;
  Cancellation cancellation;
  // 4000 tokens are read in pieces, between which others come on; what is asked for meanwhile waits neither for the end of
  // the task that runs nor for the task that stands before it in the queue.
  std::vector<std::thread> scoring;
  for (int i = 0; i < 2; ++i)
    scoring.emplace_back([&] { EXPECT_THROW(e->score(Ids(4000, 5), {}, cancellation), Error); });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // so that they come first, most times
  e->submit("Once", {.max_tokens = 3, .ignore_eos = true}, answer.callback());
  EXPECT_EQ(answer.wait_until_over().token_ids.size(), 3u);
  cancellation.cancel();
  for (std::thread& thread : scoring) thread.join();
}

TEST_F(ContinuousBatching, TheLowerPriorityNumberIsServedFirst) {
  const auto e = engine([](EngineConfig& c) { c.max_num_seqs = 1; });
  std::mutex mutex;
  std::vector<std::string> order;
  std::promise<void> all;
  const auto note = [&](std::string name) {
    return [&, name](const Delta& d) {
      if (d.finish_reason == FinishReason::none) return;
      const std::lock_guard lock(mutex);
      order.push_back(name);
      if (order.size() == 4) all.set_value();
    };
  };
  Stream running;
  const auto first = e->submit("Once", endless(), running.callback());
  running.wait_for_first_token();
  const auto submit = [&](const char* name, std::int32_t priority) {
    e->submit("a", {.max_tokens = 2, .ignore_eos = true, .priority = priority}, note(name));
  };
  submit("late", 7);
  submit("usual", 0);
  submit("usual, later", 0);
  submit("urgent", -3);
  e->abort(first.id);
  all.get_future().wait();
  EXPECT_EQ(order, (std::vector<std::string>{"urgent", "usual", "usual, later", "late"}));
}

TEST_F(ContinuousBatching, ACallOfManyPromptsLetsOthersIn) {
  const auto e = engine([](EngineConfig& c) { c.max_num_seqs = 1; });
  std::atomic<std::size_t> answered = 0;
  std::promise<void> begun;
  Cancellation cancellation;
  std::thread many([&] {
    const std::vector<Prompt> prompts(400, "Once");
    GenerateOptions options;
    options.cancellation = cancellation;
    options.on_delta = [&](const Delta& d) {
      if (d.finish_reason != FinishReason::none && ++answered == 1) begun.set_value();
    };
    e->generate(prompts, {.max_tokens = 4, .ignore_eos = true}, options);
  });
  begun.get_future().wait();
  e->generate("one", {.max_tokens = 1});
  EXPECT_LT(answered, 400u);
  cancellation.cancel();
  many.join();
  EXPECT_EQ(answered, 400u);
}

TEST_F(ContinuousBatching, WhatIsNotOverInTimeEndsWithWhatItHas) {
  const auto e = engine();
  SamplingParams params = endless();
  params.timeout_ms = 60;
  const GenerationResult cut = e->generate("Once", params);
  const Completion& answer = cut.completions[0];
  EXPECT_EQ(answer.finish_reason, FinishReason::timeout);
  EXPECT_STREQ(to_string(answer.finish_reason), "timeout");
  EXPECT_LT(answer.token_ids.size(), 4000u);
  EXPECT_GE(answer.metrics.e2e_seconds.value(), 0.06);
  params.timeout_ms = 0;
  const Completion none = e->generate("Once", params).completions[0];
  EXPECT_EQ(none.finish_reason, FinishReason::timeout);
  EXPECT_TRUE(none.token_ids.empty());
  EXPECT_FALSE(none.metrics.ttft_seconds);
  EXPECT_TRUE(none.metrics.queue_seconds);
  params.timeout_ms = std::numeric_limits<std::int64_t>::max();
  params.max_tokens = 2;
  EXPECT_EQ(e->generate("Once", params).completions[0].finish_reason, FinishReason::length);
  params.timeout_ms = -1;
  EXPECT_THROW(e->generate("Once", params), Error);
}

TEST_F(ContinuousBatching, ATimeoutCountsWhileARequestWaits) {
  const auto e = engine([](EngineConfig& c) { c.max_num_seqs = 1; });
  Stream running, waiting;
  const auto first = e->submit("Once", endless(), running.callback());
  running.wait_for_first_token();
  e->submit("upon", {.max_tokens = 2, .timeout_ms = 30}, waiting.callback());
  const Completion& late = waiting.wait_until_over();
  EXPECT_EQ(late.finish_reason, FinishReason::timeout);
  EXPECT_EQ(late.metrics.queue_seconds, late.metrics.e2e_seconds);
  EXPECT_EQ(running.so_far().finish_reason, FinishReason::none);
  e->abort(first.id);
  running.wait_until_over();
}

TEST_F(ContinuousBatching, ASecondEqualPromptIsFoundInTheCacheUnderTheSameSaltAlone) {
  const auto e = engine();
  const Ids prompt = tokens_from(100, 200);
  const auto cached = [&](std::string salt) {
    const SamplingParams params{.max_tokens = 3, .ignore_eos = true, .cache_salt = std::move(salt)};
    return e->generate(prompt, params).completions[0].metrics.cached_tokens;
  };
  EXPECT_EQ(cached(""), 0);
  EXPECT_EQ(cached(""), 192) << "the blocks of 64 tokens that 200 fill";
  EXPECT_EQ(cached("tenant"), 0);
  EXPECT_EQ(cached("tenant"), 192);
  EXPECT_EQ(cached("another"), 0);
  const auto without = engine([](EngineConfig& c) { c.enable_prefix_caching = false; });
  for (int i = 0; i < 2; ++i)
    EXPECT_EQ(without->generate(prompt, {.max_tokens = 3}).completions[0].metrics.cached_tokens, 0);
}

TEST_F(ContinuousBatching, TimesOfAnAnswerFollowEachOther) {
  const auto e = engine();
  Stream stream;
  e->submit("Once", {.max_tokens = 5, .ignore_eos = true}, stream.callback());
  const RequestMetrics streamed = stream.wait_until_over().metrics;
  const auto results = e->generate("Once", {.n = 2, .max_tokens = 5, .ignore_eos = true});
  for (const RequestMetrics& m : {streamed, results.completions[0].metrics, results.completions[1].metrics}) {
    EXPECT_GE(m.queue_seconds.value(), 0);
    EXPECT_GT(m.ttft_seconds.value(), m.queue_seconds.value());
    EXPECT_GT(m.e2e_seconds.value(), m.ttft_seconds.value());
  }
}

TEST_F(ContinuousBatching, ThreadsGetWhatEachWouldGetAlone) {
  const auto e = open([](EngineConfig& c) { c.max_num_seqs = 3; });
  const auto ask = [&](int i) {
    SamplingParams params{
        .n = 2, .max_tokens = 8 + i, .temperature = i % 2 * 0.9, .seed = static_cast<std::uint64_t>(i)};
    std::vector<Ids> ids;
    for (const Completion& c : e->generate(tokens_from(20 * (i % 3), 9 + 9 * i), params).completions)
      ids.push_back(c.token_ids);
    return ids;
  };
  std::vector<std::vector<Ids>> together(12);
  std::vector<std::thread> threads;
  for (int i = 0; i < 12; ++i) threads.emplace_back([&, i] { together[static_cast<std::size_t>(i)] = ask(i); });
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < 12; ++i) EXPECT_EQ(together[static_cast<std::size_t>(i)], ask(i)) << i;
}

TEST_F(ContinuousBatching, ACallbackThatThrowsEndsItsOwnRequestAlone) {
  const auto e = engine();
  Stream other;
  const auto running = e->submit("Once", endless(), other.callback());
  other.wait_for_first_token();
  std::size_t calls = 0;
  e->submit("upon", endless(), [&](const Delta&) {
    ++calls;
    throw std::runtime_error("mine");
  });
  GenerateOptions options;
  options.on_delta = [](const Delta&) { throw std::runtime_error("mine too"); };
  EXPECT_THROW(e->generate("a", endless(), options), std::runtime_error);
  EXPECT_EQ(calls, 1u) << "it is not called again";
  const std::size_t before = other.so_far().token_ids.size();
  while (other.so_far().token_ids.size() < before + 3) std::this_thread::yield();
  EXPECT_EQ(other.so_far().finish_reason, FinishReason::none);
  e->abort(running.id);
  other.wait_until_over();
}

TEST_F(ContinuousBatching, CancellingFreesTheSeatWithinAStep) {
  const auto e = engine([](EngineConfig& c) { c.max_num_seqs = 1; });
  Cancellation cancellation;
  Stream next;
  std::size_t seen = 0;
  GenerateOptions options;
  options.cancellation = cancellation;
  options.on_delta = [&](const Delta& d) {
    seen += d.token_ids.size();
    if (seen == 1 && !d.token_ids.empty()) {
      e->submit("upon", {.max_tokens = 1, .ignore_eos = true}, next.callback());
      cancellation.cancel();
    }
  };
  const Completion cut = e->generate("Once", endless(), options).completions[0];
  EXPECT_EQ(cut.finish_reason, FinishReason::aborted);
  EXPECT_LE(cut.token_ids.size(), 2u) << "one, and that of the step that ran";
  EXPECT_EQ(next.wait_until_over().token_ids.size(), 1u);
}

TEST_F(ContinuousBatching, AnEngineThatGoesEndsWhatItHasAsAborted) {
  auto e = engine([](EngineConfig& c) { c.max_num_seqs = 2; });
  std::vector<Stream> streams(6);
  for (Stream& stream : streams) ASSERT_TRUE(e->submit("Once", endless(), stream.callback()));
  streams[0].wait_for_first_token();
  e.reset();
  for (Stream& stream : streams) EXPECT_EQ(stream.wait_until_over().finish_reason, FinishReason::aborted);
}

TEST_F(ContinuousBatching, GuessesChangeNoAnswer) {
  // Prompts that repeat themselves, so that there is something to look up; an assistant that is the model itself, whose
  // guesses are right, and one of other weights, whose guesses are wrong.
  const std::vector<Prompt> prompts{"one two three one two three one two", Ids(70, 7), "Once upon a time"};
  const SamplingParams greedy{.n = 2, .max_tokens = 20, .ignore_eos = true};
  const SamplingParams sampled{.max_tokens = 20, .temperature = 0.8, .seed = 3, .ignore_eos = true};
  const auto ids = [&](Engine& e) {
    std::vector<Ids> all;
    for (const SamplingParams& params : {greedy, sampled})
      for (const auto& result : e.generate(prompts, params))
        for (const Completion& c : result.completions) all.push_back(c.token_ids);
    return all;
  };
  const auto plain = engine();
  const auto expected = ids(*plain);
  EXPECT_THAT(plain->metrics_text(), ::testing::Not(HasSubstr("spec_decode")));
  const TextModel other(48);
  const auto look_up = engine([](EngineConfig& c) { c.prompt_lookup_num_tokens = 4; });
  const auto itself = engine([](EngineConfig& c) { c.assistant_model = c.model; });
  const auto stranger = engine([&](EngineConfig& c) {
    c.assistant_model = other.config().model;
    c.num_assistant_tokens = 3;
  });
  for (Engine* e : {look_up.get(), itself.get(), stranger.get()}) {
    EXPECT_EQ(ids(*e), expected);
    EXPECT_THAT(e->metrics_text(), HasSubstr("vllm:spec_decode_num_drafts_total{"));
    EXPECT_THAT(e->metrics_text(), ::testing::Not(HasSubstr("kind=\"drafter\"} 1")));
  }
}

TEST_F(ContinuousBatching, RefusesGuessingThatMakesNoSense) {
  const auto refused = [&](const std::function<void(EngineConfig&)>& change) -> std::string {
    try {
      engine(change);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::invalid_argument);
      return e.message();
    }
    return "nothing was thrown";
  };
  EXPECT_THAT(refused([](EngineConfig& c) {
                c.assistant_model = c.model;
                c.prompt_lookup_num_tokens = 2;
              }),
              ::testing::AllOf(HasSubstr("assistant_model"), HasSubstr("prompt_lookup_num_tokens is 2")));
  EXPECT_THAT(refused([](EngineConfig& c) { c.num_assistant_tokens = 7; }),
              ::testing::AllOf(HasSubstr("assistant_model"), HasSubstr("num_assistant_tokens is 7")));
  EXPECT_THAT(refused([](EngineConfig& c) { c.num_assistant_tokens = 0; }), HasSubstr("num_assistant_tokens is 0"));
  EXPECT_THAT(refused([](EngineConfig& c) { c.prompt_lookup_num_tokens = 65; }),
              HasSubstr("prompt_lookup_num_tokens is 65"));
  EXPECT_THAT(refused([](EngineConfig& c) {
                c.model = golden_folder();
                c.assistant_model = model_->config().model;
              }),
              HasSubstr("vocab_size"));
  EXPECT_THAT(refused([](EngineConfig& c) { c.assistant_model = CAJAL_SOURCE_DIR "/share/demo-model"; }),
              ::testing::AllOf(HasSubstr("assistant_model"), HasSubstr("token")));
}

// The series of a text in Prometheus' format, by name with labels.
std::map<std::string, double> parse(const std::string& text) {
  std::map<std::string, double> series;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.empty() || line[0] == '#') continue;
    const std::size_t space = line.rfind(' ');
    EXPECT_TRUE(series.emplace(line.substr(0, space), std::stod(line.substr(space + 1))).second) << line;
  }
  return series;
}

TEST(LibraryMetrics, CountWhatRan) {
  const auto e = open([](EngineConfig& c) { c.max_model_len = 256; });
  const std::string labels = "{engine=\"0\",model_name=\"" + golden_folder() + "\"";
  const Ids prompt = tokens_from(3, 100);
  e->generate(prompt, {.max_tokens = 5, .ignore_eos = true});
  e->generate(prompt, {.n = 2, .max_tokens = 5, .ignore_eos = true});
  e->generate(prompt, {.max_tokens = 100, .ignore_eos = true, .timeout_ms = 0});
  const auto series = parse(e->metrics_text());
  const auto value = [&](const std::string& name, const std::string& more = "") {
    const auto found = series.find(name + labels + more + "}");
    EXPECT_NE(found, series.end()) << name << more;
    return found == series.end() ? -1 : found->second;
  };
  EXPECT_EQ(value("vllm:generation_tokens_total"), 15);
  EXPECT_EQ(value("vllm:prompt_tokens_total"), 300);
  EXPECT_EQ(value("vllm:request_success_total", ",finished_reason=\"length\""), 3);
  EXPECT_EQ(value("vllm:e2e_request_latency_seconds_count"), 3);
  EXPECT_GE(value("cajal:cached_prompt_tokens_total"), 64);
  EXPECT_EQ(value("vllm:num_requests_running"), 0);
}

TEST(LibraryMetrics, MayBeAskedForWhileTheEngineRuns) {
  const auto e = open();
  std::atomic<bool> over = false;
  std::thread asking([&] {
    while (!over) EXPECT_THAT(e->metrics_text(), HasSubstr("vllm:num_requests_running"));
  });
  for (int i = 0; i < 20; ++i) e->generate(Ids{1, 2, 3}, {.max_tokens = 10});
  over = true;
  asking.join();
}

TEST(LibraryTrace, IsCompleteWhenTheEngineIsGone) {
  const std::string path =
      (std::filesystem::temp_directory_path() / ("cajal-trace-" + std::to_string(::getpid()))).string();
  open([&](EngineConfig& c) { c.trace_file = path; })->generate(Ids{1, 2, 3}, {.max_tokens = 4});
  std::ifstream file(path);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::filesystem::remove(path);
  EXPECT_EQ(text.substr(0, 1), "[");
  EXPECT_THAT(text, HasSubstr("\"admitted\""));
  EXPECT_EQ(text[text.find_last_not_of('\n')], ']');
  EXPECT_THROW(open([](EngineConfig& c) { c.trace_file = "/no/such/folder/trace.json"; }), Error);
}

}  // namespace
}  // namespace cajal::testing
