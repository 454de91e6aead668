#include "text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "base/error.h"
#include "support.h"
#include "text/nfc.h"

namespace cajal {
namespace {

using test::qwen3;
using test::small_tokenizer;
using testing::AllOf;
using testing::HasSubstr;
using Ids = std::vector<std::int32_t>;

template <class Body>
std::string error_of(Body&& body) {
  try {
    body();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

std::string load_error(const Json& json) {
  return error_of([&] { Tokenizer::from_json(to_json(json), "t.json"); });
}

Json with(Json json, std::string_view key, Json value) {
  json.set(key, std::move(value));
  return json;
}

Json with_model(Json json, std::string_view key, Json value) {
  return with(json, "model", with(*json.find("model"), key, std::move(value)));
}

Json parsed(const char* text) { return parse_json(text, "the test"); }

Json added(const char* content, int id) {
  Json token;
  token.set("id", id);
  token.set("content", content);
  for (const char* flag : {"single_word", "lstrip", "rstrip", "normalized", "special"}) token.set(flag, false);
  return token;
}

TEST(Tokenizer, GivesBackTheNormalFormOfAnyText) {
  test::Random random(4);
  for (int round = 0; round < 20000; ++round) {
    const std::string text = random.text(30);
    ASSERT_EQ(qwen3().decode(qwen3().encode(text)), to_nfc(text).value_or(text)) << to_json(Json(text));
  }
}

TEST(Tokenizer, KnowsTheVocabularyOfQwen3) {
  EXPECT_EQ(qwen3().vocab_size(), 151669);
  EXPECT_EQ(qwen3().eos_token_id(), 151645);
  EXPECT_EQ(qwen3().pad_token_id(), 151643);
  EXPECT_EQ(qwen3().bos_token_id(), std::nullopt);
  EXPECT_EQ(qwen3().id_of("\u0120the"), 279);
  EXPECT_EQ(qwen3().token(279), "\u0120the");
  EXPECT_EQ(qwen3().token_bytes(279), " the");
  EXPECT_EQ(qwen3().id_of("<|im_end|>"), 151645);
  EXPECT_EQ(qwen3().id_of("no such token"), std::nullopt);
  for (std::int32_t id = 0; id < qwen3().vocab_size(); ++id) ASSERT_EQ(qwen3().id_of(qwen3().token(id)), id);
  for (const std::int32_t id : {-1, 151669, 2147483647, -2147483647 - 1}) {
    EXPECT_FALSE(qwen3().contains(id));
    EXPECT_EQ(qwen3().token(id), "");
    EXPECT_EQ(qwen3().decode(Ids{279, id, 279}), " the the");
  }
}

TEST(Tokenizer, EncodesNothingAsNothing) { EXPECT_EQ(qwen3().encode(""), Ids{}); }

TEST(Tokenizer, NamesTheFirstByteThatIsNotUtf8) {
  for (const char* text : {"abc\xff", "abc\xc3", "abc\xed\xa0\x80", "abc\xc0\x80 \xff", "abc\xf4\x90\x80\x80"})
    EXPECT_THAT(error_of([&] { qwen3().encode(text); }), HasSubstr("byte 3 ")) << text;
}

TEST(Tokenizer, NormalisesBetweenTokensNeverAcross) {
  EXPECT_EQ(qwen3().decode(qwen3().encode("e<|im_end|>\u0301")), "e<|im_end|>\u0301");
  EXPECT_EQ(qwen3().encode("e\u0301"), qwen3().encode("\u00e9"));
}

TEST(Tokenizer, IsSharedByThreads) {
  const Tokenizer fresh = Tokenizer::from_json(to_json(small_tokenizer({"a b", "ab c", "b c", "a bc"})), "t.json");
  test::Random random(5);
  std::vector<std::string> texts;
  std::vector<Ids> expected;
  for (int i = 0; i < 300; ++i) {
    std::string text;
    for (std::uint32_t n = random.below(8); n > 0; --n) text += static_cast<char>('a' + random.below(3));
    texts.push_back(text);
    expected.push_back(
        Tokenizer::from_json(to_json(small_tokenizer({"a b", "ab c", "b c", "a bc"})), "t.json").encode(text));
  }
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (std::size_t i = 0; i < texts.size(); ++i) wrong += fresh.encode(texts[i]) != expected[i];
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

// A generous bound: what matters is that it is not quadratic, which would take hours.
// That the time grows as n log n is what the counted operations of bpe_test.cpp show.
TEST(TokenizerSlow, TakesOneLongWordInItsStride) {
  for (const char* unit : {"x", " ", "\n", "!", "\u4f60", "\u0301", "1", "ab", "<", "<|im_", " \n", "'s"}) {
    std::string text;
    while (text.size() < 1'000'000) text += unit;
    const Ids ids = qwen3().encode(text);
    EXPECT_EQ(qwen3().decode(ids), text) << unit;
  }
}

TEST(TokenizerFile, SaysWhatIsMissingInAFolder) {
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / "cajal_no_tokenizer";
  std::filesystem::create_directories(folder);
  EXPECT_FALSE(Tokenizer::is_present(folder.string()));
  EXPECT_THAT(error_of([&] { Tokenizer::from_folder(folder.string()); }), HasSubstr("tokenizer.json is missing"));
  write_file((folder / "tokenizer.model").string(), "x");
  EXPECT_THAT(error_of([&] { Tokenizer::from_folder(folder.string()); }),
              AllOf(HasSubstr("has tokenizer.model"), HasSubstr("AutoTokenizer")));
  write_file((folder / "tokenizer.json").string(), "{\"model\": ");
  EXPECT_TRUE(Tokenizer::is_present(folder.string()));
  EXPECT_THAT(error_of([&] { Tokenizer::from_folder(folder.string()); }),
              HasSubstr((folder / "tokenizer.json").string()));
  write_file((folder / "tokenizer.json").string(), to_json(small_tokenizer()));
  EXPECT_EQ(Tokenizer::from_folder(folder.string()).eos_token_id(), std::nullopt);
  write_file((folder / "tokenizer_config.json").string(),
             R"({"eos_token": {"content": "a"}, "pad_token": null, "bos_token": "?none"})");
  EXPECT_EQ(Tokenizer::from_folder(folder.string()).eos_token_id(), 'a');
  EXPECT_EQ(Tokenizer::from_folder(folder.string()).bos_token_id(), std::nullopt);
  write_file((folder / "tokenizer_config.json").string(), R"({"eos_token": 7})");
  EXPECT_THAT(error_of([&] { Tokenizer::from_folder(folder.string()); }),
              AllOf(HasSubstr("tokenizer_config.json"), HasSubstr("eos_token")));
  std::filesystem::remove_all(folder);
}

TEST(TokenizerFile, RefusesOtherKindsByName) {
  const Json small = small_tokenizer();
  EXPECT_EQ(load_error(small), "no error");
  for (const char* type : {"Unigram", "WordPiece", "WordLevel"})
    EXPECT_THAT(load_error(with_model(small, "type", type)), AllOf(HasSubstr("t.json: model"), HasSubstr(type)));
  EXPECT_THAT(load_error(with(small, "normalizer", parsed(R"({"type":"Lowercase"})"))),
              HasSubstr("normalizer: Lowercase"));
  EXPECT_THAT(load_error(with(small, "normalizer",
                              parsed(R"({"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"NFKC"}]})"))),
              HasSubstr("NFKC"));
  EXPECT_THAT(load_error(with(small, "pre_tokenizer", parsed(R"({"type":"Metaspace"})"))), HasSubstr("Metaspace"));
  EXPECT_THAT(load_error(with(small, "pre_tokenizer", Json())), HasSubstr("pre_tokenizer"));
  EXPECT_THAT(load_error(with(small, "post_processor", parsed(R"({"type":"BertProcessing"})"))),
              HasSubstr("BertProcessing"));
  EXPECT_THAT(load_error(with(small, "decoder", parsed(R"({"type":"WordPiece"})"))), HasSubstr("decoder: WordPiece"));
  EXPECT_THAT(load_error(with(small, "decoder", Json())), HasSubstr("decoder"));
  EXPECT_THAT(load_error(with(small, "version", "2.0")), HasSubstr("2.0"));
  EXPECT_THAT(load_error(with_model(small, "dropout", 0.1)), HasSubstr("dropout"));
  EXPECT_THAT(load_error(with_model(small, "end_of_word_suffix", "</w>")), HasSubstr("</w>"));
  EXPECT_THAT(load_error(parsed("[]")), HasSubstr("expected an object"));
}

TEST(TokenizerFile, NamesWhatIsWrongInTheModel) {
  const Json small = small_tokenizer();
  const std::pair<Json, const char*> cases[] = {
      {with(small, "model", Json()), "model"},
      {parsed("{}"), "\"model\" is missing"},
      {with_model(small, "vocab", 3), "\"vocab\" is an integer, expected an object"},
      {with_model(small, "vocab", parsed(R"({"a":"b"})")), "the id of token \"a\" is a string"},
      {with_model(small, "vocab", parsed(R"({"a":1.5})")), "a number, expected an integer"},
      {with_model(small, "vocab", parsed(R"({"a":-1})")), "id -1"},
      {with_model(small, "vocab", parsed(R"({"a":4194304})")), "id 4194304"},
      {with_model(small, "vocab", parsed(R"({"a":99999999999})")), "id 99999999999"},
      {with_model(small, "vocab", parsed(R"({"a":1,"b":1})")), "both have id 1"},
      {with_model(small, "vocab", Json(Json::Object{{"a", 1}, {"a", 2}})), "\"a\" stands twice"},
      {with_model(small, "merges", parsed(R"([["a","zz"]])")), "\"zz\" is not in the vocabulary"},
      {with_model(small, "merges", parsed(R"(["a b"])")), "\"ab\" is not in the vocabulary"},
      {with_model(small, "merges", parsed(R"([["a"]])")), "merges[0]"},
      {with_model(small, "merges", parsed(R"(["a b c"])")), "merges[0] is \"a b c\""},
      {with_model(small, "merges", parsed(R"([7])")), "merges[0] is an integer"},
      {with_model(small, "merges", Json()), "\"merges\" is null, expected an array"},
      {with_model(with_model(with_model(small, "vocab", parsed(R"({"a":0})")), "merges", Json::Array{}), "unk_token",
                  "<unk>"),
       "unk_token"},
      {with_model(with_model(with_model(small, "vocab", parsed(R"({"a":0})")), "merges", Json::Array{}),
                  "byte_fallback", true),
       "byte_fallback"},
  };
  for (const auto& [json, expected] : cases)
    EXPECT_THAT(load_error(json),
                AllOf(HasSubstr("t.json: "), HasSubstr(expected), HasSubstr("use the tokenizer.json")))
        << expected;
}

TEST(TokenizerFile, NamesWhatIsWrongInTheRest) {
  const Json small = small_tokenizer();
  const auto with_added = [&](Json::Array tokens) { return with(small, "added_tokens", std::move(tokens)); };
  Json no_flag = added("<x>", 256);
  no_flag.set("lstrip", 3);
  const std::pair<Json, const char*> cases[] = {
      {with_added({added("<x>", 300)}), "\"<x>\" has id 300, expected 256"},
      {with_added({added("a", 256)}), "expected 97 (its id in the vocabulary)"},
      {with_added({added("<x>", 256), added("<x>", 256)}), "stands twice"},
      {with_added({no_flag}), "\"lstrip\" is an integer, expected true or false"},
      {with_added({Json(5)}), "added_tokens[0]: got an integer"},
      {with(small, "post_processor", parsed(R"({"type":"TemplateProcessing","single":[],"special_tokens":{}})")),
       "no Sequence A"},
      {with(small, "post_processor",
            parsed(R"({"type":"TemplateProcessing","single":[{"Sequence":{"id":"B"}}],"special_tokens":{}})")),
       "Sequence B"},
      {with(small, "post_processor",
            parsed(R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x"}}],"special_tokens":{}})")),
       "\"x\" is missing"},
      {with(
           small, "post_processor",
           parsed(
               R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x"}}],"special_tokens":{"x":{"ids":[999]}}})")),
       "id 999, which no token has"},
      {with(small, "pre_tokenizer", parsed(R"({"type":"Sequence","pretokenizers":[]})")), "empty Sequence"},
      {with(small, "pre_tokenizer", parsed(R"({"type":"ByteLevel"})")), "\"add_prefix_space\" is missing"},
      {with(
           small, "pre_tokenizer",
           parsed(
               R"({"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false}]})")),
       "not understood"},
      {with(
           small, "pre_tokenizer",
           parsed(
               R"({"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"a"},"behavior":"Odd","invert":false},{"type":"ByteLevel","add_prefix_space":false}]})")),
       "\"Odd\""},
      {with(small, "decoder", parsed(R"({"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"ByteLevel"}]})")),
       "Fuse before ByteLevel"},
  };
  for (const auto& [json, expected] : cases)
    EXPECT_THAT(load_error(json), AllOf(HasSubstr("t.json: "), HasSubstr(expected))) << expected;
}

