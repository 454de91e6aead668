// neuron_config.json: Optimum Neuron's file is read as it is and written as it was; contradictions are refused.
#include "models/neuron_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace cajal {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// What Optimum Neuron 0.4.6 wrote for Qwen3-8B on a trn1.
constexpr const char* kTheirs = R"({
  "_serialized_key": "NxDNeuronConfig",
  "batch_size": 4,
  "capacity_factor": null,
  "checkpoint_id": "Qwen/Qwen3-8B",
  "checkpoint_revision": "b968826d9c46dd6066d109eabc6255188de91218",
  "continuous_batching": true,
  "ep_degree": 1,
  "fused_qkv": true,
  "glu_mlp": true,
  "local_ranks_size": 8,
  "max_batch_size": 4,
  "max_context_length": 4096,
  "max_topk": 256,
  "n_active_tokens": 4096,
  "neuronxcc_version": "2.21.33363.0+82129205",
  "on_device_sampling": true,
  "optimum_neuron_version": "0.4.6.dev4",
  "output_logits": false,
  "pp_degree": 1,
  "prefill_chunk_size": 1024,
  "sequence_length": 4096,
  "speculation_length": 0,
  "start_rank_id": 0,
  "target": "trn1",
  "torch_dtype": "bfloat16",
  "tp_degree": 8
}
)";

Json theirs() { return parse_json(kTheirs, "neuron_config.json"); }
Json with(Json config, const char* key, Json value) {
  config.set(key, std::move(value));
  return config;
}
Json without(std::string_view key) {
  Json::Object kept;
  const Json json = theirs();
  for (const auto& [name, value] : json.as_object())
    if (name != key) kept.emplace_back(name, value);
  return kept;
}
NeuronConfig read(const Json& json) { return read_neuron_config(json, "neuron_config.json"); }
std::string refusal(const Json& json) {
  try {
    read(json);
  } catch (const Error& e) {
    EXPECT_NE(e.remedy(), "") << e.message();
    return e.message();
  }
  return "accepted";
}
Qwen3Config model(std::int64_t max_position_embeddings, int num_experts = 0) {
  Qwen3Config config;
  config.max_position_embeddings = max_position_embeddings;
  config.num_experts = num_experts;
  return config;
}
std::string export_refusal(const NeuronConfigWish& wish) {
  try {
    make_neuron_config(wish, model(40960), DType::bf16);
  } catch (const Error& e) {
    return e.message();
  }
  return "accepted";
}

TEST(NeuronConfig, WritesWhatOptimumNeuronWroteByteForByte) { EXPECT_EQ(to_json_text(read(theirs())), kTheirs); }

TEST(NeuronConfig, KeepsEveryField) {
  const NeuronConfig c = read(theirs());
  EXPECT_EQ(c.batch_size, 4);
  EXPECT_EQ(c.checkpoint_id, "Qwen/Qwen3-8B");
  EXPECT_EQ(c.prefill_chunk_size, 1024);
  EXPECT_EQ(c.target, "trn1");
  EXPECT_EQ(c.torch_dtype, DType::bf16);
  EXPECT_EQ(c.world_size(), 8);
  const Json json = theirs();
  for (const auto& [key, value] : json.as_object()) {
    if (key.ends_with("version") || key == "_serialized_key" || !value.is_int()) continue;
    const Json other = with(theirs(), key.c_str(), value.as_int() + 1);
    const std::string why = refusal(other);
    if (why == "accepted") {
      EXPECT_NE(read(other), c) << key;
    }
  }
}

TEST(NeuronConfig, FillsInLengthsThatFollowFromOthers) {
  Json json = theirs();
  for (const char* key : {"max_batch_size", "max_context_length", "n_active_tokens", "local_ranks_size"})
    json.set(key, nullptr);
  EXPECT_EQ(to_json_text(read(json)), kTheirs);
}

TEST(NeuronConfig, HasTheirDefaults) {
  const Json stamps = Json::Object{
      {"_serialized_key", "NxDNeuronConfig"}, {"optimum_neuron_version", "0.4.6"}, {"neuronxcc_version", "2.21"}};
  NeuronConfig expected;
  expected.optimum_neuron_version = "0.4.6";
  expected.neuronxcc_version = "2.21";
  EXPECT_EQ(read(stamps), expected);
}

TEST(NeuronConfig, WantsItsStamps) {
  for (const char* key : {"_serialized_key", "optimum_neuron_version", "neuronxcc_version"})
    EXPECT_THAT(refusal(without(key)),
                HasSubstr(detail::join("Invalid neuron configuration: missing mandatory ", key, " attribute.")));
  EXPECT_THAT(refusal(with(theirs(), "_serialized_key", "NxDVLMNeuronConfig")),
              HasSubstr("No neuron configuration registered for the NxDVLMNeuronConfig serialized key"));
}

