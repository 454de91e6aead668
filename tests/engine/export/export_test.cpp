// An export runs as its model does, bit for bit; whatever does not fit, or was changed, is refused.
#include "engine/export/export_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "backends/target.h"
#include "base/checksum.h"
#include "base/file.h"
#include "engine/export/export_limits.h"
#include "engine/export/scratch_folder.h"
#include "engine/generator.h"
#include "engine/golden.h"
#include "engine/scorer.h"

namespace cajal {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::vector<float> logits_of(const Model& model, std::span<const std::int32_t> ids) {
  std::vector<float> rows;
  ScoreOptions options;
  options.on_logits = [&](std::int64_t, std::span<const float> row) {
    rows.insert(rows.end(), row.begin(), row.end());
  };
  score(model, ids, static_cast<std::int64_t>(ids.size()), options);
  return rows;
}

std::vector<SequenceRequest> requests_of(const std::vector<std::int32_t>& prompt) {
  std::vector<SequenceRequest> requests(3);
  for (std::uint32_t i = 0; i < 3; ++i) {
    requests[i].prompt.assign(prompt.begin() + i % 2, prompt.end());
    requests[i].sampling.temperature = i == 2 ? 0.9f : 0.0f;
    requests[i].sampling.seed = 5;
    requests[i].sequence_index = i;
    requests[i].max_new_tokens = 12;
    requests[i].num_logprobs = 2;
  }
  return requests;
}

std::vector<SequenceResult> generate(const Model& model, LLMEngineOptions options,
                                     const std::vector<SequenceRequest>& requests) {
  return Generator(model, nullptr, options).run(requests);
}

void expect_equal(const std::vector<SequenceResult>& a, const std::vector<SequenceResult>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(a[i].tokens.size(), b[i].tokens.size()) << "sequence " << i;
    EXPECT_EQ(a[i].finish_reason, b[i].finish_reason);
    for (std::size_t t = 0; t < a[i].tokens.size(); ++t) {
      EXPECT_EQ(a[i].tokens[t].chosen, b[i].tokens[t].chosen) << "sequence " << i << ", token " << t;
      EXPECT_EQ(a[i].tokens[t].top, b[i].tokens[t].top) << "sequence " << i << ", token " << t;
    }
  }
}

// A prompt that every case has room for.
std::vector<std::int32_t> prompt_of(const Golden& golden) {
  auto ids = golden.input_ids;
  if (ids.size() < 2) ids.push_back(ids.front());
  if (ids.size() > 300) ids.resize(300);
  return ids;
}

class ExportOfGolden : public testing::TestWithParam<std::string> {};

TEST_P(ExportOfGolden, RunsAsItsModelDoes) {
  const Golden golden(GetParam());
  const auto prompt = prompt_of(golden);
  const Folder folder;
  const auto room = static_cast<std::int64_t>(prompt.size()) + 16;
  // Chunks of a size that nothing else has, and more requests than run side by side.
  export_model({.model = {.folder = golden.folder},
                .output = folder / "out",
                .limits = {.batch_size = 2, .sequence_length = room, .prefill_chunk_size = 7}});
  const auto backend = make_backend("cpu", {.num_threads = 2});
  const Model direct({.folder = golden.folder}, *backend), exported({.folder = folder / "out"}, *backend);
  ASSERT_TRUE(exported.exported());
  EXPECT_EQ(exported.weight_bytes(), direct.weight_bytes());
  if (!direct.has_lm_head()) return;
  EXPECT_EQ(logits_of(exported, prompt), logits_of(direct, prompt));
  LLMEngineOptions options;
  limit_to_export(options, exported.exported()->neuron_config(), {});
  const auto requests = requests_of(prompt);
  expect_equal(generate(exported, options, requests), generate(direct, {.max_model_len = room}, requests));
}

INSTANTIATE_TEST_SUITE_P(Goldens, ExportOfGolden, testing::ValuesIn(golden_folders()),
                         [](const auto& param_info) { return fs::path(param_info.param).filename().string(); });

