#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "api/api_fixture.h"
#include "cajal/cajal.h"

namespace cajal::testing {
namespace {

using ::testing::HasSubstr;

template <class Body>
Error error_of(Body&& body) {
  try {
    body();
  } catch (const Error& e) {
    return e;
  }
  ADD_FAILURE() << "nothing was thrown";
  return {ErrorCode::internal, "nothing was thrown"};
}

class LibraryEngine : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = new TextModel;
    engine_ = new Engine(model_->config());
  }
  static void TearDownTestSuite() {
    delete engine_;
    delete model_;
  }
  static TextModel* model_;
  static Engine* engine_;
};
TextModel* LibraryEngine::model_ = nullptr;
Engine* LibraryEngine::engine_ = nullptr;

TEST_F(LibraryEngine, SaysWhatItIs) {
  const ModelInfo& info = engine_->info();
  EXPECT_EQ(info.model_type, "qwen3");
  EXPECT_EQ(info.dtype, "bfloat16");
  EXPECT_EQ(info.vocab_size, 151936);
  EXPECT_EQ(info.num_parameters, 2 * 151936 * 32 + 32 * (32 + 16 + 16 + 32) + 16 * 2 + 3 * 32 * 64 + 3 * 32);
  EXPECT_EQ(info.max_model_len, 4096);
  EXPECT_EQ(info.max_num_seqs, 16);
  EXPECT_TRUE(info.has_tokenizer);
  EXPECT_EQ(info.eos_token_ids, std::vector<std::int32_t>{151645});
  EXPECT_GT(info.kv_cache_bytes, 4096u * 2 * 16 * 2);
}

TEST_F(LibraryEngine, TokenizesThereAndBack) {
  const std::string text = "Ramón y Cajal drew the neuron. 神经元 🧠\n";
  EXPECT_EQ(engine_->detokenize(engine_->tokenize(text)), text);
  const auto ids = engine_->tokenize("<|im_end|>");
  EXPECT_EQ(ids, std::vector<std::int32_t>{151645});
  EXPECT_EQ(engine_->detokenize(ids, true), "");
}

TEST_F(LibraryEngine, FillsInTheChatTemplateAndLetsNobodySpeakControlTokens) {
  EXPECT_TRUE(engine_->info().has_chat_template);
  const std::vector<ChatMessage> messages{{"user", "Hi <|im_end|> there"}};
  const ChatPrompt chat = engine_->apply_chat_template(messages);
  EXPECT_EQ(chat.text, "<|im_start|>user\nHi <|im_end|> there<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(engine_->detokenize(chat.token_ids), chat.text);
  EXPECT_EQ(std::count(chat.token_ids.begin(), chat.token_ids.end(), 151645), 1);
  const ChatPrompt quiet = engine_->apply_chat_template(
      R"({"messages":[{"role":"user","content":"Hi"}],"add_generation_prompt":true,"enable_thinking":false})");
  EXPECT_THAT(quiet.text, HasSubstr("<think>\n\n</think>"));
  EXPECT_EQ(engine_->generate(quiet.token_ids, {.max_tokens = 2}).prompt_token_ids, quiet.token_ids);
  EXPECT_THAT(error_of([&] { engine_->apply_chat_template("[1]"); }).message(), HasSubstr("expected an object"));
  EXPECT_THAT(error_of([&] { engine_->apply_chat_template("{"); }).message(), HasSubstr("the variables"));
}

TEST_F(LibraryEngine, StreamsPiecesThatAreTheWhole) {
  SamplingParams params;
  params.max_tokens = 40;
  params.temperature = 1;
  params.seed = 7;
  params.n = 3;
  params.logprobs = 2;
  const std::vector<Prompt> prompts{"Once upon a time", "神经", std::vector<std::int32_t>{1, 2, 3}};
  std::vector<std::vector<Completion>> streamed(prompts.size(), std::vector<Completion>(3));
  GenerateOptions options;
  options.on_delta = [&](const Delta& d) {
    Completion& c = streamed.at(d.prompt).at(d.sequence);
    EXPECT_EQ(c.finish_reason, FinishReason::none) << "a delta after the last";
    c.text += d.text;
    c.token_ids.insert(c.token_ids.end(), d.token_ids.begin(), d.token_ids.end());
    c.logprobs.insert(c.logprobs.end(), d.logprobs.begin(), d.logprobs.end());
    c.finish_reason = d.finish_reason;
  };
  const auto results = engine_->generate(prompts, params, options);
  ASSERT_EQ(results.size(), 3u);
  for (std::size_t i = 0; i < results.size(); ++i) {
    EXPECT_EQ(results[i].seed, 7u);
    EXPECT_EQ(results[i].usage.prompt_tokens, static_cast<std::int64_t>(results[i].prompt_token_ids.size()));
    ASSERT_EQ(results[i].completions.size(), 3u);
    std::int64_t tokens = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      const Completion& c = results[i].completions[k];
      EXPECT_EQ(c.text, streamed[i][k].text);
      EXPECT_EQ(c.token_ids, streamed[i][k].token_ids);
      EXPECT_EQ(c.logprobs, streamed[i][k].logprobs);
      EXPECT_EQ(c.finish_reason, streamed[i][k].finish_reason);
      EXPECT_EQ(c.logprobs.size(), c.token_ids.size());
      EXPECT_EQ(c.logprobs[0].top.size(), 2u);
      EXPECT_GE(c.logprobs[0].top[0].logprob, c.logprobs[0].top[1].logprob);
      tokens += static_cast<std::int64_t>(c.token_ids.size());
    }
    EXPECT_EQ(results[i].usage.completion_tokens, tokens);
    EXPECT_NE(results[i].completions[0].token_ids, results[i].completions[1].token_ids);
    EXPECT_EQ(results[i].text(), results[i].completions[0].text);
  }
}

