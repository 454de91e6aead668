// config.json: what each key does, what is refused and how it is said.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "base/error.h"
#include "models/qwen3_config.h"

namespace cajal {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Json dense() {
  return parse_json(R"({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 320,
      "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
      "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 512, "torch_dtype": "bfloat16"})",
                    "config.json");
}
Json moe() {
  Json json = dense();
  json.set("architectures", Json(Json::Array{"Qwen3MoeForCausalLM"}));
  json.set("model_type", "qwen3_moe");
  json.set("num_experts", 8);
  json.set("num_experts_per_tok", 2);
  json.set("moe_intermediate_size", 48);
  return json;
}
// `json` with a member set to a value given as text; "absent" removes the member.
Json with(Json json, std::string_view key, const char* value) {
  if (std::string_view(value) != "absent") {
    json.set(key, parse_json(value, "value"));
    return json;
  }
  Json::Object rest;
  for (auto& [name, member] : json.as_object())
    if (name != key) rest.emplace_back(name, member);
  return Json(std::move(rest));
}
Qwen3Config read(const Json& json) { return read_qwen3_config(json, "config.json"); }
std::string refusal(const Json& json) {
  try {
    read(json);
  } catch (const Error& e) {
    EXPECT_TRUE(e.message().starts_with("config.json")) << e.message();
    EXPECT_NE(e.remedy(), "") << e.message();
    return e.message();
  }
  return "accepted";
}

TEST(Qwen3Config, HoldsWhatTheFileSays) {
  const Qwen3Config c = read(dense());
  EXPECT_EQ(c.model_type, "qwen3");
  EXPECT_EQ(c.vocab_size, 320);
  EXPECT_EQ(c.hidden_size, 64);
  EXPECT_EQ(c.intermediate_size, 96);
  EXPECT_EQ(c.num_hidden_layers, 4);
  EXPECT_EQ(c.num_attention_heads, 4);
  EXPECT_EQ(c.num_key_value_heads, 2);
  EXPECT_EQ(c.head_dim, 32);
  EXPECT_EQ(c.max_position_embeddings, 512);
  EXPECT_EQ(c.dtype, DType::bf16);
  EXPECT_TRUE(c.has_dtype);
  EXPECT_EQ(c.num_experts, 0);
  EXPECT_THAT(c.sparse_layer, ElementsAre(false, false, false, false));
  EXPECT_THAT(c.sliding_window, ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(c.eos_token_id, IsEmpty());
}

TEST(Qwen3Config, HasHuggingFacesDefaults) {
  const Json bare = parse_json(R"({"model_type": "qwen3", "vocab_size": 320, "hidden_size": 1024,
      "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 32})",
                               "config.json");
  const Qwen3Config c = read(bare);
  EXPECT_EQ(c.head_dim, 128) << "not hidden_size / num_attention_heads";
  EXPECT_EQ(c.num_key_value_heads, 32);
  EXPECT_EQ(c.rms_norm_eps, 1e-6f);
  EXPECT_FALSE(c.attention_bias);
  EXPECT_FALSE(c.tie_word_embeddings);
  EXPECT_EQ(c.max_position_embeddings, 32768);
  EXPECT_EQ(c.rope.theta, 10000.0);
  EXPECT_FALSE(c.has_dtype);
}

TEST(Qwen3Config, MoeTakesItsHeadDimFromTheHiddenSize) {
  EXPECT_EQ(read(with(moe(), "head_dim", "absent")).head_dim, 16);
  EXPECT_EQ(read(with(moe(), "head_dim", "null")).head_dim, 16);
  EXPECT_EQ(read(with(dense(), "head_dim", "absent")).head_dim, 128);
  EXPECT_THAT(refusal(with(dense(), "head_dim", "null")), HasSubstr("head_dim"));
  EXPECT_THAT(refusal(with(with(moe(), "head_dim", "absent"), "hidden_size", "3")), HasSubstr("head_dim"));
}

TEST(Qwen3Config, TakesNumbersAndBooleansAsPythonDoes) {
  Json json = with(dense(), "hidden_size", "64.0");
  json = with(with(json, "attention_bias", "1"), "tie_word_embeddings", "1.0");
  json = with(with(json, "rms_norm_eps", "1"), "max_position_embeddings", "1e3");
  const Qwen3Config c = read(json);
  EXPECT_EQ(c.hidden_size, 64);
  EXPECT_TRUE(c.attention_bias);
  EXPECT_TRUE(c.tie_word_embeddings);
  EXPECT_EQ(c.rms_norm_eps, 1.0f);
  EXPECT_EQ(c.max_position_embeddings, 1000);
  EXPECT_EQ(read(with(dense(), "num_key_value_heads", "null")).num_key_value_heads, 4);
  EXPECT_FALSE(read(with(dense(), "attention_bias", "null")).attention_bias);
}

TEST(Qwen3Config, RefusesShapesThatMakeNoSense) {
  for (const char* key :
       {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"}) {
    EXPECT_THAT(refusal(with(dense(), key, "absent")), HasSubstr("'" + std::string(key) + "' is missing"));
    EXPECT_THAT(refusal(with(dense(), key, "null")), HasSubstr("'" + std::string(key) + "' is null"));
    for (const char* value : {"0", "-1", "1.5", "1e9", "9223372036854775807", "1e300", "true", R"("64")", "[64]"})
      EXPECT_THAT(refusal(with(dense(), key, value)), AllOf(HasSubstr(key), HasSubstr("expected"))) << value;
  }
  for (const char* value : {"0", "3", "-1", "1e9"})
    EXPECT_THAT(refusal(with(dense(), "num_key_value_heads", value)), HasSubstr("num_key_value_heads")) << value;
  for (const char* value : {"0", "31", "1e9"})
    EXPECT_THAT(refusal(with(dense(), "head_dim", value)), HasSubstr("head_dim")) << value;
  EXPECT_THAT(refusal(with(dense(), "rms_norm_eps", "-1e-6")), HasSubstr("rms_norm_eps"));
  EXPECT_THAT(refusal(with(dense(), "max_position_embeddings", "0")), HasSubstr("max_position_embeddings"));
  EXPECT_EQ(refusal(with(dense(), "num_hidden_layers", "1000000000")),
            "config.json: 'num_hidden_layers' is 1000000000, expected an integer from 1 to 4096");
  Json vast = with(with(dense(), "hidden_size", "4194304"), "intermediate_size", "4194304");
  EXPECT_THAT(refusal(with(vast, "num_hidden_layers", "4096")), HasSubstr("parameters"));
  vast = with(with(moe(), "hidden_size", "4194304"), "moe_intermediate_size", "4194304");
  vast = with(with(vast, "num_hidden_layers", "4096"), "num_experts", "16384");
  EXPECT_THAT(refusal(vast), HasSubstr("parameters"));
  EXPECT_THAT(refusal(parse_json("[]", "config.json")), HasSubstr("is an array, expected an object"));
}

TEST(Qwen3Config, KnowsItsArchitecturesAndRefusesOthersByName) {
  EXPECT_EQ(refusal(with(dense(), "architectures", "absent")), "accepted");
  EXPECT_EQ(refusal(with(dense(), "architectures", "[]")), "accepted");
  EXPECT_EQ(refusal(with(dense(), "model_type", "absent")), "accepted");
  EXPECT_EQ(read(with(moe(), "model_type", "absent")).model_type, "qwen3_moe");
  EXPECT_EQ(refusal(with(dense(), "architectures", R"(["Qwen3Model"])")), "accepted");
  EXPECT_EQ(refusal(with(dense(), "architectures", R"(["FSDPQwen3ForCausalLM"])")), "accepted");
  EXPECT_THAT(refusal(with(with(dense(), "architectures", "absent"), "model_type", "absent")),
              HasSubstr("neither 'model_type' nor 'architectures'"));
  for (const char* type : {"qwen2", "llama", "qwen3_next", "qwen3_vl", "qwen3_omni_moe", "qwen3_5"})
    EXPECT_THAT(refusal(with(dense(), "model_type", ("\"" + std::string(type) + "\"").c_str())),
                HasSubstr("'model_type' is \"" + std::string(type)));
  for (const char* name : {"Qwen2ForCausalLM", "Qwen3NextForCausalLM", "Qwen3VLForConditionalGeneration",
                           "Qwen3ForGuardModel", "LlamaForCausalLMEagle3", "Qwen3ForSequenceClassification"})
    EXPECT_THAT(refusal(with(dense(), "architectures", ("[\"" + std::string(name) + "\"]").c_str())), HasSubstr(name));
  EXPECT_THAT(refusal(with(dense(), "architectures", R"(["Qwen3ForSequenceClassification"])")),
              HasSubstr("classification head"));
  try {
    read_qwen3_config(with(dense(), "architectures", R"(["Qwen3ForSequenceClassification"])"), "config.json");
  } catch (const Error& e) {
    EXPECT_THAT(e.remedy(), HasSubstr("cajal rerank")) << "what to do with a reranker";
  }
  EXPECT_THAT(refusal(with(dense(), "architectures", R"(["Qwen3MoeForCausalLM"])")), HasSubstr("qwen3"));
  const Json remote = with(dense(), "auto_map", R"({"AutoModel": "modeling.Guard"})");
  EXPECT_EQ(refusal(remote), "accepted") << "Hugging Face takes its own class as well";
  EXPECT_THAT(refusal(with(remote, "architectures", R"(["Qwen3ForGuardModel"])")), HasSubstr("auto_map"));
}

TEST(Qwen3Config, KnowsAModelWithoutAHead) {
  const auto is_base = [](const char* architectures) {
    return read_qwen3_config(with(dense(), "architectures", architectures), "config.json").base_model;
  };
  EXPECT_TRUE(is_base(R"(["Qwen3Model"])"));
  EXPECT_FALSE(is_base(R"(["Qwen3ForCausalLM"])"));
  EXPECT_FALSE(is_base("absent"));
}

TEST(Qwen3Config, RefusesByNameWhatItDoesNotDo) {
  struct Unsupported {
    const char *key, *value, *says;
  };
  for (const Unsupported& u : {
           Unsupported{"quantization_config", R"({"quant_method": "fp8"})", "\"fp8\""},
           Unsupported{"quantization_config", R"({"bits": 4})", "quantization_config"},
           Unsupported{"quantization", R"({"group_size": 64, "bits": 4})", "quantization"},
           Unsupported{"compression_config", R"({"quant_method": "compressed-tensors"})", "compressed-tensors"},
           Unsupported{"hidden_act", R"("gelu")", "\"gelu\""},
           Unsupported{"use_qk_norm", "false", "use_qk_norm"},
           Unsupported{"qkv_bias", "true", "qkv_bias"},
           Unsupported{"mlp_bias", "true", "mlp_bias"},
           Unsupported{"shared_expert_intermediate_size", "512", "shared_expert_intermediate_size"},
           Unsupported{"is_causal", "false", "is_causal"},
           Unsupported{"torch_dtype", R"("float8_e4m3fn")", "float8_e4m3fn"},
       })
    EXPECT_THAT(refusal(with(dense(), u.key, u.value)), AllOf(HasSubstr(u.key), HasSubstr(u.says)));
}

TEST(Qwen3Config, IgnoresWhatChangesNothing) {
  Json json = dense();
  for (const char* key : {"quantization_config", "quantization", "auto_map", "rope_scaling", "sliding_window",
                          "use_qk_norm", "qkv_bias", "layer_types", "mlp_only_layers"})
    json = with(json, key, "null");
  json = with(with(json, "quantization_config", "{}"), "use_qk_norm", "true");
  json = with(with(json, "qkv_bias", "false"), "shared_expert_intermediate_size", "0");
  json = with(with(json, "attention_dropout", "0.1"), "temperature", "0.6");
  json = with(with(json, "hidden_act", R"("silu")"), "transformers.js_config", R"({"dtype": "q4"})");
  json = with(with(json, "dual_chunk_attention_config", R"({"chunk_size": 262144})"), "num_beams", "4");
  const Qwen3Config c = read(json), plain = read(dense());
  EXPECT_EQ(c, plain);
}

TEST(Qwen3Config, ReadsTheDtype) {
  const auto dtype = [](const char* old_key, const char* new_key) {
    return read(with(with(dense(), "torch_dtype", old_key), "dtype", new_key)).dtype;
  };
  EXPECT_EQ(dtype(R"("float32")", "absent"), DType::f32);
  EXPECT_EQ(dtype(R"("float32")", R"("float16")"), DType::f16);
  EXPECT_EQ(dtype("absent", R"("torch.float32")"), DType::f32);
  EXPECT_FALSE(read(with(dense(), "torch_dtype", "null")).has_dtype);
}

TEST(Qwen3Config, ReadsTokenIds) {
  EXPECT_THAT(read(with(dense(), "eos_token_id", "2")).eos_token_id, ElementsAre(2));
  EXPECT_THAT(read(with(dense(), "eos_token_id", "[151645, 151643]")).eos_token_id, ElementsAre(151645, 151643));
  EXPECT_THAT(read(with(dense(), "eos_token_id", "null")).eos_token_id, IsEmpty());
  EXPECT_EQ(read(with(dense(), "bos_token_id", "1")).bos_token_id, 1);
  EXPECT_EQ(read(with(dense(), "pad_token_id", "-1")).pad_token_id, std::nullopt);
  EXPECT_THAT(refusal(with(dense(), "eos_token_id", "[[2]]")), HasSubstr("eos_token_id"));
  EXPECT_THAT(refusal(with(dense(), "eos_token_id", "1e12")), HasSubstr("eos_token_id"));
}

TEST(Qwen3Config, DenseSlidesFromMaxWindowLayersOn) {
  Json json = with(with(dense(), "sliding_window", "8"), "max_window_layers", "2");
  EXPECT_THAT(read(json).sliding_window, Each(0)) << "use_sliding_window is what turns it on";
  json = with(json, "use_sliding_window", "true");
  EXPECT_THAT(read(json).sliding_window, ElementsAre(0, 0, 8, 8));
  EXPECT_THAT(read(with(json, "max_window_layers", "absent")).sliding_window, Each(0)) << "the default is 28";
  EXPECT_THAT(read(with(json, "max_window_layers", "-1")).sliding_window, Each(8));
  EXPECT_THAT(read(with(json, "sliding_window", "absent")).sliding_window, ElementsAre(0, 0, 4096, 4096));
  for (const char* nothing : {"null", "0", "false"})
    EXPECT_THAT(read(with(json, "sliding_window", nothing)).sliding_window, Each(0)) << nothing;
  EXPECT_THAT(refusal(with(json, "sliding_window", "-8")), HasSubstr("sliding_window"));
  EXPECT_THAT(refusal(with(json, "sliding_window", "true")), HasSubstr("sliding_window"));
}

TEST(Qwen3Config, LayerTypesDecideWhichDenseLayersSlide) {
  Json json =
      with(dense(), "layer_types", R"(["sliding_attention", "full_attention", "sliding_attention", "full_attention"])");
  EXPECT_THAT(refusal(json), HasSubstr("'use_sliding_window' is false"));
  json = with(with(json, "use_sliding_window", "true"), "sliding_window", "8");
  EXPECT_THAT(read(json).sliding_window, ElementsAre(8, 0, 8, 0));
  EXPECT_THAT(refusal(with(json, "sliding_window", "null")), HasSubstr("'sliding_window' is not set"));
  EXPECT_THAT(refusal(with(json, "layer_types", R"(["full_attention"])")),
              HasSubstr("'layer_types' has 1 entries, expected num_hidden_layers, 4"));
  EXPECT_THAT(refusal(with(json, "layer_types", R"(["full_attention", "linear_attention", "conv", 1])")),
              HasSubstr("linear_attention"));
}

TEST(Qwen3Config, EveryMoeLayerSlidesOrNone) {
  Json json = with(with(moe(), "sliding_window", "8"), "max_window_layers", "2");
  EXPECT_THAT(read(json).sliding_window, Each(0));
  json = with(json, "use_sliding_window", "true");
  EXPECT_THAT(read(json).sliding_window, ElementsAre(8, 8, 8, 8));
  EXPECT_THAT(refusal(with(json, "layer_types",
                           R"(["sliding_attention", "full_attention", "full_attention", "full_attention"])")),
              HasSubstr("layer_types"));
}

TEST(Qwen3Config, SaysWhichMoeLayersAreSparse) {
  EXPECT_THAT(read(moe()).sparse_layer, Each(true));
  Json json = with(moe(), "num_hidden_layers", "5");
  json = with(with(json, "decoder_sparse_step", "2"), "mlp_only_layers", "[1, 99, -1]");
  EXPECT_THAT(read(json).sparse_layer, ElementsAre(false, false, false, true, false));
  EXPECT_THAT(read(with(moe(), "num_experts", "0")).sparse_layer, Each(false));
  EXPECT_THAT(refusal(with(moe(), "decoder_sparse_step", "0")), HasSubstr("decoder_sparse_step"));
  EXPECT_THAT(refusal(with(moe(), "mlp_only_layers", "1")), HasSubstr("mlp_only_layers"));
  EXPECT_EQ(read(with(moe(), "intermediate_size", "absent")).intermediate_size, 0) << "no layer needs it";
  EXPECT_THAT(refusal(with(json, "intermediate_size", "absent")), HasSubstr("intermediate_size"));
}

TEST(Qwen3Config, ReadsTheExperts) {
  const Qwen3Config c = read(moe());
  EXPECT_EQ(c.num_experts, 8);
  EXPECT_EQ(c.num_experts_per_tok, 2);
  EXPECT_EQ(c.moe_intermediate_size, 48);
  EXPECT_FALSE(c.norm_topk_prob) << "the class's default, although every released file says true";
  EXPECT_TRUE(read(with(moe(), "norm_topk_prob", "true")).norm_topk_prob);
  EXPECT_EQ(read(with(with(moe(), "num_experts", "absent"), "num_local_experts", "4")).num_experts, 4);
  EXPECT_EQ(read(with(moe(), "num_local_experts", "4")).num_experts, 4) << "it wins, as in Transformers 5";
  EXPECT_EQ(read(with(moe(), "num_experts_per_tok", "absent")).num_experts_per_tok, 8);
  EXPECT_THAT(refusal(with(moe(), "num_experts_per_tok", "9")), HasSubstr("at most the number of experts, 8"));
  EXPECT_THAT(refusal(with(moe(), "num_experts", "absent")), HasSubstr("'num_experts' is missing"));
  EXPECT_THAT(refusal(with(moe(), "num_experts", "1e6")), HasSubstr("num_experts"));
}

Json qwen2_moe() {
  return parse_json(R"({"architectures": ["Qwen2MoeForCausalLM"], "model_type": "qwen2_moe", "vocab_size": 320,
      "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 16})",
                    "config.json");
}

TEST(Qwen2MoeConfig, HasHuggingFacesDefaults) {
  const Qwen3Config c = read(qwen2_moe());
  EXPECT_EQ(c.model_type, "qwen2_moe");
  EXPECT_EQ(c.num_key_value_heads, 16);
  EXPECT_EQ(c.head_dim, 4) << "hidden_size / num_attention_heads";
  EXPECT_EQ(c.num_experts, 60);
  EXPECT_EQ(c.num_experts_per_tok, 4);
  EXPECT_EQ(c.moe_intermediate_size, 1408);
  EXPECT_EQ(c.shared_expert_intermediate_size, 5632);
  EXPECT_FALSE(c.norm_topk_prob);
  EXPECT_TRUE(c.qkv_bias);
  EXPECT_FALSE(c.attention_bias) << "that is on o too";
  EXPECT_FALSE(c.qk_norm);
  EXPECT_THAT(c.sparse_layer, Each(true));
  EXPECT_FALSE(read(with(qwen2_moe(), "qkv_bias", "false")).qkv_bias);
  EXPECT_EQ(read(with(qwen2_moe(), "shared_expert_intermediate_size", "0")).shared_expert_intermediate_size, 0);
  EXPECT_TRUE(read(with(qwen2_moe(), "norm_topk_prob", "true")).norm_topk_prob);
  EXPECT_EQ(read(with(qwen2_moe(), "model_type", "absent")).model_type, "qwen2_moe");
  EXPECT_TRUE(read(with(qwen2_moe(), "architectures", R"(["Qwen2MoeModel"])")).base_model);
}

TEST(Qwen2MoeConfig, SlidesInEverySecondLayerBeforeMaxWindowLayers) {
  Json json = with(with(qwen2_moe(), "sliding_window", "8"), "max_window_layers", "2");
  EXPECT_THAT(read(json).sliding_window, Each(0)) << "use_sliding_window is what turns it on";
  json = with(json, "use_sliding_window", "true");
  EXPECT_THAT(read(json).sliding_window, ElementsAre(8, 0, 0, 0));
  EXPECT_THAT(read(with(json, "max_window_layers", "absent")).sliding_window, ElementsAre(8, 0, 8, 0));
  EXPECT_THAT(refusal(with(json, "sliding_window", "null")), HasSubstr("'sliding_window' is not set"));
  EXPECT_EQ(refusal(with(with(json, "sliding_window", "0"), "max_window_layers", "0")), "accepted") << "none slides";
  json = with(json, "layer_types", R"(["full_attention", "sliding_attention", "full_attention", "full_attention"])");
  EXPECT_THAT(read(json).sliding_window, ElementsAre(0, 8, 0, 0));
}

TEST(Qwen2MoeConfig, RefusesByNameWhatItsClassDoesNotKnow) {
  for (const char* key : {"use_qk_norm", "attention_bias", "num_local_experts", "n_shared_experts", "mlp_bias"})
    EXPECT_THAT(refusal(with(qwen2_moe(), key, "2")), HasSubstr("'" + std::string(key) + "' is 2")) << key;
  EXPECT_THAT(refusal(with(qwen2_moe(), "num_key_value_heads", "null")), HasSubstr("num_key_value_heads"));
  EXPECT_THAT(refusal(with(qwen2_moe(), "num_experts_per_tok", "61")), HasSubstr("the number of experts, 60"));
  EXPECT_THAT(refusal(with(qwen2_moe(), "mlp_only_layers", "[0]")), HasSubstr("'intermediate_size' is missing"));
  EXPECT_THAT(refusal(with(qwen2_moe(), "architectures", R"(["Qwen3MoeForCausalLM"])")), HasSubstr("qwen2_moe"));
}

TEST(Qwen3Config, SaysHowLongARequestMayBe) {
  const auto length = [](const char* rope) { return default_max_model_len(read(with(dense(), "rope_scaling", rope))); };
  EXPECT_EQ(length("null"), 512);
  EXPECT_EQ(length(R"({"type": "linear", "factor": 2.5})"), 1280);
  EXPECT_EQ(length(R"({"type": "dynamic", "factor": 4})"), 2048);
  EXPECT_EQ(length(R"({"type": "yarn", "factor": 4})"), 2048);
  EXPECT_EQ(length(R"({"type": "yarn", "factor": 4, "original_max_position_embeddings": 128})"), 512);
  EXPECT_EQ(length(R"({"type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
                       "original_max_position_embeddings": 64})"),
            512);
  EXPECT_EQ(length(R"({"type": "linear", "factor": 0.00001})"), 1);
  Json longest = with(dense(), "max_position_embeddings", "2147483647");
  longest = with(longest, "rope_scaling", R"({"type": "linear", "factor": 1000000})");
  EXPECT_EQ(default_max_model_len(read(longest)), std::numeric_limits<std::int32_t>::max());
}

TEST(Qwen3Config, SaysWhichFileIsNotThere) {
  try {
    load_qwen3_config("/nonexistent");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::not_found);
    EXPECT_THAT(e.message(), HasSubstr("/nonexistent/config.json"));
  }
}

TEST(Qwen3Config, QuotesOnlyTheBeginningOfALongValue) {
  std::string text = "\"";
  for (int i = 0; i < 1000; ++i) text += "\u00e9";
  const std::string message = refusal(with(dense(), "hidden_size", (text + "\"").c_str()));
  EXPECT_LT(message.size(), 250u);
  EXPECT_THAT(message, HasSubstr("\u00e9..."));
}

}  // namespace
}  // namespace cajal
