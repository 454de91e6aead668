// However many requests run together, and however the engine runs them: what each gets is what it gets alone, bit for bit.
#include <gtest/gtest.h>

#include <filesystem>

#include "engine/scheduling/requests.h"
#include "engine/test_device.h"

namespace cajal {
namespace {

constexpr std::int64_t kMaxModelLen = 512;

struct ManyCase {
  std::string name;
  ModelOptions model;
  std::uint32_t num_requests = 256;
};

std::string demo(const char* name) { return std::string(CAJAL_SOURCE_DIR "/share/") + name; }

LLMEngineOptions usual_options() {
  LLMEngineOptions options;
  options.max_num_seqs = 64;
  options.max_model_len = kMaxModelLen;
  return options;
}

// All engines of a case run on one model, and are held to one run of each sequence by itself.
class ManyAtOnce : public testing::TestWithParam<ManyCase> {
 protected:
  std::unique_ptr<Backend> backend = test_backend(2);
  Model model{GetParam().model, *backend};
  Tokenizer tokenizer = Tokenizer::from_folder(demo("demo-model"));
  std::vector<EngineRequest> requests = some_requests(model);
  std::map<Recorder::Key, Heard> solo = each_alone(requests);

  static std::vector<EngineRequest> some_requests(const Model& model) {
    Mixture mixture(model, true);
    std::vector<EngineRequest> requests;
    for (std::uint32_t i = 0; i < GetParam().num_requests; ++i) requests.push_back(mixture.next());
    return requests;
  }

  // One sequence at a time, each a request of its own, on an engine that shares nothing and guesses nothing.
  std::map<Recorder::Key, Heard> each_alone(std::span<const EngineRequest> some) const {
    LLMEngineOptions options = usual_options();
    options.max_num_seqs = 1;
    options.enable_prefix_caching = false;
    Recorder recorder;
    LLMEngine engine(model, &tokenizer, options, recorder);
    std::map<Recorder::Key, Heard> results;
    for (const EngineRequest& r : some) {
      for (std::uint32_t i = 0; i < r.n; ++i) {
        EngineRequest one = r;
        one.n = 1;
        one.sequence.sequence_index += i;
        EXPECT_FALSE(engine.core().add(one)) << "request " << r.id;
        run_to_the_end(engine.core());
        results[{r.id, i}] = std::move(recorder.sequences.at({r.id, 0}));
        recorder.sequences.clear();
      }
    }
    return results;
  }

  static void run(LLMEngine& engine, std::span<const EngineRequest> some) {
    for (const EngineRequest& r : some) ASSERT_FALSE(engine.core().add(r)) << "request " << r.id;
    run_to_the_end(engine.core());
  }

  static void expect_all_same(const Recorder& recorder, const std::map<Recorder::Key, Heard>& expected) {
    EXPECT_EQ(recorder.updates_after_the_end, 0);
    ASSERT_EQ(recorder.sequences.size(), expected.size());
    for (const auto& [key, heard] : recorder.sequences) expect_same(heard, expected.at(key), name_of(key));
  }