TEST_F(LibraryEngine, AnswersTheSameWhateverElseRuns) {
  SamplingParams params;
  params.max_tokens = 12;
  params.temperature = 0.9;
  params.seed = 11;
  const std::vector<Prompt> prompts{"one", "a second, and longer, prompt that takes more than a single step to read",
                                    "3"};
  const auto together = engine_->generate(prompts, params);
  for (std::size_t i = 0; i < prompts.size(); ++i)
    EXPECT_EQ(engine_->generate(prompts[i], params).completions[0].token_ids, together[i].completions[0].token_ids);
  std::vector<std::vector<std::int32_t>> from_threads(8);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < from_threads.size(); ++t)
    threads.emplace_back(
        [&, t] { from_threads[t] = engine_->generate(prompts[t % 3], params).completions[0].token_ids; });
  for (auto& thread : threads) thread.join();
  for (std::size_t t = 0; t < from_threads.size(); ++t)
    EXPECT_EQ(from_threads[t], together[t % 3].completions[0].token_ids);
}

TEST_F(LibraryEngine, EndsBeforeAStopStringAndAtAStopToken) {
  SamplingParams params;
  params.max_tokens = 8;
  params.ignore_eos = true;
  const GenerationResult whole = engine_->generate("Once", params);
  EXPECT_EQ(whole.completions[0].finish_reason, FinishReason::length);
  const auto& ids = whole.completions[0].token_ids;
  ASSERT_EQ(ids.size(), 8u);
  params.stop_token_ids = {ids[4]};
  const Completion stopped = engine_->generate("Once", params).completions[0];
  EXPECT_EQ(stopped.finish_reason, FinishReason::stop);
  EXPECT_EQ(stopped.token_ids.back(), ids[4]);
  EXPECT_LE(stopped.token_ids.size(), 5u);
  params.stop_token_ids.clear();
  const std::string text = whole.text();
  ASSERT_GE(text.size(), 2u);
  params.stop = {text.substr(text.size() / 2)};
  EXPECT_EQ(engine_->generate("Once", params).completions[0].finish_reason, FinishReason::stop);
}

TEST_F(LibraryEngine, ScoresAsItGenerates) {
  SamplingParams params;
  params.max_tokens = 10;
  params.logprobs = 0;
  params.ignore_eos = true;
  const GenerationResult result = engine_->generate("Once upon a time", params);
  std::vector<std::int32_t> all = result.prompt_token_ids;
  all.insert(all.end(), result.completions[0].token_ids.begin(), result.completions[0].token_ids.end());
  const ScoreResult score = engine_->score(all, {.top_logprobs = 3});
  ASSERT_EQ(score.logprobs.size(), all.size() - 1);
  EXPECT_EQ(score.top_logprobs.size(), all.size() - 1);
  EXPECT_GT(score.perplexity, 1);
  for (std::size_t i = 0; i < result.completions[0].logprobs.size(); ++i)
    EXPECT_EQ(score.logprobs[result.prompt_token_ids.size() - 1 + i], result.completions[0].logprobs[i].chosen.logprob);
}

