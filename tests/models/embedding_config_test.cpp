// The files that sentence-transformers writes: what is read, and what is refused by name.
#include "models/embedding_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"

namespace cajal {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

class EmbeddingFiles : public testing::Test {
 protected:
  EmbeddingFiles() {
    std::string pattern = (fs::temp_directory_path() / "cajal-embedding-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  ~EmbeddingFiles() override {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  void write(const std::string& name, const std::string& content) const {
    const fs::path path = fs::path(folder_) / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << content;
  }
  // modules.json of classes with these names, the second one's folder being 1_Pooling.
  void write_modules(const std::vector<std::string>& types) const {
    std::string list;
    for (std::size_t i = 0; i < types.size(); ++i)
      list += detail::join(i ? "," : "", R"({"idx":)", i, R"(,"path":")", i == 1 ? "1_Pooling" : "", R"(","type":")",
                           types[i], "\"}");
    write("modules.json", "[" + list + "]");
  }
  std::string refusal() const {
    try {
      load_embedding_config(folder_);
    } catch (const Error& e) {
      EXPECT_NE(e.remedy(), "");
      return e.message();
    }
    return "accepted";
  }
  std::string folder_;
};

constexpr const char* kLastToken = R"({"word_embedding_dimension": 1024, "pooling_mode_cls_token": false,
    "pooling_mode_mean_tokens": false, "pooling_mode_max_tokens": false, "pooling_mode_lasttoken": true,
    "include_prompt": true})";

TEST_F(EmbeddingFiles, WithoutThemTheLastTokenIsNormalised) {
  const EmbeddingConfig config = load_embedding_config(folder_);
  EXPECT_EQ(config.pooling, PoolingMode::last_token);
  EXPECT_TRUE(config.normalize);
  EXPECT_TRUE(config.prompts.empty());
}

TEST_F(EmbeddingFiles, AreReadAsQwen3EmbeddingHasThem) {
  write_modules({"sentence_transformers.models.Transformer", "sentence_transformers.models.Pooling",
                 "sentence_transformers.models.Normalize"});
  write("1_Pooling/config.json", kLastToken);
  write("config_sentence_transformers.json",
        R"({"prompts": {"query": "Instruct: Do\nQuery:", "document": ""}, "default_prompt_name": null,
            "similarity_fn_name": "cosine"})");
  const EmbeddingConfig config = load_embedding_config(folder_);
  EXPECT_EQ(config.pooling, PoolingMode::last_token);
  EXPECT_TRUE(config.normalize);
  EXPECT_THAT(config.prompts, ElementsAre(Pair("query", instruct_prompt("Do")), Pair("document", "")));
  EXPECT_EQ(config.default_prompt_name, std::nullopt);
  EXPECT_EQ(config.prompt("document"), "");
  EXPECT_THROW(config.prompt("passage"), Error);
}

TEST_F(EmbeddingFiles, SayHowToPool) {
  const auto mode = [](const char* json) { return read_pooling_config(parse_json(json, "p"), "p"); };
  EXPECT_EQ(mode(kLastToken), PoolingMode::last_token);
  EXPECT_EQ(mode(R"({"pooling_mode_mean_tokens": true})"), PoolingMode::mean);
  EXPECT_EQ(mode(R"({"pooling_mode_cls_token": true})"), PoolingMode::cls_token);
  EXPECT_EQ(mode(R"({"pooling_mode": "mean"})"), PoolingMode::mean);
  EXPECT_EQ(mode(R"({"pooling_mode": ["lasttoken"]})"), PoolingMode::last_token);
  EXPECT_EQ(mode(R"({"pooling_mode_lasttoken": true, "include_prompt": false})"), PoolingMode::last_token)
      << "the last token is never one of the prompt's";
  const std::pair<const char*, const char*> refused[] = {
      {R"({"pooling_mode_max_tokens": true})", "pooling by max is not supported"},
      {R"({"pooling_mode_weightedmean_tokens": true})", "pooling by weightedmean"},
      {R"({"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true})", "by cls and mean"},
      {R"({"pooling_mode_mean_tokens": true, "include_prompt": false})", "'include_prompt' is false"},
      {R"({"pooling_mode": 3})", "'pooling_mode' is 3"},
      {R"({"pooling_mode_lasttoken": false})", "names no pooling"},
  };
  for (const auto& [json, says] : refused) {
    try {
      mode(json);
      ADD_FAILURE() << json;
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr(says));
    }
  }
}

TEST_F(EmbeddingFiles, SayWhetherToNormalise) {
  write("1_Pooling/config.json", kLastToken);
  write_modules({"x.Transformer", "x.Pooling"});
  EXPECT_FALSE(load_embedding_config(folder_).normalize);
  write_modules({"x.Transformer", "x.Pooling", "x.Normalize"});
  EXPECT_TRUE(load_embedding_config(folder_).normalize);
}

TEST_F(EmbeddingFiles, RefuseModulesByName) {
  write("1_Pooling/config.json", kLastToken);
  write_modules({"x.Transformer", "x.Pooling", "sentence_transformers.models.Dense", "x.Normalize"});
  EXPECT_THAT(refusal(), HasSubstr("sentence_transformers.models.Dense"));
  write_modules({"x.Transformer", "x.Pooling", "x.Normalize", "x.Dense"});
  EXPECT_THAT(refusal(), HasSubstr("x.Dense"));
  write_modules({"x.StaticEmbedding"});
  EXPECT_THAT(refusal(), HasSubstr("x.StaticEmbedding"));
  write_modules({"x.Transformer"});
  EXPECT_THAT(refusal(), HasSubstr("no Pooling module"));
  write("modules.json", "{}");
  EXPECT_THAT(refusal(), HasSubstr("expected a list"));
  write("modules.json", R"([{"type":"x.Transformer"},{"type":"x.Pooling","path":"../../etc"}])");
  EXPECT_THAT(refusal(), HasSubstr("'path'"));
}

TEST_F(EmbeddingFiles, SayHowLongTextsAre) {
  write("sentence_bert_config.json", R"({"max_seq_length": 77, "do_lower_case": false})");
  EXPECT_EQ(load_embedding_config(folder_).max_seq_length, 77);
  write("sentence_bert_config.json", R"({"max_seq_length": null, "do_lower_case": true})");
  EXPECT_THAT(refusal(), HasSubstr("do_lower_case"));
}

TEST_F(EmbeddingFiles, RefusePromptsThatAreNone) {
  for (const char* json : {R"({"prompts": {"query": 3}})", R"({"prompts": []})",
                           R"({"prompts": {"query": ""}, "default_prompt_name": "passage"})"}) {
    write("config_sentence_transformers.json", json);
    EXPECT_THAT(refusal(), HasSubstr("prompt")) << json;
  }
}

}  // namespace
}  // namespace cajal
