// Embeddings and reranking from the library, C++ and C.
#include <gmock/gmock.h>

#include <cmath>
#include <thread>

#include "api/api_fixture.h"
#include "cajal/c_api.h"
#include "cajal/cajal.h"

namespace cajal::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

EngineConfig golden(const std::string& name) {
  EngineConfig config;
  config.model = CAJAL_TEST_DATA "/goldens_embedding/" + name;
  config.threads = 1;
  return config;
}

template <class Body>
Error error_of(Body&& body) {
  try {
    body();
  } catch (const Error& e) {
    return e;
  }
  ADD_FAILURE() << "nothing was thrown";
  return {ErrorCode::internal, "nothing was thrown"};
}

double dot(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

TEST(LibraryEmbed, GivesAVectorOfEachText) {
  Engine engine(golden("dense"));
  const std::vector<Prompt> prompts{"one", "two", "one"};
  const auto embeddings = engine.embed(prompts);
  ASSERT_EQ(embeddings.size(), 3u);
  for (const Embedding& e : embeddings) {
    EXPECT_EQ(e.values.size(), 32u);
    EXPECT_NEAR(dot(e.values, e.values), 1, 1e-6);
    EXPECT_EQ(e.token_ids.size(), 4u) << "three letters and the end";
  }
  EXPECT_EQ(embeddings[0].values, embeddings[2].values);
  EXPECT_NE(embeddings[0].values, embeddings[1].values);
  const std::vector<Prompt> ids{embeddings[1].token_ids};
  EXPECT_EQ(engine.embed(ids)[0].values, embeddings[1].values);
  EXPECT_TRUE(engine.embed({}).empty());
}

TEST(LibraryEmbed, PutsPromptsInFrontOfTextsAlone) {
  Engine engine(golden("dense"));
  const std::vector<Prompt> text{"x"}, whole{"Instruct: Do\nQuery:x"}, ids{std::vector<std::int32_t>{1}};
  EXPECT_EQ(engine.embed(text, {.instruction = "Do"})[0].values, engine.embed(whole)[0].values);
  EXPECT_EQ(engine.embed(text, {.prompt_name = "document"})[0].values, engine.embed(text)[0].values);
  EXPECT_EQ(engine.embed(text, {.dimensions = 3})[0].values.size(), 3u);
  const auto refused = [&](const std::vector<Prompt>& prompts, const EmbedOptions& options) {
    return error_of([&] { engine.embed(prompts, options); });
  };
  EXPECT_THAT(refused(ids, {.prompt_name = "query"}).what(), HasSubstr("prompts[0]: it is token ids"));
  EXPECT_EQ(refused(text, {.prompt_name = "passage"}).code(), ErrorCode::not_found);
  EXPECT_EQ(refused(text, {.prompt_name = "query", .instruction = "y"}).code(), ErrorCode::invalid_argument);
  EXPECT_EQ(refused(text, {.dimensions = 33}).code(), ErrorCode::invalid_argument);
}

TEST(LibraryEmbed, OfAModelWithoutAHeadIsAllThatItDoes) {
  Engine engine(golden("dense_untied"));
  const std::vector<Prompt> text{"x"};
  EXPECT_EQ(engine.embed(text)[0].values.size(), 32u);
  EXPECT_THAT(error_of([&] { engine.generate("x"); }).what(), HasSubstr("no output head"));
  EXPECT_THAT(error_of([&] { engine.score("x"); }).what(), HasSubstr("no output head"));
  const std::vector<std::string> documents{"a"};
  EXPECT_EQ(error_of([&] { engine.rerank("q", documents); }).code(), ErrorCode::unsupported);
  EXPECT_TRUE(engine.submit("x", {}, {}).refusal.has_value());
}

TEST(LibraryEmbed, IsTheSameBesideOtherRequests) {
  Engine engine(golden("causal"));
  const std::vector<Prompt> texts{"some text", "and more of it"};
  const auto expected = engine.embed(texts);
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&, i] {
      if (i % 2) engine.generate("the", {.max_tokens = 5});
      const auto got = engine.embed(texts);
      EXPECT_EQ(got[0].values, expected[0].values);
      EXPECT_EQ(got[1].values, expected[1].values);
    });
  for (auto& thread : threads) thread.join();
}