TEST_F(LibraryEngine, EndsWithinAStepWhenCancelledAndGoesOn) {
  Cancellation cancellation;
  std::atomic<std::size_t> seen = 0, seen_when_cancelled = 0;
  GenerateOptions options{.on_delta = [&](const Delta& d) { seen += d.token_ids.size(); },
                          .cancellation = cancellation};
  std::thread canceller([&] {
    while (seen < 3) std::this_thread::yield();
    cancellation.cancel();
    seen_when_cancelled = seen.load();
  });
  const Completion cut = engine_->generate("Once", endless(), options).completions[0];
  canceller.join();
  EXPECT_EQ(cut.finish_reason, FinishReason::aborted);
  EXPECT_EQ(cut.token_ids.size(), seen);
  EXPECT_LE(cut.token_ids.size(), seen_when_cancelled + 1);
  EXPECT_TRUE(cancellation.cancelled());
  EXPECT_EQ(engine_->generate("Once", endless(), options).completions[0].token_ids.size(), 0u);
  EXPECT_EQ(engine_->generate("Once", {.max_tokens = 2, .ignore_eos = true}).completions[0].token_ids.size(), 2u);
}

TEST_F(LibraryEngine, LeavesALongPromptWhenCancelled) {
  // 4000 tokens are 250 steps of 16, and no token comes before the last of them.
  const std::vector<std::int32_t> prompt(4000, 5);
  Cancellation cancellation;
  std::thread canceller([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    cancellation.cancel();
  });
  const Completion cut =
      engine_->generate(prompt, endless(), {.on_delta = {}, .cancellation = cancellation}).completions[0];
  canceller.join();
  EXPECT_EQ(cut.finish_reason, FinishReason::aborted);
  EXPECT_EQ(error_of([&] { engine_->score(prompt, {}, cancellation); }).code(), ErrorCode::cancelled);
}

TEST_F(LibraryEngine, GivesBackWhatACallbackThrows) {
  struct Mine {};
  std::size_t calls = 0;
  GenerateOptions options;
  options.on_delta = [&](const Delta&) {
    if (++calls == 2) throw Mine();
  };
  EXPECT_THROW(engine_->generate("Once", endless(), options), Mine);
  EXPECT_EQ(calls, 2u);
}

TEST_F(LibraryEngine, RefusesToWaitForItself) {
  Error e(ErrorCode::internal, "none");
  GenerateOptions options;
  options.on_delta = [&](const Delta&) { e = error_of([&] { engine_->generate("x"); }); };
  engine_->generate("Once", {.max_tokens = 1}, options);
  EXPECT_EQ(e.code(), ErrorCode::invalid_argument);
  EXPECT_THAT(e.remedy(), HasSubstr("submit()"));
}

// What a submitted request has said so far.
struct Listener {
  std::mutex mutex;
  std::condition_variable changed;
  Completion completion;
  OnDelta callback() {
    return [this](const Delta& d) {
      const std::lock_guard lock(mutex);
      completion.text += d.text;
      completion.token_ids.insert(completion.token_ids.end(), d.token_ids.begin(), d.token_ids.end());
      completion.finish_reason = d.finish_reason;
      changed.notify_all();
    };
  }
  template <class Condition>
  void wait(Condition condition) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return condition(completion); });
  }
  void wait_until_over() {
    wait([](const Completion& c) { return c.finish_reason != FinishReason::none; });
  }
};

TEST_F(LibraryEngine, AnswersSubmittedRequestsAsGenerateDoes) {
  const SamplingParams params{.max_tokens = 9, .seed = 3};
  Listener a, b;
  const auto first = engine_->submit("Once", params, a.callback());
  const auto second = engine_->submit("upon", params, b.callback());
  ASSERT_TRUE(first);
  ASSERT_TRUE(second);
  EXPECT_LT(first.id, second.id);
  EXPECT_EQ(first.seed, 3u);
  EXPECT_EQ(first.prompt_tokens, 1);
  a.wait_until_over();
  b.wait_until_over();
  EXPECT_EQ(a.completion.token_ids, engine_->generate("Once", params).completions[0].token_ids);
  EXPECT_EQ(b.completion.token_ids, engine_->generate("upon", params).completions[0].token_ids);
  engine_->abort(first.id);  // over: nothing
  engine_->abort(12345);
}

