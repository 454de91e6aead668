// The tiny checkpoints under tests/data/goldens, made by Hugging Face's own writer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/loader.h"
#include "checkpoint/test_files.h"
#include "checkpoint/tied_embeddings.h"

namespace cajal {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> golden_folders() {
  std::vector<std::string> folders;
  const fs::path root = fs::path(CAJAL_TEST_DATA) / "goldens";
  std::error_code error;
  for (fs::recursive_directory_iterator at(root, error), end; !error && at != end; at.increment(error))
    if (at->is_directory() &&
        (fs::exists(at->path() / "model.safetensors") || fs::exists(at->path() / "model.safetensors.index.json")))
      folders.push_back(at->path().string());
  return folders;
}

// Names of all tensors of the folder's weight files, read without the code under test.
std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string file = entry.path().filename().string();
    if (!file.starts_with("model") || !file.ends_with(".safetensors")) continue;
    const std::string bytes = read_file(entry.path().string());
    std::size_t length = 0;
    for (std::size_t i = 8; i-- > 0;) length = length << 8 | static_cast<unsigned char>(bytes[i]);
    const Json header = parse_json(std::string_view(bytes).substr(8, length), file);
    for (const auto& [name, value] : header.as_object())
      if (name != "__metadata__") names.push_back(name);
  }
  return names;
}

TEST(Goldens, EveryTensorIsFoundAndLoadsAsItIs) {
  const std::vector<std::string> folders = golden_folders();
  if (folders.empty()) GTEST_SKIP() << "no checkpoints under tests/data/goldens";
  ThreadPool pool(2);
  Staging staging(pool);
  for (const std::string& folder : folders) {
    const Checkpoint checkpoint(folder);
    const std::vector<std::string> names = names_in(folder);
    EXPECT_EQ(checkpoint.num_tensors(), names.size()) << folder;
    for (const std::string& name : names) {
      const CheckpointTensor found = checkpoint.require(name);
      Shape shape;
      for (const std::int64_t d : found.tensor->shape) shape.push_back(d);
      const TensorType type{*found.tensor->dtype->dtype, shape, Plain{}};
      std::vector<std::byte> loaded(type.bytes()), stored(found.tensor->size);
      ops::Parameter parameter{{{name, shape, {}}}, 1, ""};
      if (shape.rank() == 3) parameter = {{{"expert.*", {shape[1], shape[2]}, {}}}, shape[0], name};
      load_parameter(checkpoint, {parameter, type, {}}, loaded.data(), staging);
      found.file->read(*found.tensor, 0, stored);
      EXPECT_EQ(loaded, stored) << folder << ' ' << name;
    }
    const Json config = parse_json(read_file(folder + "/config.json"), "config.json");
    const Json* tie = config.find("tie_word_embeddings");
    const EmbeddingSources sources = resolve_tied_embeddings(checkpoint, tie && tie->as_bool());
    EXPECT_TRUE(checkpoint.find(sources.embedding)) << folder;
    EXPECT_TRUE(checkpoint.find(sources.head)) << folder;
  }
}

// A sink that keeps everything, as an engine on the host does.
class HostSink : public WeightSink {
 public:
  std::span<std::byte> destination(const std::string& name, const TensorType& type) override {
    order.push_back(name);
    return memory.emplace(name, std::vector<std::byte>(type.bytes())).first->second;
  }
  void finished(const std::string& name) override { done.push_back(name); }
  std::map<std::string, std::vector<std::byte>> memory;
  std::vector<std::string> order, done;
};

TEST(LoadAll, FillsEveryParameterOfAGraphAndNamesTheOneThatFails) {
  const test::TempFolder folder;
  std::mt19937 random(3);
  const test::StoredTensors tensors = {{"model.a.weight", test::random_tensor(DType::bf16, {4, 6}, random)},
                                       {"model.norm.weight", test::random_tensor(DType::bf16, {6}, random)}};
  write_tensors(folder.file("model.safetensors"), tensors);
  Graph graph;
  graph.add_leaf(ops::Input{"ids"}, {DType::i32, {4}, Plain{}}, "ids");
  graph.add_leaf(ops::Parameter{{{"model.a.weight", {4, 6}, {}}}, 1, ""}, {DType::bf16, {4, 6}, Plain{}}, "a");
  graph.add_leaf(ops::Parameter{{{"model.norm.weight", {6}, {}}}, 1, ""}, {DType::bf16, {6}, Plain{}}, "norm");
  ThreadPool pool(2);
  Staging staging(pool);
  const Checkpoint checkpoint(folder.path());
  HostSink sink;
  EXPECT_EQ(load_all(checkpoint, graph, {}, sink, staging), 60u);
  EXPECT_EQ(sink.memory.at("a"), tensors.at("model.a.weight").bytes);
  EXPECT_EQ(sink.memory.at("norm"), tensors.at("model.norm.weight").bytes);
  EXPECT_EQ(sink.order, (std::vector<std::string>{"a", "norm"}));
  EXPECT_EQ(sink.done, sink.order);

  graph.add_leaf(ops::Parameter{{{"model.b.weight", {4, 6}, {}}}, 1, ""}, {DType::bf16, {4, 6}, Plain{}}, "layer.b");
  HostSink again;
  EXPECT_THAT(test::error_of([&] { load_all(checkpoint, graph, {}, again, staging); }),
              testing::HasSubstr("layer.b: "));
}

}  // namespace
}  // namespace cajal