// One small export, made once, and copies of it to break.
class Export : public testing::Test {
 protected:
  static const std::string& source() {
    static const std::string folder = std::string(CAJAL_TEST_DATA) + "/goldens/d_bf16_tied";
    return folder;
  }
  static NeuronConfigWish limits() {
    return {.batch_size = 2, .sequence_length = 96, .prefill_chunk_size = 0, .speculation_length = 3};
  }
  std::string made() {
    if (!fs::exists(folder_ / "made"))
      export_model({.model = {.folder = source()}, .output = folder_ / "made", .limits = limits()});
    return folder_ / "made";
  }
  std::string copy() {
    std::string to = folder_ / "copy";
    fs::remove_all(to);
    fs::copy(made(), to, fs::copy_options::recursive);
    return to;
  }
  std::string refusal(const std::string& folder, const ModelOptions& options = {}) {
    try {
      ModelOptions all = options;
      all.folder = folder;
      const Model model(all, *backend_);
      for (const ExportedGraph& graph : model.exported()->manifest().graphs) model.graph(graph.bucket);
    } catch (const Error& e) {
      EXPECT_NE(e.remedy(), "") << e.message();
      return e.message() + " — " + e.remedy();
    }
    return "accepted";
  }
  std::string export_refusal(const ExportOptions& options) {
    try {
      export_model(options);
    } catch (const Error& e) {
      return e.message() + " — " + e.remedy();
    }
    return "accepted";
  }

  Folder folder_;
  std::unique_ptr<Backend> backend_ = make_backend("cpu", {.num_threads = 2});
};

void flip_byte(const std::string& path, std::size_t at) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(at));
  const int byte = file.get();
  file.seekp(static_cast<std::streamoff>(at));
  file.put(static_cast<char>(byte ^ 1));
}

TEST_F(Export, HoldsEveryGraphThatItsEngineAsksFor) {
  const Model model({.folder = made()}, *backend_);
  LLMEngineOptions options;
  limit_to_export(options, model.exported()->neuron_config(), {.num_guesses = 2});
  const RunnerLimits limits = runner_limits(model.exported()->neuron_config(), {});
  for (const std::int64_t rows : bucket_sizes(limits.max_num_batched_tokens)) {
    const auto graph = model.exported()->graph(bucket_of(limits, rows));
    ASSERT_TRUE(graph) << rows;
    EXPECT_EQ(to_text(*graph), to_text(Model({.folder = source()}, *backend_).graph(bucket_of(limits, rows))));
  }
  std::vector<std::string> files;
  for (const ExportedGraph& graph : model.exported()->manifest().graphs) files.push_back(graph.file);
  EXPECT_THAT(files, testing::ElementsAre("graphs/token_generation_1.txt", "graphs/token_generation_2.txt",
                                          "graphs/speculation_4.txt", "graphs/context_encoding_8.txt",
                                          "graphs/context_encoding_16.txt", "graphs/context_encoding_32.txt",
                                          "graphs/context_encoding_64.txt", "graphs/context_encoding_96.txt"));
}

TEST_F(Export, WritesANeuronConfigThatSaysItsLimits) {
  const NeuronConfig c = ExportFolder(made()).neuron_config();
  EXPECT_EQ(c.batch_size, 2);
  EXPECT_EQ(c.sequence_length, 96);
  EXPECT_EQ(c.speculation_length, 3);
  EXPECT_EQ(c.target, make_target("cpu")->name());
  EXPECT_TRUE(c.continuous_batching);
  EXPECT_FALSE(c.on_device_sampling);
}

TEST_F(Export, FindsAFlippedByteWhereverItIs) {
  const Manifest manifest = ExportFolder(made()).manifest();
  EXPECT_EQ(refusal(copy()), "accepted");
  for (const ExportedFile& file : manifest.files) {
    const std::string broken = copy();
    flip_byte(broken + "/" + file.name, file.bytes / 2);
    EXPECT_THAT(refusal(broken), AllOf(HasSubstr(file.name), HasSubstr("has the checksum"))) << file.name;
  }
  const ExportedWeights& weights = manifest.ranks.front();
  const std::string broken = copy();
  const SafetensorsFile file(made() + "/" + weights.file);
  flip_byte(broken + "/" + weights.file, weights.bytes - kWeightAlignment);
  EXPECT_THAT(refusal(broken), HasSubstr(weights.tensors.back().name));
  const std::string other = copy();
  flip_byte(other + "/" + kManifestFile, 100);
  EXPECT_THAT(refusal(other), HasSubstr(kManifestFile));
}