TEST_F(LibraryEngine, AbortsARunningRequestAndAWaitingOne) {
  Listener running, waiting;
  const auto first = engine_->submit("Once", endless(), running.callback());
  running.wait([](const Completion& c) { return c.token_ids.size() > 2; });
  const auto second = engine_->submit("upon", endless(), waiting.callback());
  engine_->abort(second.id);
  waiting.wait_until_over();
  EXPECT_EQ(waiting.completion.finish_reason, FinishReason::aborted);
  EXPECT_TRUE(waiting.completion.token_ids.empty());
  {
    const std::lock_guard lock(running.mutex);
    EXPECT_EQ(running.completion.finish_reason, FinishReason::none) << "the other request goes on";
  }
  engine_->abort(first.id);
  running.wait_until_over();
  EXPECT_EQ(running.completion.finish_reason, FinishReason::aborted);
}

TEST_F(LibraryEngine, RefusesWithoutThrowingAndGenerateThrows) {
  const auto refused = [&](const Prompt& prompt, const SamplingParams& params) {
    const auto admission = engine_->submit(prompt, params, {});
    EXPECT_FALSE(admission);
    EXPECT_EQ(admission.id, 0u);
    const Error e = error_of([&] { engine_->generate(prompt, params); });
    EXPECT_EQ(e.code(), admission.refusal->code);
    EXPECT_EQ(e.message(), admission.refusal->message);
    return e.message();
  };
  EXPECT_THAT(refused("", {}), HasSubstr("no tokens"));
  EXPECT_THAT(refused(std::vector<std::int32_t>{151936}, {}), HasSubstr("token id 151936 at index 0"));
  EXPECT_THAT(refused(std::vector<std::int32_t>(4096, 1), {}), HasSubstr("4096 tokens"));
  EXPECT_THAT(refused("x", {.n = 0}), HasSubstr("n is 0"));
  EXPECT_THAT(refused("x", {.max_tokens = 0}), HasSubstr("max_tokens is 0"));
  EXPECT_THAT(refused("x", {.temperature = -1}), HasSubstr("temperature is -1"));
  EXPECT_THAT(refused("x", {.top_k = -2}), HasSubstr("top_k is -2"));
  EXPECT_THAT(refused("x", {.top_p = 1.5}), HasSubstr("top_p is 1.5"));
  EXPECT_THAT(refused("x", {.stop = {""}}), HasSubstr("stop[0] is empty"));
  const std::vector<Prompt> prompts{"fine", ""};
  EXPECT_THAT(error_of([&] { engine_->generate(prompts); }).message(),
              HasSubstr("prompts[1]: the prompt has no tokens"));
  EXPECT_TRUE(engine_->generate(std::vector<Prompt>{}).empty());
}

TEST(LibraryEngineAlone, RefusesWhenItsQueueIsFull) {
  const TextModel model;
  EngineConfig config = model.config();
  config.max_num_waiting = 1;
  config.max_num_seqs = 1;
  Engine engine(config);
  Listener running, dropped, waiting;
  engine.submit("Once", endless(), running.callback());
  running.wait([](const Completion& c) { return !c.token_ids.empty(); });
  // Who leaves the queue makes room in it.
  const auto second = engine.submit("upon", endless(), dropped.callback());
  EXPECT_TRUE(second);
  engine.abort(second.id);
  dropped.wait_until_over();
  EXPECT_TRUE(engine.submit("upon", endless(), waiting.callback()));
  const auto third = engine.submit("a", endless(), {});
  ASSERT_TRUE(third.refusal);
  EXPECT_EQ(third.refusal->code, ErrorCode::unavailable);
  Engine moved = std::move(engine);
  engine = std::move(moved);
  // The engine goes with work in it: both end as aborted before its destructor returns.
  { const Engine last = std::move(engine); }
  EXPECT_EQ(running.completion.finish_reason, FinishReason::aborted);
  EXPECT_EQ(waiting.completion.finish_reason, FinishReason::aborted);
}