TEST(TokenizerFile, TakesManyAddedTokensOfOneBeginning) {
  Json::Array tokens;
  std::string text;
  for (int i = 0; i < 5000; ++i) {
    tokens.push_back(added(("<|audio_" + std::to_string(i) + "|>").c_str(), 256 + i));
    text += "<|audio_" + std::to_string(i) + "|>";
  }
  const Tokenizer tokenizer = Tokenizer::from_json(to_json(with(small_tokenizer(), "added_tokens", tokens)), "t.json");
  const Ids ids = tokenizer.encode(text);
  ASSERT_EQ(ids.size(), 5000u);
  for (int i = 0; i < 5000; ++i) EXPECT_EQ(ids[static_cast<std::size_t>(i)], 256 + i);
}

// Quadratic, this would take hours.
TEST(TokenizerFile, StripsLongRunsOfSpacesOnce) {
  Json both = added(" ", 256), plain = added("<x>", 257);
  both.set("lstrip", true);
  both.set("rstrip", true);
  const Json json = with(small_tokenizer(), "added_tokens", Json::Array{both, plain});
  const Tokenizer tokenizer = Tokenizer::from_json(to_json(json), "t.json");
  EXPECT_EQ(tokenizer.encode("a<x>" + std::string(1'000'000, '\t') + " <x>"), (Ids{'a', 257, 256, 257}));
  EXPECT_EQ(tokenizer.encode(std::string(1'000'000, ' ')), Ids{256});
}