TEST_F(Export, SaysWhichFileIsMissing) {
  for (const char* name :
       {"config.json", "neuron_config.json", "plan.json", "graphs/speculation_4.txt", "weights/rank_0.safetensors"}) {
    const std::string broken = copy();
    fs::remove(broken + "/" + name);
    EXPECT_THAT(refusal(broken), AllOf(HasSubstr(name), HasSubstr("missing"))) << name;
  }
  const std::string broken = copy();
  fs::resize_file(broken + "/weights/rank_0.safetensors", fs::file_size(broken + "/weights/rank_0.safetensors") / 2);
  EXPECT_THAT(refusal(broken), HasSubstr("weights/rank_0.safetensors"));
}

TEST_F(Export, IsRefusedOnAnotherTargetAndRunsWhereItsTargetIsSupported) {
  export_model({.model = {.folder = source()}, .output = folder_ / "small", .target = "cpu-baseline"});
  if (backend_->target() == "cpu-baseline") GTEST_SKIP() << "this machine has no other instruction sets";
  EXPECT_THAT(refusal(folder_ / "small"), AllOf(HasSubstr("The model was compiled for cpu-baseline but the current"),
                                                HasSubstr(backend_->target())));
  const auto small = make_backend("auto", {.num_threads = 1, .target = "cpu-baseline"});
  const Golden golden(source());
  EXPECT_EQ(logits_of(Model({.folder = folder_ / "small"}, *small), golden.input_ids),
            logits_of(Model({.folder = source()}, *backend_), golden.input_ids));
}

TEST_F(Export, IsRefusedForWhatItWasNotMadeFor) {
  EXPECT_THAT(refusal(made(), {.dtype = DType::f32}), AllOf(HasSubstr("dtype f32"), HasSubstr("made for bf16")));
  EXPECT_EQ(refusal(made(), {.dtype = DType::bf16}), "accepted");
  EXPECT_THAT(refusal(made(), {.load_format = LoadFormat::dummy}), HasSubstr("dummy"));
  EXPECT_THAT(refusal(made(), {.config_overrides = Json(Json::Object{{"rope_theta", 5}})}), HasSubstr("config.json"));
  const NeuronConfig config = ExportFolder(made()).neuron_config();
  LLMEngineOptions options;
  const auto limit_refusal = [&](const WantedLimits& wanted) {
    try {
      limit_to_export(options, config, wanted);
    } catch (const Error& e) {
      return e.message();
    }
    return std::string("accepted");
  };
  EXPECT_EQ(limit_refusal({.max_model_len = 96, .max_num_seqs = 2, .num_guesses = 2}), "accepted");
  EXPECT_THAT(limit_refusal({.max_model_len = 97}), AllOf(HasSubstr("is 97"), HasSubstr("sequence_length 96")));
  EXPECT_THAT(limit_refusal({.max_num_seqs = 3}), AllOf(HasSubstr("is 3"), HasSubstr("batch_size 2")));
  EXPECT_THAT(limit_refusal({.num_guesses = 3}), AllOf(HasSubstr("speculation_length of 4"), HasSubstr("with 3")));
}

TEST_F(Export, LeavesNothingBehindThatIsNotWhole) {
  ExportOptions options{.model = {.folder = source()}, .output = folder_ / "half"};
  options.on_progress = [](std::uint64_t done, std::uint64_t all) {
    EXPECT_LE(done, all);
    fail(ErrorCode::unavailable, "interrupted");
  };
  EXPECT_THAT(export_refusal(options), HasSubstr("interrupted"));
  EXPECT_THAT(folder_.names(), testing::IsEmpty());
  // What a killed export left, by a process that is no more.
  fs::create_directories(folder_ / "half.partial-999999999/weights");
  options.on_progress = {};
  EXPECT_EQ(export_refusal(options), "accepted");
  EXPECT_THAT(folder_.names(), testing::ElementsAre("half"));
}

