#include "checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/quantized_names.h"
#include "checkpoint/test_files.h"
#include "checkpoint/tied_embeddings.h"

namespace cajal {
namespace {

using test::error_of;
using test::StoredTensors;
using test::TempFolder;
using test::write_tensors;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

test::Stored bf16(std::vector<std::int64_t> shape, unsigned seed = 1) {
  std::mt19937 random(seed);
  return test::random_tensor(DType::bf16, std::move(shape), random);
}

std::string opening(const TempFolder& folder) {
  return error_of([&] { const Checkpoint checkpoint(folder.path()); });
}

TEST(Checkpoint, FindsTensorsOfASingleFile) {
  const TempFolder folder;
  write_tensors(folder.file("model.safetensors"), {{"lm_head.weight", bf16({4, 2})}, {"model.norm.weight", bf16({2})}});
  const Checkpoint checkpoint(folder.path());
  EXPECT_EQ(checkpoint.num_tensors(), 2u);
  EXPECT_EQ(checkpoint.bytes(), 20u);
  EXPECT_TRUE(checkpoint.find("lm_head.weight"));
  EXPECT_TRUE(checkpoint.find("model.norm.weight"));
  EXPECT_FALSE(checkpoint.find("model.norm.bias"));
}

TEST(Checkpoint, ThePrefixOfTheModelMayBeAbsent) {
  const TempFolder folder;
  write_tensors(folder.file("model.safetensors"),
                {{"norm.weight", bf16({2})}, {"model.x", bf16({3})}, {"x", bf16({5})}});
  const Checkpoint checkpoint(folder.path());
  EXPECT_EQ(checkpoint.find("model.norm.weight")->tensor->name, "norm.weight");
  EXPECT_EQ(checkpoint.find("x")->tensor->name, "x");  // an exact match goes first
  EXPECT_EQ(checkpoint.find("model.x")->tensor->name, "model.x");
}

TEST(Checkpoint, AMissingTensorIsNamedWithTheNearestThatIsThere) {
  const TempFolder folder;
  write_tensors(folder.file("model.safetensors"),
                {{"model.layers.0.self_attn.q_proj.weight", bf16({2})}, {"rotary_emb.inv_freq", bf16({2})}});
  const Checkpoint checkpoint(folder.path());
  EXPECT_THAT(error_of([&] { checkpoint.require("model.layers.0.self_atn.q_proj.weight"); }),
              AllOf(HasSubstr("model.safetensors: has no tensor model.layers.0.self_atn.q_proj.weight"),
                    HasSubstr("most similar name is model.layers.0.self_attn.q_proj.weight")));
  EXPECT_THAT(error_of([&] { checkpoint.require("lm_head.weight"); }), Not(HasSubstr("similar")));
}

struct Sharded {
  TempFolder folder;
  Sharded() {
    write_tensors(folder.file("a.safetensors"), {{"one", bf16({2})}, {"not listed", bf16({2})}});
    write_tensors(folder.file("b.safetensors"), {{"two", bf16({3})}});
  }
  std::string open_with(std::string_view index) const {
    folder.write("model.safetensors.index.json", index);
    return opening(folder);
  }
};

TEST(Checkpoint, TheIndexSaysWhichTensorsThereAre) {
  const Sharded sharded;
  ASSERT_EQ(
      sharded.open_with(
          R"({"metadata":{"total_size":10,"total_parameters":5},"weight_map":{"two":"b.safetensors","one":"a.safetensors"}})"),
      "no error");
  const Checkpoint checkpoint(sharded.folder.path());
  EXPECT_EQ(checkpoint.find("two")->tensor->shape[0], 3);
  EXPECT_TRUE(checkpoint.find("one"));
  EXPECT_FALSE(checkpoint.find("not listed"));
}

TEST(Checkpoint, TheSingleFileGoesBeforeTheIndexAsInTransformers) {
  const Sharded sharded;
  write_tensors(sharded.folder.file("model.safetensors"), {{"three", bf16({2})}});
  ASSERT_EQ(sharded.open_with(R"({"weight_map":{"one":"gone.safetensors"}})"), "no error");
  const Checkpoint checkpoint(sharded.folder.path());
  EXPECT_TRUE(checkpoint.find("three"));
  EXPECT_FALSE(checkpoint.find("one"));
}

TEST(Checkpoint, AnIndexThatDoesNotFitItsFilesIsRefused) {
  const Sharded s;
  EXPECT_THAT(s.open_with(R"({"weight_map":{"one":"c.safetensors"}})"),
              HasSubstr("names c.safetensors, which is not there"));
  s.folder.write("c.safetensors.incomplete", "x");
  EXPECT_THAT(s.open_with(R"({"weight_map":{"one":"c.safetensors"}})"), HasSubstr("did not finish"));
  EXPECT_THAT(s.open_with(R"({"weight_map":{"one":"b.safetensors"}})"), HasSubstr("says that one is in b.safetensors"));
  s.folder.write("d.safetensors", "version https://git-lfs.github.com/spec/v1\n");
  EXPECT_THAT(s.open_with(R"({"weight_map":{"one":"d.safetensors"}})"), HasSubstr("git lfs pull"));
}

TEST(Checkpoint, AnIndexOfAnotherShapeIsRefused) {
  const Sharded s;
  const struct {
    const char *index, *message;
  } cases[] = {
      {"", "model.safetensors.index.json"},
      {"[]", "is an array"},
      {"{}", "no \"weight_map\""},
      {R"({"weight_map":[]})", "weight_map is an array"},
      {R"({"weight_map":{}})", "weight_map is empty"},
      {R"({"weight_map":{"one":1}})", "\"one\" is an integer"},
      {R"({"weight_map":{"":"a.safetensors"}})", "has 0 bytes"},
      {R"({"weight_map":{"one":"a.safetensors","one":"b.safetensors"}})", "\"one\" twice"},
      {R"({"weight_map":{"one":"a.safetensors"},"weight_map":{}})", "\"weight_map\" twice"},
      {R"({"weight_map":{"one":"../a.safetensors"}})", "plain name"},
      {R"({"weight_map":{"one":"/etc/a.safetensors"}})", "plain name"},
      {R"({"weight_map":{"one":"sub/a.safetensors"}})", "plain name"},
      {R"({"weight_map":{"one":"sub\\a.safetensors"}})", "plain name"},
      {R"({"weight_map":{"one":".."}})", "plain name"},
      {R"({"weight_map":{"one":""}})", "plain name"},
      {R"({"weight_map":{"one":".a.safetensors"}})", "plain name"},
      {R"({"weight_map":{"one":"a.safetensors\u0000b.safetensors"}})", "plain name"},
      {R"({"weight_map":{"one":"pytorch_model.bin"}})", "plain name"},
  };
  for (const auto& c : cases) EXPECT_THAT(s.open_with(c.index), HasSubstr(c.message)) << c.index;
}

TEST(Checkpoint, AFolderWithoutWeightsIsDescribed) {
  const struct {
    const char *file, *message;
  } cases[] = {
      {"pytorch_model.bin", "pickle"},
      {"model-q4.gguf", "GGUF"},
      {"adapter_model.safetensors", "adapter"},
      {"model.safetensors.incomplete", "finish the download"},
      {"model-00001-of-00002.safetensors", "under another name"},
      {"tf_model.h5", "another framework"},
      {"config.json", "--load-format dummy"},
  };
  for (const auto& c : cases) {
    const TempFolder folder;
    folder.write(c.file, "x");
    EXPECT_THAT(opening(folder), AllOf(HasSubstr("neither model.safetensors nor"), HasSubstr(c.message))) << c.file;
  }
  EXPECT_THAT(error_of([] { const Checkpoint checkpoint("no/such/folder"); }), HasSubstr("no such folder"));
}

TEST(Checkpoint, OtherFilesInTheFolderAreNotLookedAt) {
  const TempFolder folder;
  write_tensors(folder.file("model.safetensors"), {{"x", bf16({2})}});
  folder.write("pytorch_model.bin", "x");
  folder.write("adapter_model.safetensors", "broken");
  EXPECT_EQ(opening(folder), "no error");
}

TEST(Checkpoint, QuantisedCheckpointsAreRefusedByName) {
  const struct {
    std::vector<TensorSight> tensors;
    const char* format;
  } cases[] = {
      {{{"l.weight", "F8_E4M3"}, {"l.weight_scale_inv", "BF16"}}, "FP8 with block scales"},
      {{{"l.weight", "F8_E4M3"}, {"l.weight_scale", "BF16"}}, "FP8"},
      {{{"l.qweight", "I32"}, {"l.qzeros", "I32"}, {"l.scales", "F16"}}, "AWQ or GPTQ"},
      {{{"l.qweight", "I32"}, {"l.scales", "F16"}, {"l.g_idx", "I32"}}, "GPTQ (qweight, g_idx)"},
      {{{"l.weight_packed", "I32"}, {"l.weight_scale", "BF16"}, {"l.weight_shape", "I64"}}, "compressed-tensors"},
      {{{"l.weight_packed", "U8"}, {"l.weight_global_scale", "F32"}}, "NVFP4 of compressed-tensors"},
      {{{"l.weight", "U8"}, {"l.weight_scale_2", "F32"}}, "NVFP4 of ModelOpt"},
      {{{"l.weight", "U32"}, {"l.scales", "BF16"}, {"l.biases", "BF16"}}, "MLX"},
      {{{"l.weight", "I8"}, {"l.weight_scale", "F32"}}, "INT8"},
      {{{"l.weight", "U8"}, {"l.weight.absmax", "F32"}, {"l.weight.quant_state.bitsandbytes__nf4", "U8"}}, "NF4"},
      {{{"l.experts.gate_up_proj", "F8_E4M3"}}, "FP8"},
  };
  for (const auto& c : cases) EXPECT_THAT(find_quantized_sign(c.tensors).format, HasSubstr(c.format));
  const std::vector<TensorSight> plain = {{"l.weight", "BF16"},
                                          {"l.bias", "F32"},
                                          {"rotary_emb.inv_freq", "F32"},
                                          {"position_ids", "I64"},
                                          {"l.experts.gate_up_proj", "BF16"}};
  EXPECT_EQ(find_quantized_sign(plain).format, "");

  const TempFolder folder;
  test::StoredTensors tensors;
  tensors["model.layers.0.mlp.up_proj.weight"] = {DType::f8_e4m3, {2, 2}, std::vector<std::byte>(4)};
  tensors["model.layers.0.mlp.up_proj.weight_scale_inv"] = bf16({1, 1});
  write_tensors(folder.file("model.safetensors"), tensors);
  EXPECT_THAT(opening(folder),
              AllOf(HasSubstr("up_proj.weight_scale_inv (BF16[1,1])"), HasSubstr("FP8 with block scales")));
}

EmbeddingSources tied(const StoredTensors& tensors, bool tie) {
  const TempFolder folder;
  write_tensors(folder.file("model.safetensors"), tensors);
  return resolve_tied_embeddings(Checkpoint(folder.path()), tie);
}

TEST(TiedEmbeddings, FollowTheRuleOfTransformersFive) {
  const std::string embed = "model.embed_tokens.weight", head = "lm_head.weight";
  const test::Stored a = bf16({500, 1100}), equal = a;
  test::Stored last_bit = a;
  last_bit.bytes.back() ^= std::byte{1};

  EXPECT_FALSE(tied({{embed, a}, {head, equal}}, false).shared);
  for (const auto& only_embedding : {tied({{embed, a}}, true), tied({{"embed_tokens.weight", a}}, true)}) {
    EXPECT_TRUE(only_embedding.shared);
    EXPECT_EQ(only_embedding.embedding, embed);
    EXPECT_EQ(only_embedding.head, embed);
  }
  const EmbeddingSources only_head = tied({{head, a}}, true);
  EXPECT_TRUE(only_head.shared);
  EXPECT_EQ(only_head.embedding, head);
  EXPECT_EQ(only_head.head, head);
  EXPECT_TRUE(tied({{embed, a}, {head, equal}}, true).shared);
  const EmbeddingSources differ = tied({{embed, a}, {head, last_bit}}, true);
  EXPECT_FALSE(differ.shared);
  EXPECT_EQ(differ.embedding, embed);
  EXPECT_EQ(differ.head, head);
  EXPECT_THAT(error_of([] { tied({{"x", bf16({1})}}, true); }), HasSubstr("has no tensor model.embed_tokens.weight"));
}

}  // namespace
}  // namespace cajal