TEST(Tokenizer, CutsTheTextAndKeepsWhatThePostProcessorPutsAroundIt) {
  Json json = with(small_tokenizer(), "added_tokens", Json::Array{added("<s>", 256), added("</s>", 257)});
  json.set("post_processor", parsed(R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>"}},
      {"Sequence":{"id":"A"}},{"SpecialToken":{"id":"</s>"}}],
      "special_tokens":{"<s>":{"ids":[256]},"</s>":{"ids":[257]}}})"));
  const Tokenizer tokenizer = Tokenizer::from_json(to_json(json));
  const auto whole = tokenizer.encode("abcdef");
  ASSERT_EQ(whole.size(), 8u);
  EXPECT_EQ(whole.front(), 256);
  EXPECT_EQ(whole.back(), 257);
  EXPECT_EQ(tokenizer.encode("abcdef", {.max_length = 8}), whole);
  EXPECT_EQ(tokenizer.encode("abcdef", {.max_length = 5}),
            (std::vector<std::int32_t>{256, whole[1], whole[2], whole[3], 257}));
  EXPECT_EQ(tokenizer.encode("abcdef", {.max_length = 2}), (std::vector<std::int32_t>{256, 257}));
  EXPECT_EQ(tokenizer.encode("abcdef", {.add_special_tokens = false, .max_length = 2}).size(), 2u);
  EXPECT_THROW(tokenizer.encode("abcdef", {.max_length = 1}), Error);
}

}  // namespace
}  // namespace cajal
