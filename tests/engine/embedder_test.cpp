// Vectors of texts against sentence-transformers and Transformers, and what they may not depend on.
#include "engine/embedder.h"

#include <gmock/gmock.h>

#include <cmath>
#include <random>

#include "embedding_goldens.h"
#include "engine/test_device.h"

namespace cajal {
namespace {

using Texts = std::vector<std::vector<std::int32_t>>;
using Vectors = std::vector<std::vector<float>>;

Vectors vectors_of(const Model& model, const Texts& texts, const EmbedOptions& options) {
  Vectors vectors;
  embed(model, texts, options, [&](std::size_t i, std::span<const float> v) {
    EXPECT_EQ(i, vectors.size()) << "they come in their order, once each";
    vectors.emplace_back(v.begin(), v.end());
  });
  return vectors;
}

template <class Body>
Error error_of(Body&& body) {
  try {
    body();
  } catch (const Error& e) {
    return e;
  }
  ADD_FAILURE() << "nothing was thrown";
  return {ErrorCode::unavailable, ""};
}

class EmbeddingGoldens : public testing::TestWithParam<std::string> {
 protected:
  EmbeddingGolden golden{GetParam(), "texts"};
  EmbeddingConfig config = load_embedding_config(GetParam());

  EmbedOptions options_for(const Json& wanted) const {
    EmbedOptions options{.pooling = config.pooling, .normalize = config.normalize};
    if (const Json* dimensions = wanted.find("dimensions")) options.dimensions = dimensions->as_int();
    return options;
  }
  Texts random_texts(std::size_t count) const {
    std::mt19937 rng(5);
    Texts texts(count);
    for (auto& text : texts) {
      text.resize(1 + rng() % (rng() % 4 == 0 ? 200 : 20));
      for (auto& id : text)
        id = static_cast<std::int32_t>(rng() % static_cast<unsigned>(golden.model.config().vocab_size));
    }
    return texts;
  }
};

TEST_P(EmbeddingGoldens, TokensAreTransformers) {
  for (const Json& wanted : golden.cases.as_array()) {
    const std::string prefix =
        embedding_prefix(config, text_if_any(wanted, "prompt_name"), text_if_any(wanted, "instruction"));
    LengthLimit limit{.max_model_len = 1024};
    if (const Json* max_length = wanted.find("max_length")) limit = {max_length->as_int(), true};
    EXPECT_EQ(encode_within(golden.tokenizer, prefix + wanted.find("text")->as_string(), limit),
              ids_of(*wanted.find("input_ids")))
        << wanted.find("text")->as_string();
  }
}

TEST_P(EmbeddingGoldens, VectorsAreSentenceTransformers) {
  double largest = 0;
  for (const Json& wanted : golden.cases.as_array()) {
    const Vectors got = vectors_of(golden.model, {ids_of(*wanted.find("input_ids"))}, options_for(wanted));
    ASSERT_EQ(got.size(), 1u);
    const Json::Array& expected = wanted.find("embedding")->as_array();
    ASSERT_EQ(got[0].size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i)
      largest = std::max(largest, std::abs(static_cast<double>(got[0][i]) - expected[i].as_double()));
  }
  RecordProperty("largest_difference", std::to_string(largest));
  EXPECT_LE(largest, 5e-6);
}

TEST_P(EmbeddingGoldens, SameBitsWhateverTheStepsAndNeighbours) {
  const Texts texts = random_texts(40);
  EmbedOptions options{.pooling = config.pooling, .normalize = config.normalize};
  const Vectors expected = vectors_of(golden.model, texts, options);
  const std::pair<std::int64_t, std::int64_t> sizes[] = {{1, 1}, {1, 64}, {3, 7}, {64, 64}, {40, 4096}};
  for (const auto& [seqs, tokens] : sizes) {
    options.steps = {.max_num_seqs = seqs, .max_num_batched_tokens = tokens};
    EXPECT_EQ(vectors_of(golden.model, texts, options), expected) << seqs << " texts, " << tokens << " rows a step";
  }
  options.steps = {};
  for (const std::size_t i : {0u, 7u, 39u})
    EXPECT_EQ(vectors_of(golden.model, {texts[i]}, options)[0], expected[i]) << "text " << i << " alone";
}

TEST_P(EmbeddingGoldens, RunInBfloat16) {
  const Model model({.folder = GetParam(), .dtype = DType::bf16}, *golden.backend);
  for (const Json& wanted : golden.cases.as_array()) {
    const auto got = vectors_of(model, {ids_of(*wanted.find("input_ids"))}, options_for(wanted))[0];
    double dot = 0, ours = 0, theirs = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      const double a = static_cast<double>(got[i]), b = wanted.find("embedding")->as_array()[i].as_double();
      dot += a * b, ours += a * a, theirs += b * b;
    }
    EXPECT_GE(dot / std::sqrt(ours * theirs), 0.99) << "the cosine of the two";
  }
}
INSTANTIATE_TEST_SUITE_P(HuggingFace, EmbeddingGoldens, testing::ValuesIn(embedding_golden_folders("texts")),
                         folder_name);

class Embedder : public testing::Test {
 protected:
  std::string folder = CAJAL_TEST_DATA "/goldens_embedding/dense_untied";
  std::unique_ptr<Backend> backend = test_backend(1);
  Model model{{.folder = folder}, *backend};
};

TEST_F(Embedder, CutsBeforeItNormalises) {
  const Texts text{{1, 2, 3}};
  const auto whole = vectors_of(model, text, {.normalize = false})[0];
  const auto cut = vectors_of(model, text, {.dimensions = 7})[0];
  ASSERT_EQ(cut.size(), 7u);
  double length = 0;
  for (const float x : cut) length += static_cast<double>(x) * static_cast<double>(x);
  EXPECT_NEAR(length, 1, 1e-6);
  for (std::size_t i = 1; i < cut.size(); ++i) EXPECT_NEAR(cut[i] / cut[0], whole[i] / whole[0], 1e-4);
}

TEST_F(Embedder, RefusesDimensionsThatTheModelLacks) {
  for (const std::int64_t dimensions : {-1, 0, 33}) {
    const Error e = error_of([&] { vectors_of(model, {{1}}, {.dimensions = dimensions}); });
    EXPECT_EQ(e.code(), ErrorCode::invalid_argument);
    EXPECT_THAT(e.what(), testing::HasSubstr("expected 1 to 32"));
  }
}

TEST_F(Embedder, RefusesTextsThatAreNone) {
  EXPECT_TRUE(vectors_of(model, {}, {}).empty());
  EXPECT_THAT(error_of([&] { vectors_of(model, {{1}, {}}, {}); }).what(), testing::HasSubstr("text 1: "));
  EXPECT_THAT(error_of([&] { vectors_of(model, {{1, 999}}, {}); }).what(), testing::HasSubstr("token id 999"));
}

TEST_F(Embedder, SaysHowLongTextsMayBe) {
  const Tokenizer tokenizer = Tokenizer::from_folder(folder);
  const std::string text(50, 'q');
  EXPECT_EQ(encode_within(tokenizer, text, {51, false}).size(), 51u);
  const Error e = error_of([&] { encode_within(tokenizer, text, {50, false}); });
  EXPECT_THAT(e.what(), testing::AllOf(testing::HasSubstr("51 tokens"), testing::HasSubstr("at most 50"),
                                       testing::HasSubstr("--truncate")));
  const auto cut = encode_within(tokenizer, text, {9, true});
  EXPECT_EQ(cut.size(), 9u);
  EXPECT_EQ(cut.back(), tokenizer.id_of("<|endoftext|>")) << "the end token is what the vector is read from";
}

TEST_F(Embedder, LeavesTheRunByWhatIsThrownBeforeAStep) {
  int steps = 0;
  EmbedOptions options;
  options.steps = {.max_num_seqs = 1, .max_num_batched_tokens = 4, .before_step = [&] {
                     if (++steps == 3) throw std::runtime_error("enough");
                   }};
  EXPECT_THROW(vectors_of(model, Texts(5, {1, 2, 3}), options), std::runtime_error);
  EXPECT_EQ(steps, 3);
}

TEST_F(Embedder, AModelWithoutAHeadSaysSoWhenAskedForLogits) {
  EXPECT_FALSE(model.has_lm_head());
  const Error e = error_of([&] { model.graph(Bucket{}, {.logits = true}); });
  EXPECT_EQ(e.code(), ErrorCode::unsupported);
  EXPECT_THAT(e.what(), testing::HasSubstr("no output head"));
}

TEST_F(Embedder, LoadsNoHeadWhereNoneIsAskedFor) {
  const std::string causal = CAJAL_TEST_DATA "/goldens_embedding/causal";
  const Model with({.folder = causal}, *backend);
  const Model without({.folder = causal, .outputs = {.logits = false, .last_hidden_state = true}}, *backend);
  const auto head = static_cast<std::uint64_t>(with.config().vocab_size * with.config().hidden_size) * sizeof(float);
  EXPECT_GE(with.weight_bytes(), without.weight_bytes() + head);
  EXPECT_EQ(vectors_of(with, {{1, 2, 3}}, {}), vectors_of(without, {{1, 2, 3}}, {}));
}

}  // namespace
}  // namespace cajal