TEST(LibraryEngineAlone, SaysWhatIsWrongWithAConfig) {
  const TextModel model;
  const auto wrong = [&](auto change) {
    EngineConfig config = model.config();
    change(config);
    return error_of([&] { Engine engine(config); });
  };
  const Error missing = wrong([](EngineConfig& c) { c.model = "/no/such/folder"; });
  EXPECT_EQ(missing.code(), ErrorCode::not_found);
  EXPECT_STREQ(missing.what(), (missing.message() + " — " + missing.remedy()).c_str());
  ::setenv("CAJAL_DEMO_MODEL", "/does/not/exist", 1);
  EXPECT_THAT(wrong([](EngineConfig& c) { c.model = ""; }).message(), HasSubstr("model is empty"));
  ::unsetenv("CAJAL_DEMO_MODEL");
  EXPECT_THAT(wrong([](EngineConfig& c) { c.device = "abacus"; }).message(), HasSubstr("abacus"));
  EXPECT_THAT(wrong([](EngineConfig& c) { c.dtype = "int3"; }).message(), HasSubstr("dtype is 'int3'"));
  EXPECT_EQ(wrong([](EngineConfig& c) { c.dtype = "float16"; }).code(), ErrorCode::unsupported);
  EXPECT_THAT(wrong([](EngineConfig& c) { c.load_format = "tape"; }).message(), HasSubstr("load_format"));
  EXPECT_THAT(wrong([](EngineConfig& c) { c.max_num_seqs = 0; }).message(), HasSubstr("max_num_seqs is 0"));
  EXPECT_THAT(wrong([](EngineConfig& c) { c.hf_overrides = "{"; }).message(), HasSubstr("hf_overrides"));
  EXPECT_THAT(wrong([](EngineConfig& c) { c.hf_overrides = R"({"hidden_act":"tanh"})"; }).message(), HasSubstr("tanh"));
  EXPECT_THAT(wrong([](EngineConfig& c) { c.kv_cache_memory_bytes = 1; }).message(),
              HasSubstr("kv_cache_memory_bytes is 1"));
  EXPECT_EQ(wrong([](EngineConfig& c) { c.load_format = "auto"; }).code(), ErrorCode::not_found);
}

TEST(LibraryEngineAlone, TakesTokenIdsWhereThereIsNoTokenizer) {
  EngineConfig config;
  config.model = golden_folder();
  Engine engine(config);
  EXPECT_FALSE(engine.info().has_tokenizer);
  const Completion c = engine.generate(std::vector<std::int32_t>{1, 2, 3}, {.max_tokens = 4}).completions[0];
  EXPECT_EQ(c.text, "");
  EXPECT_GE(c.token_ids.size(), 1u);
  EXPECT_THAT(error_of([&] { engine.generate("text"); }).message(), HasSubstr("tokenizer.json"));
  EXPECT_FALSE(engine.info().has_chat_template);
  EXPECT_EQ(error_of([&] { engine.apply_chat_template("{}"); }).code(), ErrorCode::not_found);
  EXPECT_THAT(error_of([&] { engine.tokenize("text"); }).message(), HasSubstr("tokenizer.json"));
  EXPECT_THAT(error_of([&] { engine.generate(std::vector<std::int32_t>{1}, {.stop = {"x"}}); }).message(),
              HasSubstr("tokenizer.json"));
}

TEST(LibraryEngineAlone, RunsMoreSequencesThanFitSideBySide) {
  EngineConfig config;
  config.model = golden_folder();
  config.max_num_seqs = 2;
  config.max_model_len = 64;
  Engine engine(config);
  const std::vector<Prompt> prompts(7, std::vector<std::int32_t>{4, 5, 6});
  const auto results = engine.generate(prompts, {.n = 2, .max_tokens = 100});
  for (const auto& result : results) EXPECT_EQ(result.completions[1].token_ids, results[0].completions[0].token_ids);
}

EngineConfig on_ranks(const char* model, std::optional<int> tensor, std::optional<int> expert = {}) {
  EngineConfig config;
  config.model = std::string(CAJAL_SOURCE_DIR "/share/") + model;
  config.device = "cpu";
  config.threads = 2;
  config.max_model_len = 256;
  config.max_num_seqs = 4;
  config.tensor_parallel_size = tensor;
  config.expert_parallel_size = expert;
  return config;
}

