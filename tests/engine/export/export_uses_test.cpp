// What an export is for: vectors of texts, or tokens with the limits of its sampling.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "engine/embedder.h"
#include "engine/export/export_limits.h"
#include "engine/export/export_model.h"
#include "engine/export/scratch_folder.h"
#include "engine/generator.h"
#include "engine/scorer.h"

namespace cajal {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string golden(const std::string& name) { return std::string(CAJAL_TEST_DATA) + "/goldens/" + name; }

template <class F>
std::string refusal(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_NE(e.remedy(), "") << e.message();
    return e.message();
  }
  return "accepted";
}

std::vector<std::vector<std::int32_t>> texts_of_lengths(std::initializer_list<int> lengths) {
  std::vector<std::vector<std::int32_t>> texts;
  for (const int length : lengths) {
    auto& text = texts.emplace_back();
    for (int i = 0; i < length; ++i) text.push_back((7 * i + length) % 60);
  }
  return texts;
}

std::vector<std::vector<float>> vectors(const Model& model, const std::vector<std::vector<std::int32_t>>& texts,
                                        PoolingMode pooling) {
  std::vector<std::vector<float>> all;
  embed(model, texts, {.pooling = pooling},
        [&](std::size_t, std::span<const float> vector) { all.emplace_back(vector.begin(), vector.end()); });
  return all;
}

class ExportUses : public testing::Test {
 protected:
  std::string made(const std::string& name, NeuronConfigWish limits, ExportTask task) {
    export_model({.model = {.folder = golden(name)}, .output = folder_ / name, .limits = limits, .task = task});
    return folder_ / name;
  }

  Folder folder_;
  std::unique_ptr<Backend> backend_ = make_backend("cpu", {.num_threads = 2});
};

TEST_F(ExportUses, VectorsOfAnEncodingExportAreTheModelsBitForBit) {
  const NeuronConfigWish limits{.batch_size = 3, .sequence_length = 150, .prefill_chunk_size = 48};
  const std::string exported = made("d_bf16_sharded", limits, ExportTask::feature_extraction);
  const Model direct({.folder = golden("d_bf16_sharded")}, *backend_), prepared({.folder = exported}, *backend_);
  // Shorter and longer than a step, the longest that there may be, and more of them than a step has.
  const auto texts = texts_of_lengths({1, 48, 150, 7, 49, 97, 1, 30});
  for (const PoolingMode pooling : {PoolingMode::last_token, PoolingMode::mean, PoolingMode::cls_token})
    EXPECT_EQ(vectors(prepared, texts, pooling), vectors(direct, texts, pooling)) << to_string(pooling);
  EXPECT_EQ(vectors(prepared, {texts[3]}, PoolingMode::last_token)[0],
            vectors(direct, texts, PoolingMode::last_token)[3]);
}

TEST_F(ExportUses, AnEncodingExportHasEncodingGraphsAndNoHead) {
  const std::string exported =
      made("d_bf16_sharded", {.sequence_length = 150, .prefill_chunk_size = 48}, ExportTask::feature_extraction);
  const Manifest manifest = ExportFolder(exported).manifest();
  std::vector<std::string> files;
  for (const ExportedGraph& graph : manifest.graphs) {
    EXPECT_EQ(graph.kind, GraphKind::encoding);
    files.push_back(graph.file);
  }
  EXPECT_THAT(files, ElementsAre("graphs/encoding_1.txt", "graphs/encoding_2.txt", "graphs/encoding_4.txt",
                                 "graphs/encoding_8.txt", "graphs/encoding_16.txt", "graphs/encoding_32.txt",
                                 "graphs/encoding_48.txt"));
  for (const ExportedTensor& tensor : manifest.ranks.front().tensors) EXPECT_NE(tensor.name, "lm_head.weight");
  const Model model({.folder = exported}, *backend_);
  EXPECT_THAT(refusal([&] { Generator(model, nullptr, {}).run({}); }), HasSubstr("exported for feature-extraction"));
}

