#include <gmock/gmock.h>

#include <cmath>

#include "cli/cli_fixture.h"
#include "cli/generation_request.h"
#include "engine/generation_defaults.h"

namespace cajal::cli {
namespace {

using ::testing::HasSubstr;
using Words = std::vector<std::string>;

class ModelCommands : public testing::Test {
 protected:
  ModelCommands() { folder_.file("config.json", tiny_config()); }

  // A command on a model with random weights and no tokenizer.
  Ran run_on_tiny(const std::string& command, Words more) const {
    Words words{command, folder_.path(), "--load-format", "dummy", "--threads", "1"};
    words.insert(words.end(), more.begin(), more.end());
    return cajal(words);
  }
  TemporaryFolder folder_;
};

TEST_F(ModelCommands, GenerateAnswersInJson) {
  const Ran ran = run_on_tiny(
      "generate", {"--token-ids", "1,2,3", "--max-new-tokens", "4", "--json", "--logprobs", "2", "--ignore-eos"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Json json = ran.json();
  EXPECT_EQ(to_json(*json.find("prompt_token_ids")), "[1,2,3]");
  EXPECT_TRUE(json.find("seed")->is_int());
  EXPECT_EQ(json.find("model")->as_string(), folder_.path());
  const Json& choice = json.find("choices")->as_array().at(0);
  EXPECT_EQ(choice.find("index")->as_int(), 0);
  EXPECT_TRUE(choice.find("text")->is_null()) << "there is no tokenizer";
  EXPECT_EQ(choice.find("finish_reason")->as_string(), "length");
  ASSERT_EQ(choice.find("token_ids")->as_array().size(), 4u);
  ASSERT_EQ(choice.find("logprobs")->as_array().size(), 4u);
  const Json& first = choice.find("logprobs")->as_array()[0];
  EXPECT_EQ(first.find("top")->as_array().size(), 2u);
  EXPECT_EQ(*first.find("token_id"), *first.find("top")->as_array()[0].find("token_id"))
      << "greedy takes the likeliest";
  EXPECT_EQ(to_json(*json.find("usage")), R"({"prompt_tokens":3,"completion_tokens":4,"total_tokens":7})");
  for (const char* key : {"load_ms", "ttft_ms", "tpot_ms", "prompt_tokens_per_s", "completion_tokens_per_s"})
    EXPECT_TRUE(json.find("timings")->find(key) && json.find("timings")->find(key)->is_number()) << key;
}

TEST_F(ModelCommands, GeneratePrintsIdsWhereThereIsNoTokenizer) {
  const Ran plain = run_on_tiny("generate", {"--token-ids", "1,2,3", "--max-new-tokens", "3", "--ignore-eos"});
  EXPECT_THAT(plain.out, testing::MatchesRegex("[0-9]+ [0-9]+ [0-9]+\n"));
  const Ran text = run_on_tiny("generate", {"--prompt", "hello"});
  EXPECT_EQ(text.code, 1);
  EXPECT_THAT(text.err, HasSubstr("tokenizer.json"));
}

TEST_F(ModelCommands, GenerateRepeatsItselfByItsSeed) {
  const Words words{"--token-ids", "1,2,3", "--max-new-tokens",       "6", "--temperature", "1",
                    "--seed",      "7",     "--num-return-sequences", "3", "--json",        "--ignore-eos"};
  const auto choices = [&] { return to_json(*run_on_tiny("generate", words).json().find("choices")); };
  const std::string first = choices();
  EXPECT_EQ(first, choices());
  const Json list = parse_json(first, "choices");
  ASSERT_EQ(list.as_array().size(), 3u);
  EXPECT_NE(*list.as_array()[0].find("token_ids"), *list.as_array()[1].find("token_ids"));
}

TEST_F(ModelCommands, GenerateReadsIdsFromAFile) {
  const std::string file = folder_.file("ids.json", "[1, 2, 3]\n");
  const Words rest{"--max-new-tokens", "2", "--ignore-eos"};
  Words by_file{"--token-ids-file", file}, by_flag{"--token-ids", "1 2 3"};
  by_file.insert(by_file.end(), rest.begin(), rest.end());
  by_flag.insert(by_flag.end(), rest.begin(), rest.end());
  EXPECT_EQ(run_on_tiny("generate", by_file).out, run_on_tiny("generate", by_flag).out);
}

TEST_F(ModelCommands, RefuseIdsAndLengthsThatDoNotFit) {
  const std::pair<Words, int> cases[] = {{{"--token-ids", "96"}, 1},
                                         {{"--token-ids", ""}, 1},
                                         {{"--token-ids", "1,2,3", "--max-model-len", "2"}, 1},
                                         {{"--token-ids-file", "/nope"}, 1},
                                         {{}, 2}};
  for (const auto& [words, code] : cases)
    for (const char* command : {"generate", "score"}) {
      const Ran ran = run_on_tiny(command, words);
      EXPECT_EQ(ran.code, code) << command << ran.err;
      EXPECT_EQ(ran.out, "");
    }
  EXPECT_EQ(run_on_tiny("generate", {"--token-ids", "1,2,3", "--max-model-len", "3"}).code, 1)
      << "no room for an answer";
  EXPECT_EQ(run_on_tiny("score", {"--token-ids", "1,2,3", "--max-model-len", "3"}).code, 0);
  EXPECT_EQ(run_on_tiny("generate", {"--token-ids", "1", "--stop", "x"}).code, 1) << "no text, so nothing to stop at";
}

TEST_F(ModelCommands, GoBeyondTheConfigurationWhenToldTo) {
  std::string ids = "1";
  for (int i = 0; i < 140; ++i) ids += ",1";
  EXPECT_EQ(run_on_tiny("score", {"--token-ids", ids}).code, 1);
  testing::internal::CaptureStderr();
  EXPECT_EQ(run_on_tiny("score", {"--token-ids", ids, "--max-model-len", "160"}).code, 0);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("made for 128 tokens"));
}

TEST_F(ModelCommands, ScoreGivesLogprobsWithNullFirst) {
  const Json json = run_on_tiny("score", {"--token-ids", "1,2,3", "--json", "--top-logprobs", "2"}).json();
  const Json::Array& logprobs = json.find("logprobs")->as_array();
  ASSERT_EQ(logprobs.size(), 3u);
  EXPECT_TRUE(logprobs[0].is_null());
  const Json::Array& top = json.find("top_logprobs")->as_array();
  ASSERT_EQ(top.size(), 3u);
  EXPECT_TRUE(top[0].is_null());
  EXPECT_EQ(top[1].as_array().size(), 2u);
  EXPECT_FALSE(run_on_tiny("score", {"--token-ids", "1,2,3", "--json"}).json().find("top_logprobs"));
  const double perplexity = std::exp(-(logprobs[1].as_double() + logprobs[2].as_double()) / 2);
  EXPECT_NEAR(std::stod(run_on_tiny("score", {"--token-ids", "1,2,3"}).out), perplexity, 1e-9 * perplexity);
}

TEST_F(ModelCommands, ScoreAgreesWithGenerate) {
  const Json generated = run_on_tiny("generate", {"--token-ids", "1,2,3", "--max-new-tokens", "3", "--json",
                                                  "--logprobs", "0", "--ignore-eos"})
                             .json();
  const Json& choice = generated.find("choices")->as_array()[0];
  std::string ids = "1,2,3";
  for (const Json& id : choice.find("token_ids")->as_array()) ids += "," + to_json(id);
  const Json scored = run_on_tiny("score", {"--token-ids", ids, "--json"}).json();
  for (std::size_t i = 0; i < 3; ++i)
    EXPECT_EQ(choice.find("logprobs")->as_array()[i].find("logprob")->as_double(),
              scored.find("logprobs")->as_array()[3 + i].as_double());
}

TEST_F(ModelCommands, ScoreComparesModels) {
  const Json json = run_on_tiny("score", {"--token-ids", "1,2,3", "--json", "--against", folder_.path()}).json();
  EXPECT_EQ(json.find("against")->find("mean_kl")->as_double(), 0);
  EXPECT_EQ(json.find("against")->find("top_1_agreement")->as_double(), 1);
  const Json rounded =
      run_on_tiny("score", {"--token-ids", "1,2,3", "--json", "--against-quantization", "int4"}).json();
  EXPECT_GT(rounded.find("against")->find("mean_kl")->as_double(), 0);
  EXPECT_LT(rounded.find("against")->find("mean_kl")->as_double(), 0.1);
}

TEST_F(ModelCommands, ScoreWritesLogits) {
  const std::string path = folder_.path() + "/logits.safetensors";
  ASSERT_EQ(run_on_tiny("score", {"--token-ids", "1,2,3", "--dump-logits", path}).code, 0);
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  EXPECT_THAT(bytes, HasSubstr(R"("logits")"));
  EXPECT_THAT(bytes, HasSubstr("[3,96]"));
  EXPECT_EQ(run_on_tiny("score", {"--token-ids", "1", "--dump-logits", "/nope/x"}).code, 1);
}

TEST_F(ModelCommands, BenchPrintsARowForEachCase) {
  const Json json = run_on_tiny("bench", {"-p", "8,16", "-n", "2", "-b", "1,2", "-r", "1", "--json"}).json();
  const Json::Array& results = json.find("results")->as_array();
  ASSERT_EQ(results.size(), 6u);
  for (const Json& r : results) {
    EXPECT_TRUE((r.find("n_prompt")->as_int() == 0) != (r.find("n_gen")->as_int() == 0));
    EXPECT_GT(r.find("tokens_per_s")->find("median")->as_double(), 0);
    EXPECT_TRUE(r.find("percent_of_ceiling"));
  }
  for (const char* key : {"device", "model", "dtype", "quantization", "threads"}) EXPECT_TRUE(json.find(key)) << key;
  for (const char* key : {"read_gb_per_s", "bf16_tflops", "int8_tops"})
    EXPECT_TRUE(json.find("ceilings")->find(key)) << key;
  EXPECT_EQ(run_on_tiny("bench", {"-p", "4096", "-n", "0", "-r", "1"}).code, 1) << "longer than the model takes";
}

TEST_F(ModelCommands, InspectNeedsNoWeights) {
  const Json json = cajal({"inspect", folder_.path(), "--json", "--plan"}).json();
  EXPECT_EQ(json.find("config")->find("num_hidden_layers")->as_int(), 2);
  EXPECT_GT(json.find("weight_bytes")->as_int(), 0);
  EXPECT_EQ(json.find("graphs")->as_array().size(), 4u);
  EXPECT_THAT(cajal({"inspect", folder_.path(), "--graph", "token-generation"}).out, HasSubstr("lm_head"));
}

TEST_F(ModelCommands, TakeOverridesOfTheConfiguration) {
  const Ran ran = cajal({"inspect", folder_.path(), "--json", "--hf-overrides", R"({"max_position_embeddings": 64})"});
  EXPECT_EQ(ran.json().find("max_model_len")->as_int(), 64);
}

TEST(Sampling, IsGreedyUnlessAskedFor) {
  GenerateFlags flags;
  GenerationConfig config;
  EXPECT_TRUE(resolve_sampling(flags, config).greedy());
  config.temperature = 0.6;
  EXPECT_TRUE(resolve_sampling(flags, config).greedy()) << "do_sample is not there";
  config.do_sample = true;
  EXPECT_FLOAT_EQ(resolve_sampling(flags, config).temperature, 0.6f);
  flags.temperature = 0;
  EXPECT_TRUE(resolve_sampling(flags, config).greedy()) << "temperature 0 always is";
  config.do_sample = false;
  flags = {};
  flags.top_p = 0.5;
  EXPECT_FALSE(resolve_sampling(flags, config).greedy()) << "a flag of sampling asks for it";
}

TEST(Sampling, GoesByFlagsThenByTheModelsFile) {
  GenerationConfig config;
  config.do_sample = true;
  config.top_k = 20;
  config.top_p = 0.95;
  config.repetition_penalty = 1.1;
  GenerateFlags flags;
  flags.top_k = -1;
  flags.seed = 5;
  const SamplingParams params = resolve_sampling(flags, config);
  EXPECT_EQ(params.top_k, 0);
  EXPECT_FLOAT_EQ(params.top_p, 0.95f);
  EXPECT_FLOAT_EQ(params.repetition_penalty, 1.1f);
  EXPECT_EQ(params.seed, 5u);
}

TEST(MaxNewTokens, AreTheFlagsThenTheFilesThen256) {
  GenerateFlags flags;
  GenerationConfig config;
  EXPECT_EQ(resolve_max_new_tokens(flags.max_new_tokens, config, 10), 256);
  config.max_length = 30;
  EXPECT_EQ(resolve_max_new_tokens(flags.max_new_tokens, config, 10), 20);
  EXPECT_THROW(resolve_max_new_tokens(flags.max_new_tokens, config, 30), Error);
  config.max_new_tokens = 7;
  EXPECT_EQ(resolve_max_new_tokens(flags.max_new_tokens, config, 10), 7);
  flags.max_new_tokens = 3;
  EXPECT_EQ(resolve_max_new_tokens(flags.max_new_tokens, config, 10), 3);
}

}  // namespace
}  // namespace cajal::cli