TEST(LibraryRanks, SayToTheBitWhatOneRankSays) {
  const std::vector<Prompt> prompts{"The sky is", "What is 47 + 38?", "Once upon a time"};
  for (const char* model : {"demo-model", "demo-model-moe"}) {
    Engine alone(on_ranks(model, {})), ranks(on_ranks(model, 2));
    EXPECT_EQ(alone.info().device.find("ranks"), std::string::npos);
    EXPECT_THAT(ranks.info().device, HasSubstr("2 threads as ranks"));
    EXPECT_LT(ranks.info().weight_bytes, alone.info().weight_bytes * 2 / 3);
    EXPECT_EQ(ranks.info().kv_cache_bytes * 2, alone.info().kv_cache_bytes);  // a rank has one of two kv heads
    EXPECT_EQ(ranks.info().num_parameters, alone.info().num_parameters);
    const SamplingParams params{.n = 2, .max_tokens = 12, .temperature = 0.8, .seed = 7, .logprobs = 2};
    const auto a = alone.generate(prompts, params), b = ranks.generate(prompts, params);
    for (std::size_t i = 0; i < prompts.size(); ++i)
      for (std::size_t k = 0; k < 2; ++k) {
        EXPECT_EQ(b[i].completions[k].token_ids, a[i].completions[k].token_ids);
        EXPECT_EQ(b[i].completions[k].logprobs, a[i].completions[k].logprobs);
      }
    EXPECT_EQ(ranks.score("The sky is blue.").logprobs, alone.score("The sky is blue.").logprobs);
    EXPECT_EQ(ranks.embed(prompts)[1].values, alone.embed(prompts)[1].values);
  }
  Engine alone(on_ranks("demo-model-moe", {})), groups(on_ranks("demo-model-moe", {}, 2));
  EXPECT_EQ(groups.generate("The sky is").completions[0].token_ids,
            alone.generate("The sky is").completions[0].token_ids);
}

TEST(LibraryRanks, GuessAsOneRankDoes) {
  EngineConfig config = on_ranks("demo-model", 2);
  config.assistant_model = config.model;
  Engine alone(on_ranks("demo-model", {})), ranks(config);
  EXPECT_EQ(ranks.generate("The sky is", {.max_tokens = 20}).text(),
            alone.generate("The sky is", {.max_tokens = 20}).text());
}

TEST(LibraryRanks, AreRefusedByName) {
  const auto refusal = [](EngineConfig config) { return error_of([&] { Engine engine(config); }); };
  EXPECT_THAT(refusal(on_ranks("demo-model", 0)).message(), HasSubstr("tensor_parallel_size is 0, expected 1 to 1024"));
  EXPECT_THAT(refusal(on_ranks("demo-model", {}, 1025)).message(), HasSubstr("expert_parallel_size is 1025"));
  EXPECT_THAT(refusal(on_ranks("demo-model-moe", {}, 9)).message(),
              HasSubstr("expert_parallel_size is 9, and the model has 8 experts"));
  EngineConfig config = on_ranks("demo-model", 2);
  config.device = "cuda";
  EXPECT_EQ(refusal(config).code(), ErrorCode::unsupported);
  config = on_ranks("demo-model", {});
  config.capacity_factor = 2;
  EXPECT_THAT(refusal(config).message(), HasSubstr("capacity_factor is 2, and the model has no experts"));
  config.capacity_factor = -1;
  EXPECT_THAT(refusal(config).message(), HasSubstr("capacity_factor is -1, expected a number above 0"));
}

TEST(DemoModel, AnswersWhereNoModelIsNamed) {
  Engine engine({.threads = 1});
  EXPECT_THAT(engine.info().model, HasSubstr("demo-model"));
  const std::vector<ChatMessage> messages{{"user", "What is 47 + 38?"}};
  const ChatPrompt prompt = engine.apply_chat_template(messages);
  EXPECT_THAT(engine.generate(prompt.token_ids, {.max_tokens = 80}).text(), HasSubstr("= 85."));
}

}  // namespace
}  // namespace cajal::testing