TEST(LibraryEmbed, CanBeCancelledAndRefusesToWaitForItself) {
  Engine engine(golden("causal"));
  const std::vector<Prompt> texts{"x"};
  Cancellation cancelled;
  cancelled.cancel();
  EXPECT_EQ(error_of([&] { engine.embed(texts, {}, cancelled); }).code(), ErrorCode::cancelled);
  GenerateOptions options;
  ErrorCode code = ErrorCode::internal;
  options.on_delta = [&](const Delta&) { code = error_of([&] { engine.embed(texts); }).code(); };
  engine.generate("the", {.max_tokens = 1}, options);
  EXPECT_EQ(code, ErrorCode::invalid_argument);
}

TEST(LibraryRerank, SortsDocuments) {
  Engine engine(golden("reranker"));
  const std::vector<std::string> documents{"is", "the query of yes", "", "the"};
  const RerankResult all = engine.rerank("q", documents);
  ASSERT_EQ(all.documents.size(), 4u);
  std::vector<bool> seen(4);
  for (std::size_t i = 0; i < 4; ++i) {
    seen[all.documents[i].index] = true;
    if (i == 0) continue;
    EXPECT_LE(all.documents[i].relevance_score, all.documents[i - 1].relevance_score);
  }
  EXPECT_EQ(seen, std::vector<bool>(4, true));
  EXPECT_GT(all.usage.prompt_tokens, 4 * 100);
  EXPECT_THAT(engine.rerank("q", documents, {.top_n = 1}).documents, ElementsAre(all.documents[0]));
  EXPECT_NE(engine.rerank("q", documents, {.instruction = "x"}).documents, all.documents);
  EXPECT_TRUE(engine.rerank("q", {}).documents.empty());
  EXPECT_EQ(error_of([&] { engine.rerank("q", documents, {.top_n = 0}); }).code(), ErrorCode::invalid_argument);
  const std::vector<std::string> too_long{std::string(2000, 'q')};
  EXPECT_THAT(error_of([&] { engine.rerank("q", too_long); }).what(), HasSubstr("documents[0]: "));
  EXPECT_EQ(engine.rerank("q", too_long, {.truncate = true}).usage.prompt_tokens, engine.info().max_model_len);
}

// ---- C ----

class COf {
 public:
  explicit COf(const std::string& name) {
    cajal_engine_config config;
    EXPECT_EQ(cajal_engine_config_init(&config, sizeof config, nullptr), CAJAL_OK);
    const EngineConfig from = golden(name);
    config.model = {from.model.data(), from.model.size()};
    config.threads = 1;
    EXPECT_EQ(cajal_engine_open(&config, &engine_, nullptr), CAJAL_OK);
  }
  ~COf() { cajal_engine_close(engine_); }
  COf(const COf&) = delete;
  COf& operator=(const COf&) = delete;
  cajal_engine* get() const { return engine_; }

 private:
  cajal_engine* engine_ = nullptr;
};

cajal_string c_string(std::string_view text) { return {text.data(), text.size()}; }