  // Runs all requests on a new engine, and gives what happened.
  Recorder expect_same_with(const LLMEngineOptions& options, const std::string& what) const {
    return expect_same_with(options, what, requests);
  }
  Recorder expect_same_with(const LLMEngineOptions& options, const std::string& what,
                            std::span<const EngineRequest> some) const {
    SCOPED_TRACE(what);
    Recorder recorder;
    LLMEngine engine(model, &tokenizer, options, recorder);
    run(engine, some);
    expect_all_same(recorder, solo);
    return recorder;
  }
};

TEST_P(ManyAtOnce, TheRequestsAreOfAllKinds) {
  std::int64_t stopped = 0, full = 0, with_text = 0, long_ones = 0;
  for (const auto& [key, heard] : solo) {
    ASSERT_EQ(heard.finish_reasons.size(), 1u) << name_of(key);
    stopped += heard.finish_reasons[0] == FinishReason::stop;
    full += heard.finish_reasons[0] == FinishReason::length;
    with_text += !heard.text.empty();
    long_ones += heard.tokens.size() > kKvBlockSize;
  }
  const auto some = static_cast<std::int64_t>(requests.size()) / 20;
  EXPECT_GT(stopped, some);
  EXPECT_GT(full, some);
  EXPECT_GT(with_text, some);
  EXPECT_GT(long_ones, some);
}

TEST_P(ManyAtOnce, InChunksOfAnySize) {
  for (const std::int64_t chunk : {1, 7, 64, 512}) {
    LLMEngineOptions options = usual_options();
    options.prefill_chunk_size = chunk;
    expect_same_with(options, detail::join("chunks of ", chunk));
  }
}

TEST_P(ManyAtOnce, WhenTheCacheIsTooSmallForThem) {
  LLMEngineOptions options = usual_options();
  options.max_num_seqs = 16;
  options.max_num_kv_blocks = 10;
  // Those that grow run side by side: they are served first, which changes nothing else.
  std::vector<EngineRequest> growing_first = requests;
  for (EngineRequest& r : growing_first)
    if (r.sequence.max_new_tokens > kKvBlockSize) r.priority = -5;
  EXPECT_GT(expect_same_with(options, "10 blocks", growing_first).preemptions, 0);
  options.prompt_lookup_num_tokens = 4;
  EXPECT_GT(expect_same_with(options, "10 blocks and guesses", growing_first).preemptions, 0);
}

TEST_P(ManyAtOnce, AlsoInSlots) {
  LLMEngineOptions options = usual_options();
  options.max_num_seqs = 24;
  options.reserve_slots = true;
  expect_same_with(options, "slots");
}

TEST_P(ManyAtOnce, WithOneThread) {
  const auto one = test_backend(1);
  const Model alone(GetParam().model, *one);
  Recorder recorder;
  LLMEngine engine(alone, &tokenizer, usual_options(), recorder);
  run(engine, requests);
  expect_all_same(recorder, solo);
}

TEST_P(ManyAtOnce, WithGuessesLookedUp) {
  LLMEngineOptions options = usual_options();
  options.prompt_lookup_num_tokens = 6;
  const Recorder recorder = expect_same_with(options, "prompt lookup");
  EXPECT_GT(recorder.num_accepted, 0);
  EXPECT_GT(recorder.num_guesses, recorder.num_accepted);
}

TEST_P(ManyAtOnce, WithAnAssistantThatIsAnotherModel) {
  const Model other({.folder = demo("demo-model-moe"), .load_format = LoadFormat::dummy, .dummy_seed = 5}, *backend);
  const Model trained({.folder = demo(GetParam().name == "DemoMoe" ? "demo-model" : "demo-model-moe")}, *backend);
  LLMEngineOptions options = usual_options();
  options.num_assistant_tokens = 3;
  for (const Model* assistant : {&other, &trained}) {
    options.assistant_model = assistant;
    const Recorder recorder = expect_same_with(options, assistant->name());
    EXPECT_GT(recorder.num_guesses, recorder.num_accepted);
  }
}

TEST_P(ManyAtOnce, WithTheModelAsItsOwnAssistantEveryGuessIsRight) {
  LLMEngineOptions options = usual_options();
  options.assistant_model = &model;
  options.num_assistant_tokens = 4;
  const Recorder recorder = expect_same_with(options, "itself");
  EXPECT_GT(recorder.num_accepted, 0);
  // Only a sequence that ends by a token or a stop string leaves guesses behind it; one that is full never guesses more
  // than it may still say.
  EXPECT_LE(recorder.drafts_cut_short, recorder.count(FinishReason::stop));
}

TEST_P(ManyAtOnce, WhenPromptsContainWhatWasAnsweredBefore) {
  LLMEngineOptions options = usual_options();
  Recorder recorder;
  LLMEngine engine(model, &tokenizer, options, recorder);
  run(engine, requests);
  std::vector<EngineRequest> again;
  for (const EngineRequest& r : requests) {
    EngineRequest next = r;
    next.sequence.max_new_tokens = 3;
    for (const GeneratedToken& t : solo.at({r.id, 0}).tokens) next.sequence.prompt.push_back(t.chosen.token_id);
    if (std::ssize(next.sequence.prompt) + 3 < kMaxModelLen) again.push_back(std::move(next));
  }
  const std::int64_t hits = engine.core().kv_cache().statistics().prefix_hits;
  recorder.sequences.clear();
  run(engine, again);
  expect_all_same(recorder, each_alone(again));
  EXPECT_GT(engine.core().kv_cache().statistics().prefix_hits, hits);
  std::int64_t generated_blocks = 0;
  for (const EngineRequest& r : again)
    generated_blocks += recorder.sequences.at({r.id, 0}).num_cached_tokens > std::ssize(requests[r.id].sequence.prompt);
  EXPECT_GT(generated_blocks, std::ssize(requests) / 20);
}

std::string case_name(const testing::TestParamInfo<ManyCase>& info) { return info.param.name; }

// Few on a small model in every run; all of them, and on more models, where there is time.
INSTANTIATE_TEST_SUITE_P(Few, ManyAtOnce, testing::Values(ManyCase{"Demo", {.folder = demo("demo-model")}, 32}),
                         case_name);
std::vector<ManyCase> all_cases() {
  ModelOptions shape{.folder = CAJAL_SOURCE_DIR "/bench/shapes/Qwen3-0.6B", .load_format = LoadFormat::dummy};
  // The vocabulary of the demo models, so that there is text and an assistant.
  shape.config_overrides = parse_json(R"({"num_hidden_layers": 2, "vocab_size": 4096})", "overrides");
  return {{"Demo", {.folder = demo("demo-model")}},
          {"DemoMoe", {.folder = demo("demo-model-moe")}},
          {"Shape06B", shape, 40}};
}
INSTANTIATE_TEST_SUITE_P(AllSlow, ManyAtOnce, testing::ValuesIn(all_cases()), case_name);

}  // namespace
}  // namespace cajal
