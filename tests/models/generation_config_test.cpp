// generation_config.json: what is read, what is ignored, what is refused.
#include "models/generation_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace cajal {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

GenerationConfig read(const std::string& json) {
  return read_generation_config(parse_json(json, "generation_config.json"), "generation_config.json");
}
std::string refusal(const std::string& json) {
  try {
    read(json);
  } catch (const Error& e) {
    EXPECT_TRUE(e.message().starts_with("generation_config.json: '")) << e.message();
    EXPECT_NE(e.remedy(), "");
    return e.message();
  }
  return "accepted";
}

TEST(GenerationConfig, ReadsWhatQwen3Publishes) {
  const GenerationConfig g = read(R"({"bos_token_id": 151643, "do_sample": true, "eos_token_id": [151645, 151643],
      "pad_token_id": 151643, "repetition_penalty": 1.05, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0,
      "max_new_tokens": 2048, "max_length": 4096, "transformers_version": "4.51.0"})");
  EXPECT_EQ(g.do_sample, true);
  EXPECT_EQ(g.temperature, 0.6);
  EXPECT_EQ(g.top_k, 20);
  EXPECT_EQ(g.top_p, 0.95);
  EXPECT_EQ(g.min_p, 0.0);
  EXPECT_EQ(g.repetition_penalty, 1.05);
  EXPECT_EQ(g.max_new_tokens, 2048);
  EXPECT_EQ(g.max_length, 4096);
  EXPECT_THAT(g.eos_token_id, ElementsAre(151645, 151643));
  EXPECT_EQ(g.pad_token_id, 151643);
  EXPECT_EQ(g.bos_token_id, 151643);
}

TEST(GenerationConfig, LeavesOpenWhatIsNotSet) {
  EXPECT_EQ(read("{}"), GenerationConfig());
  EXPECT_EQ(read(R"({"do_sample": null, "top_k": null, "eos_token_id": null, "temperature": null})"),
            GenerationConfig());
  EXPECT_EQ(load_generation_config("/nonexistent"), GenerationConfig());
  EXPECT_THAT(read(R"({"eos_token_id": 2})").eos_token_id, ElementsAre(2));
  EXPECT_THAT(read(R"({"eos_token_id": []})").eos_token_id, IsEmpty());
  EXPECT_EQ(read(R"({"top_k": -1})").top_k, 0);
}

TEST(GenerationConfig, RefusesByNameWhatItDoesNotDo) {
  for (const char* setting :
       {R"("num_beams": 4)", R"("penalty_alpha": 0.6)", R"("no_repeat_ngram_size": 3)", R"("typical_p": 0.9)",
        R"("epsilon_cutoff": 3e-4)", R"("eta_cutoff": 3e-4)", R"("guidance_scale": 1.5)", R"("min_length": 5)",
        R"("min_new_tokens": 5)", R"("sequence_bias": [[[1], 2.0]])", R"("bad_words_ids": [[1]])",
        R"("forced_bos_token_id": 0)", R"("forced_eos_token_id": [0])", R"("suppress_tokens": [1])",
        R"("begin_suppress_tokens": [1])", R"("exponential_decay_length_penalty": [5, 1.1])",
        R"("watermarking_config": {"bias": 2.5})", R"("stop_strings": ["x"])",
        R"("cache_implementation": "quantized")"}) {
    const std::string text(setting), key = text.substr(1, text.find('"', 1) - 1);
    EXPECT_THAT(refusal("{" + text + "}"), AllOf(HasSubstr("'" + key + "'"), HasSubstr("not supported")));
  }
}

TEST(GenerationConfig, IgnoresWhatChangesNothing) {
  EXPECT_EQ(refusal(R"({"num_beams": 1, "num_beam_groups": 1, "typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0,
      "guidance_scale": null, "no_repeat_ngram_size": 0, "min_length": 0, "min_new_tokens": null, "suppress_tokens": [],
      "bad_words_ids": null, "length_penalty": 2.0, "early_stopping": true, "use_cache": false, "penalty_alpha": null,
      "forced_eos_token_id": null, "renormalize_logits": true, "cache_implementation": "static", "new_key": {"a": 1}})"),
            "accepted");
}

TEST(GenerationConfig, RefusesValuesThatMakeNoSense) {
  for (const char* setting :
       {R"("temperature": -1)", R"("temperature": "hot")", R"("top_p": 1.5)", R"("min_p": -0.1)", R"("top_k": -2)",
        R"("top_k": 2.5)", R"("repetition_penalty": 0)", R"("max_new_tokens": 0)", R"("max_length": 1e12)",
        R"("do_sample": "yes")", R"("eos_token_id": "</s>")", R"("pad_token_id": [1, 2])", R"("num_beams": "many")"})
    EXPECT_THAT(refusal("{" + std::string(setting) + "}"), HasSubstr("expected")) << setting;
  EXPECT_THROW(read("[]"), Error);
}

}  // namespace
}  // namespace cajal