TEST(NeuronConfig, RefusesWhatContradictsItself) {
  Json speculating = with(with(theirs(), "speculation_length", 4), "prefill_chunk_size", 0);
  EXPECT_THAT(refusal(speculating), HasSubstr("Speculative decoding is incompatible with on-device sampling"));
  EXPECT_EQ(refusal(with(speculating, "on_device_sampling", false)), "accepted");
  EXPECT_THAT(refusal(with(with(speculating, "on_device_sampling", false), "prefill_chunk_size", 64)),
              HasSubstr("Chunked prefill is incompatible with speculative decoding"));
  EXPECT_THAT(refusal(with(theirs(), "max_batch_size", 3)), HasSubstr("max_batch_size is 3, and batch_size 4"));
  EXPECT_THAT(refusal(with(theirs(), "max_context_length", 4097)), HasSubstr("max_context_length is 4097"));
  EXPECT_THAT(refusal(with(theirs(), "prefill_chunk_size", 5000)), HasSubstr("prefill_chunk_size is 5000"));
}

TEST(NeuronConfig, RefusesValuesThatMakeNoSense) {
  for (const char* key : {"batch_size", "sequence_length", "tp_degree", "local_ranks_size"})
    EXPECT_THAT(refusal(with(theirs(), key, 0)), AllOf(StartsWith("neuron_config.json: '"), HasSubstr(key))) << key;
  EXPECT_THAT(refusal(with(theirs(), "batch_size", "many")), HasSubstr("'batch_size' is \"many\""));
  EXPECT_THAT(refusal(with(theirs(), "torch_dtype", "int8")), HasSubstr("'torch_dtype' is \"int8\""));
  EXPECT_THAT(refusal(with(theirs(), "moe_tp_degree", 2)), HasSubstr("'moe_tp_degree' is no field"));
  EXPECT_THAT(refusal(Json(Json::Array{})), HasSubstr("neuron_config.json"));
}

TEST(NeuronConfig, ChoosesForAnExportWhatOptimumNeuronChooses) {
  const NeuronConfig c = make_neuron_config({}, model(40960), DType::bf16);
  EXPECT_EQ(c.batch_size, 1);
  EXPECT_EQ(c.sequence_length, 4096);
  EXPECT_EQ(c.prefill_chunk_size, 1024);
  EXPECT_TRUE(c.on_device_sampling && c.fused_qkv);
  EXPECT_FALSE(c.continuous_batching);
  const NeuronConfig small = make_neuron_config({.batch_size = 4}, model(512, 128), DType::f32);
  EXPECT_EQ(small.sequence_length, 512);
  EXPECT_EQ(small.prefill_chunk_size, 0);
  EXPECT_TRUE(small.continuous_batching);
  EXPECT_FALSE(small.fused_qkv);
  const NeuronConfig speculating = make_neuron_config({.speculation_length = 5}, model(40960), DType::bf16);
  EXPECT_EQ(speculating.prefill_chunk_size, 0);
  EXPECT_FALSE(speculating.on_device_sampling);
  EXPECT_FALSE(make_neuron_config({.batch_size = 4, .tp_degree = 2}, model(512), DType::f32).on_device_sampling);
}

TEST(NeuronConfig, OfAnExportThatEncodesChoosesNoTokens) {
  const NeuronConfig c = make_neuron_config({.batch_size = 4, .encodes = true}, model(512), DType::bf16);
  EXPECT_FALSE(c.on_device_sampling || c.output_logits || c.continuous_batching);
  EXPECT_THAT(export_refusal({.speculation_length = 3, .encodes = true}), HasSubstr("speculation_length is asked for"));
  EXPECT_THAT(export_refusal({.on_device_sampling = true, .encodes = true}), HasSubstr("on_device_sampling"));
  EXPECT_THAT(export_refusal({.output_logits = true, .encodes = true}), HasSubstr("output_logits"));
}

TEST(NeuronConfig, TakesWhatItIsAskedForOfSampling) {
  EXPECT_TRUE(make_neuron_config({}, model(512), DType::bf16).output_logits);
  const NeuronConfig c = make_neuron_config({.max_topk = 20, .on_device_sampling = false, .output_logits = false},
                                            model(512), DType::bf16);
  EXPECT_FALSE(c.on_device_sampling || c.output_logits);
  EXPECT_EQ(c.max_topk, 20);
  EXPECT_THAT(export_refusal({.speculation_length = 4, .on_device_sampling = true}),
              HasSubstr("Speculative decoding is incompatible with on-device sampling"));
}

TEST(NeuronConfig, RefusesAnExportThatContradictsItself) {
  EXPECT_THAT(export_refusal({.prefill_chunk_size = 256, .speculation_length = 4}), HasSubstr("Chunked prefill"));
  EXPECT_THAT(export_refusal({.sequence_length = 128, .max_context_length = 256}), HasSubstr("max_context_length"));
}

}  // namespace
}  // namespace cajal