TEST_F(ExportUses, AnEmbeddingModelIsExportedForItsVectors) {
  const std::string model = folder_ / "embedder";
  std::filesystem::copy(golden("d_bf16_tied"), model);
  std::filesystem::create_directory(model + "/1_Pooling");
  write_file(model + "/1_Pooling/config.json", R"({"pooling_mode_lasttoken": true})");
  write_file(model + "/modules.json", R"([{"idx": 0, "name": "0", "path": "",
    "type": "sentence_transformers.models.Transformer"}, {"idx": 1, "name": "1", "path": "1_Pooling",
    "type": "sentence_transformers.models.Pooling"}])");
  const auto outputs = [&](ExportTask task, const std::string& name) {
    export_model(
        {.model = {.folder = model}, .output = folder_ / name, .limits = {.sequence_length = 64}, .task = task});
    return ExportFolder(folder_ / name).recipe().graph.outputs;
  };
  EXPECT_TRUE(encodes_only(outputs(ExportTask::automatic, "auto")));
  EXPECT_FALSE(encodes_only(outputs(ExportTask::text_generation, "text")));
}

TEST_F(ExportUses, RequestsBeyondWhatItSamplesAreRefusedWithBothNumbers) {
  const std::string exported = made(
      "d_bf16_tied",
      {.sequence_length = 96, .max_context_length = 8, .prefill_chunk_size = 0, .max_topk = 20, .output_logits = false},
      ExportTask::automatic);
  const Model model({.folder = exported}, *backend_);
  LLMEngineOptions options;
  limit_to_export(options, model.exported()->neuron_config(), {});
  const auto why = [&](std::size_t prompt, int top_k, std::int64_t logprobs) {
    SequenceRequest request;
    request.prompt.assign(prompt, 5);
    request.sampling.temperature = 1;
    request.sampling.top_k = top_k;
    request.num_logprobs = logprobs;
    request.max_new_tokens = 2;
    return refusal([&] { Generator(model, nullptr, options).run(std::vector{request}); });
  };
  EXPECT_EQ(why(8, 20, -1), "accepted");
  EXPECT_EQ(why(8, 0, -1), "accepted");  // all of the vocabulary, as Hugging Face has it
  EXPECT_THAT(why(9, 20, -1), AllOf(HasSubstr("length (9)"), HasSubstr("static sequence length (8)")));
  EXPECT_THAT(why(8, 21, -1), AllOf(HasSubstr("top_k is 21"), HasSubstr("max_topk 20")));
  EXPECT_THAT(why(8, 20, 0), HasSubstr("output_logits false"));
  const std::vector<std::int32_t> ids{1, 2, 3};
  EXPECT_THAT(refusal([&] { score(model, ids, 96, {}); }), HasSubstr("Output logits are not supported"));
}

TEST_F(ExportUses, AnExpertsCapacityIsTheGraphsAndWhatDropsNothingIsNone) {
  const auto graph_and_field = [&](double factor) {
    const std::string folder = folder_ / std::to_string(factor);
    export_model({.model = {.folder = golden("m_bf16_top2")},
                  .output = folder,
                  .limits = {.sequence_length = 64, .capacity_factor = factor}});
    const ExportFolder exported(folder);
    return std::pair(to_text(*exported.graph(exported.manifest().graphs.back().bucket)),
                     exported.neuron_config().capacity_factor);
  };
  const auto [dropping, kept] = graph_and_field(0.5);
  EXPECT_THAT(dropping, HasSubstr("capacity_factor"));
  EXPECT_EQ(kept, 0.5);
  const auto [whole, none] = graph_and_field(64);
  EXPECT_FALSE(none);
  EXPECT_NE(whole, dropping);
  const auto [as_whole, also_none] = graph_and_field(65);
  EXPECT_EQ(as_whole, whole);
  EXPECT_THAT(
      refusal([&] { made("m_bf16_top2", {.speculation_length = 3, .capacity_factor = 0.5}, ExportTask::automatic); }),
      HasSubstr("capacity_factor is 0.5 and speculation_length 3"));
}

TEST_F(ExportUses, WhereTheHostChoosesNothingLimitsItsSampling) {
  NeuronConfig config;
  config.max_topk = 20;
  EXPECT_EQ(request_limits(config).max_top_k, 0);
  EXPECT_TRUE(request_limits(config).logits);
  config.on_device_sampling = true;
  EXPECT_EQ(request_limits(config).max_top_k, 20);
  EXPECT_FALSE(request_limits(config).logits);
  config.output_logits = true;
  EXPECT_TRUE(request_limits(config).logits);
  config.max_topk = -1;
  EXPECT_EQ(request_limits(config).max_top_k, 0);
}

}  // namespace
}  // namespace cajal
