// Answers of the Hugging Face library, written down by tools/make_tokenizer_goldens.py.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support.h"
#include "text/detokenizer.h"

namespace cajal {
namespace {

using test::data;
using test::ids_of;
using test::qwen3;

const std::string& text_of(const Json& j, std::string_view key = "text") { return j.find(key)->as_string(); }

const Json& goldens() {
  static const Json json = data("text/tokenizer_goldens.json");
  return json;
}

std::string streamed(const Tokenizer& tokenizer, const std::vector<std::int32_t>& ids, bool skip_special_tokens) {
  Detokenizer detokenizer(tokenizer, skip_special_tokens);
  std::string text;
  for (const std::int32_t id : ids) text += detokenizer.push(id);
  return text + detokenizer.flush();
}

TEST(TokenizerGoldens, NamedCasesOfQwen3) {
  const Json json = data("text/tokenizer.json");
  for (const Json& c : json.find("cases")->as_array()) {
    EXPECT_EQ(qwen3().encode(text_of(c)), ids_of(*c.find("ids"))) << text_of(c, "name");
    EXPECT_EQ(qwen3().decode(ids_of(*c.find("ids"))), text_of(c, "decoded")) << text_of(c, "name");
  }
}

TEST(TokenizerGoldens, TextsOfQwen3) {
  const Json::Array& cases = goldens().find("qwen3")->find("cases")->as_array();
  EXPECT_GT(cases.size(), 400u);
  for (const Json& c : cases) {
    EXPECT_EQ(qwen3().encode(text_of(c)), ids_of(*c.find("ids"))) << to_json(c);
    EXPECT_EQ(qwen3().decode(ids_of(*c.find("ids"))), text_of(c, "decoded")) << to_json(c);
  }
}

TEST(TokenizerGoldens, ControlTokensAsText) {
  for (const Json& c : goldens().find("qwen3")->find("without_special")->as_array())
    EXPECT_EQ(qwen3().encode(text_of(c), {.parse_special = false}), ids_of(*c.find("ids"))) << to_json(c);
}

TEST(TokenizerGoldens, AnyIdsOfQwen3InOneGoAndStreamed) {
  for (const Json& c : goldens().find("qwen3")->find("decoding")->as_array()) {
    const std::vector<std::int32_t> ids = ids_of(*c.find("ids"));
    EXPECT_EQ(qwen3().decode(ids), text_of(c, "decoded")) << to_json(c);
    EXPECT_EQ(qwen3().decode(ids, true), text_of(c, "skipped")) << to_json(c);
    EXPECT_EQ(streamed(qwen3(), ids, false), text_of(c, "decoded")) << to_json(c);
    EXPECT_EQ(streamed(qwen3(), ids, true), text_of(c, "skipped")) << to_json(c);
  }
}

Tokenizer variant_of(const Json& variant) {
  Json json = *goldens().find("base");
  for (const auto& [key, value] : variant.find("replace")->as_object()) json.set(key, value);
  Json model = *json.find("model");
  for (const auto& [key, value] : variant.find("replace_in_model")->as_object()) model.set(key, value);
  json.set("model", std::move(model));
  return Tokenizer::from_json(to_json(json), text_of(variant, "name"));
}

TEST(TokenizerGoldens, EveryKindOfComponent) {
  for (const Json& variant : goldens().find("variants")->as_array()) {
    const Tokenizer tokenizer = variant_of(variant);
    for (const Json& c : variant.find("cases")->as_array()) {
      const std::vector<std::int32_t> ids = ids_of(*c.find("ids"));
      const auto or_ids = [&](std::string_view key) { return c.find(key) ? ids_of(*c.find(key)) : ids; };
      const std::string where = text_of(variant, "name") + ": " + to_json(c);
      EXPECT_EQ(tokenizer.encode(text_of(c)), ids) << where;
      EXPECT_EQ(tokenizer.encode(text_of(c), {.add_special_tokens = false}), or_ids("bare")) << where;
      EXPECT_EQ(tokenizer.encode(text_of(c), {.parse_special = false}), or_ids("without_special")) << where;
      EXPECT_EQ(tokenizer.decode(ids), text_of(c, "decoded")) << where;
      EXPECT_EQ(tokenizer.decode(ids, true), text_of(c, c.find("skipped") ? "skipped" : "decoded")) << where;
      EXPECT_EQ(streamed(tokenizer, ids, true), tokenizer.decode(ids, true)) << where;
    }
  }
}

}  // namespace
}  // namespace cajal