TEST_F(Export, RefusesAPlaceOrASourceThatIsTaken) {
  EXPECT_THAT(export_refusal({.model = {.folder = source()}, .output = made()}), HasSubstr("is there already"));
  EXPECT_THAT(export_refusal({.model = {.folder = made()}, .output = folder_ / "again"}), HasSubstr("is an export"));
  EXPECT_THAT(export_refusal({.model = {.folder = source()}, .output = folder_ / "x", .target = "cpu-mmx"}),
              HasSubstr("target 'cpu-mmx' is unknown"));
  EXPECT_THAT(
      export_refusal({.model = {.folder = source()}, .output = folder_ / "x", .limits = {.capacity_factor = 1.5}}),
      HasSubstr("capacity_factor is 1.5, and the model has no experts"));
  EXPECT_FALSE(fs::exists(folder_ / "x"));
}

TEST_F(Export, RefusesAGraphOfAnotherModelEvenIfItsChecksumFits) {
  const std::string broken = copy(), name = "graphs/token_generation_1.txt";
  std::string text = read_file(broken + "/" + name);
  const std::string from = "input_ids\"} : i32[1]";
  const auto at = text.find(from);
  ASSERT_NE(at, std::string::npos);
  // A graph of two rows where one row is filled in.
  text = read_file(broken + "/graphs/token_generation_2.txt");
  write_file(broken + "/" + name, text);
  Manifest manifest = ExportFolder(made()).manifest();
  for (ExportedFile& file : manifest.files)
    if (file.name == name) file = {name, text.size(), checksum(text)};
  write_file(broken + "/" + kManifestFile, to_json_text(manifest));
  EXPECT_THAT(refusal(broken), AllOf(HasSubstr(name), HasSubstr("is i32[2], expected i32[1]")));
}

// Logits and answers of a model, and of its export, with the same options.
void expect_runs_as(ModelOptions model, const std::string& output) {
  export_model({.model = model, .output = output, .limits = {.batch_size = 2, .sequence_length = 96}});
  const auto backend = make_backend("cpu", {.num_threads = 2});
  const Model direct(model, *backend), exported({.folder = output}, *backend);
  const std::vector<std::int32_t> prompt{5, 17, 3, 60, 2, 41};
  EXPECT_EQ(logits_of(exported, prompt), logits_of(direct, prompt));
  LLMEngineOptions options;
  limit_to_export(options, exported.exported()->neuron_config(), {});
  const auto requests = requests_of(prompt);
  expect_equal(generate(exported, options, requests), generate(direct, {.max_model_len = 96}, requests));
}

TEST_F(Export, OfQuantizedWeightsHoldsThemAsTheyAreLoaded) {
  for (const char* kind : {"int8", "int4"})
    expect_runs_as({.folder = source(), .quantization = quantization_recipe(kind)}, folder_ / kind);
  const std::string target = make_backend("cpu", {.num_threads = 1})->target();
  if (target == "cpu-avx512_bf16" || target == "cpu-amx")
    expect_runs_as({.folder = std::string(CAJAL_SOURCE_DIR) + "/share/demo-model-moe",
                    .quantization = quantization_recipe("lossless")},
                   folder_ / "lossless");
}

TEST_F(Export, OfTheDemoModelsRunsAsTheyDo) {
  for (const char* name : {"demo-model", "demo-model-moe"})
    expect_runs_as({.folder = std::string(CAJAL_SOURCE_DIR) + "/share/" + name}, folder_ / name);
}

TEST_F(Export, OfTheShapeOfARealModelRunsAsItDoesSlow) {
  expect_runs_as({.folder = std::string(CAJAL_SOURCE_DIR) + "/bench/shapes/Qwen3-0.6B",
                  .load_format = LoadFormat::dummy,
                  .dummy_seed = 3,
                  .config_overrides = Json(Json::Object{{"num_hidden_layers", 4}})},
                 folder_ / "shape");
}

}  // namespace
}  // namespace cajal