TEST(CEmbed, GivesWhatCppGives) {
  const COf engine("dense");
  const std::vector<std::int32_t> ids{3, 4};
  const cajal_prompt prompts[] = {{.text = c_string("one"), .token_ids = nullptr, .num_token_ids = 0},
                                  {.text = {}, .token_ids = ids.data(), .num_token_ids = ids.size()}};
  cajal_embed_options options;
  ASSERT_EQ(cajal_embed_options_init(&options, sizeof options, nullptr), CAJAL_OK);
  options.dimensions = 5;
  cajal_embeddings* embeddings = nullptr;
  ASSERT_EQ(cajal_embed(engine.get(), prompts, 2, &options, nullptr, &embeddings, nullptr), CAJAL_OK);
  ASSERT_EQ(cajal_embeddings_size(embeddings), 2u);
  Engine reference(golden("dense"));
  const std::vector<Prompt> same{"one", ids};
  const auto expected = reference.embed(same, {.dimensions = 5});
  for (std::size_t i = 0; i < 2; ++i) {
    cajal_embedding e;
    e.struct_size = sizeof e;
    ASSERT_EQ(cajal_embeddings_get(embeddings, i, &e, nullptr), CAJAL_OK);
    EXPECT_EQ(std::vector<float>(e.values, e.values + e.num_values), expected[i].values);
    EXPECT_EQ(std::vector<std::int32_t>(e.token_ids, e.token_ids + e.num_token_ids), expected[i].token_ids);
  }
  cajal_embedding beyond;
  beyond.struct_size = sizeof beyond;
  EXPECT_EQ(cajal_embeddings_get(embeddings, 2, &beyond, nullptr), CAJAL_INVALID_ARGUMENT);
  cajal_embeddings_free(embeddings);
}

TEST(CRerank, GivesWhatCppGives) {
  const COf engine("reranker");
  const cajal_string documents[] = {c_string("is"), c_string("the query of yes"), {nullptr, 0}};
  cajal_rerank_options options;
  ASSERT_EQ(cajal_rerank_options_init(&options, sizeof options, nullptr), CAJAL_OK);
  options.top_n = 2;
  options.instruction = c_string("Find it");
  cajal_ranking* ranking = nullptr;
  ASSERT_EQ(cajal_rerank(engine.get(), c_string("q"), documents, 3, &options, nullptr, &ranking, nullptr), CAJAL_OK);
  cajal_ranking_view view;
  view.struct_size = sizeof view;
  ASSERT_EQ(cajal_ranking_get(ranking, &view, nullptr), CAJAL_OK);
  Engine reference(golden("reranker"));
  const std::vector<std::string> same{"is", "the query of yes", ""};
  const RerankResult expected = reference.rerank("q", same, {.instruction = "Find it", .top_n = 2});
  ASSERT_EQ(view.num_documents, 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(view.documents[i].index, expected.documents[i].index);
    EXPECT_EQ(view.documents[i].relevance_score, expected.documents[i].relevance_score);
  }
  EXPECT_EQ(view.prompt_tokens, expected.usage.prompt_tokens);
  cajal_ranking_free(ranking);
}

TEST(CEmbed, RefusesNullAndWrongSizes) {
  const COf engine("dense");
  cajal_embeddings* embeddings = nullptr;
  cajal_ranking* ranking = nullptr;
  EXPECT_EQ(cajal_embed(nullptr, nullptr, 0, nullptr, nullptr, &embeddings, nullptr), CAJAL_INVALID_ARGUMENT);
  EXPECT_EQ(cajal_embed(engine.get(), nullptr, 1, nullptr, nullptr, &embeddings, nullptr), CAJAL_INVALID_ARGUMENT);
  EXPECT_EQ(cajal_embed(engine.get(), nullptr, 0, nullptr, nullptr, nullptr, nullptr), CAJAL_INVALID_ARGUMENT);
  EXPECT_EQ(cajal_rerank(engine.get(), {}, nullptr, 1, nullptr, nullptr, &ranking, nullptr), CAJAL_INVALID_ARGUMENT);
  cajal_embed_options options;
  ASSERT_EQ(cajal_embed_options_init(&options, sizeof options, nullptr), CAJAL_OK);
  options.struct_size = sizeof options + 8;
  EXPECT_EQ(cajal_embed(engine.get(), nullptr, 0, &options, nullptr, &embeddings, nullptr), CAJAL_INVALID_ARGUMENT);
  EXPECT_EQ(cajal_embeddings_get(nullptr, 0, nullptr, nullptr), CAJAL_INVALID_ARGUMENT);
  EXPECT_EQ(cajal_ranking_get(nullptr, nullptr, nullptr), CAJAL_INVALID_ARGUMENT);
  EXPECT_EQ(cajal_embeddings_size(nullptr), 0u);
  cajal_embeddings_free(nullptr);
  cajal_ranking_free(nullptr);
}

}  // namespace
}  // namespace cajal::testing
