// Answers that follow a grammar: what it lets come and nothing else, whoever runs beside them and whatever is guessed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bitset>
#include <cctype>
#include <cmath>
#include <random>

#include "base/json.h"
#include "engine/scheduling/requests.h"
#include "engine/structured_output/grammar_backend.h"
#include "engine/structured_output/grammar_compiler.h"
#include "engine/structured_output/json_schema.h"
#include "engine/structured_output/json_string_pattern.h"
#include "engine/structured_output/request_constraints.h"
#include "engine/structured_output/structural_tag.h"
#include "engine/test_device.h"

namespace cajal {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::int32_t kEnd = 2, kBegin = 10, kEndOfThought = 11, kNewline = 12, kWord = 20, kOther = 21;
constexpr std::size_t kVocab = 40;

// One word, so many times; then its end.
class Repeats final : public CompiledGrammar {
 public:
  explicit Repeats(int times, bool ends = true) : times_(times), ends_(ends) {}
  std::unique_ptr<GrammarMatcher> matcher() const override { return std::make_unique<Matcher>(times_, ends_); }

 private:
  class Matcher final : public GrammarMatcher {
   public:
    Matcher(int times, bool ends) : left_(times), ends_(ends) {}
    void fill_bitmask(std::span<std::int32_t> bitmask) override {
      std::fill(bitmask.begin(), bitmask.end(), 0);
      if (left_ > 0) bitmask[kWord / 32] |= 1 << (kWord % 32);
      if (left_ == 0 && ends_) bitmask[kEnd / 32] |= 1 << (kEnd % 32);
    }
    bool accept(std::int32_t token) override { return left_ > 0 && token == kWord && left_-- > 0; }
    std::int64_t count_valid(std::span<const std::int32_t> tokens) override {
      const auto wrong = std::find_if(tokens.begin(), tokens.end(), [](auto t) { return t != kWord; });
      return std::min<std::int64_t>(left_, wrong - tokens.begin());
    }

   private:
    int left_;
    bool ends_;
  };
  int times_;
  bool ends_;
};

TokenConstraints constraints_of(int times) {
  TokenConstraints c;
  c.grammar = std::make_shared<Repeats>(times);
  c.thinking = std::make_shared<ThinkingTokens>(ThinkingTokens{
      .begin = kBegin, .end = kEndOfThought, .closing = {kOther, kEndOfThought, kNewline}, .newlines = {kNewline}});
  return c;
}

// What may come, all logits being equal.
std::vector<std::int32_t> allowed(AllowedTokens& tokens) {
  std::vector<float> logits(kVocab, 0.5f);
  std::vector<std::int32_t> result;
  if (!tokens.apply(logits)) return result;
  for (std::size_t i = 0; i < kVocab; ++i)
    if (!std::isinf(logits[i])) result.push_back(static_cast<std::int32_t>(i));
  return result;
}

constexpr std::int32_t kEndings[] = {kEnd};

TEST(AllowedTokens, FollowTheGrammarFromTheFirstTokenOn) {
  const TokenConstraints c = constraints_of(2);
  AllowedTokens tokens(c, kEndings);
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(allowed(tokens), ElementsAre(kWord));
    tokens.accept(kWord);
  }
  EXPECT_THAT(allowed(tokens), ElementsAre(kEnd));
}

TEST(AllowedTokens, AreAllInAThoughtButForTheEndAndTheGrammarsAfterIt) {
  TokenConstraints c = constraints_of(1);
  c.in_thought = true;
  AllowedTokens tokens(c, kEndings);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(allowed(tokens).size(), kVocab - 1) << "all but the end";
    tokens.accept(i == 2 ? kEndOfThought : kOther);
  }
  EXPECT_THAT(allowed(tokens), ElementsAre(kNewline, kWord));
  tokens.accept(kNewline);
  EXPECT_THAT(allowed(tokens), ElementsAre(kWord));
}

TEST(AllowedTokens, MayBeginAThoughtWhereTheAnswerMay) {
  TokenConstraints c = constraints_of(1);
  c.may_think = true;
  AllowedTokens thinks(c, kEndings), answers(c, kEndings);
  EXPECT_THAT(allowed(thinks), ElementsAre(kBegin, kWord));
  thinks.accept(kBegin);
  EXPECT_EQ(allowed(thinks).size(), kVocab - 1);
  EXPECT_THAT(allowed(answers), ElementsAre(kBegin, kWord));
  answers.accept(kWord);
  EXPECT_THAT(allowed(answers), ElementsAre(kEnd));
}

TEST(AllowedTokens, EndAThoughtWhoseBudgetIsSpent) {
  for (const bool structured : {true, false}) {
    TokenConstraints c = constraints_of(1);
    if (!structured) c.grammar = nullptr;
    c.in_thought = true;
    c.thinking_token_budget = 2;
    AllowedTokens tokens(c, kEndings);
    for (int i = 0; i < 2; ++i) tokens.accept(kOther);
    for (const std::int32_t closing : c.thinking->closing) {
      EXPECT_THAT(allowed(tokens), ElementsAre(closing));
      tokens.accept(closing);
    }
    EXPECT_EQ(allowed(tokens).size(), structured ? 1 : kVocab);
  }
}

TEST(AllowedTokens, HaveNoEndBeforeMinTokensUnlessNothingElseIsLeft) {
  TokenConstraints c;
  c.min_tokens = 2;
  AllowedTokens tokens(c, kEndings);
  EXPECT_EQ(allowed(tokens).size(), kVocab - 1);
  tokens.accept(kWord);
  tokens.accept(kWord);
  EXPECT_EQ(allowed(tokens).size(), kVocab);

  TokenConstraints short_one = constraints_of(1);
  short_one.min_tokens = 5;
  AllowedTokens structured(short_one, kEndings);
  structured.accept(kWord);
  EXPECT_THAT(allowed(structured), ElementsAre(kEnd));
}

TEST(AllowedTokens, AddBiasesToLogitsOnce) {
  TokenConstraints c;
  c.logit_bias = {{3, 2.5f}, {4, -100}};
  AllowedTokens tokens(c, kEndings);
  std::vector<float> logits(kVocab, 1.0f);
  ASSERT_TRUE(tokens.apply(logits));
  EXPECT_EQ(logits[3], 3.5f);
  EXPECT_EQ(logits[4], -99.0f);
  EXPECT_EQ(logits[5], 1.0f);
}

TEST(AllowedTokens, SayHowManyGuessesMayFollow) {
  TokenConstraints c = constraints_of(3);
  AllowedTokens tokens(c, kEndings);
  EXPECT_EQ(tokens.count_valid(std::vector{kWord, kWord, kOther, kWord}), 2);
  EXPECT_EQ(tokens.count_valid(std::vector{kWord, kWord, kWord, kWord}), 3);
  c.in_thought = true;
  EXPECT_EQ(AllowedTokens(c, kEndings).count_valid(std::vector{kOther, kOther}), 2) << "a thought is free";
}

TEST(AllowedTokens, AreAnErrorWhereAGrammarContradictsItself) {
  const TokenConstraints c = constraints_of(1);
  AllowedTokens tokens(c, kEndings);
  EXPECT_THROW(tokens.accept(kOther), Error);
  EXPECT_NO_THROW(tokens.accept(kEnd)) << "which ends the answer";
}

std::string lowered(const char* schema) { return to_json(lower_json_schema(parse_json(schema, "schema"))); }
std::string fault(const char* schema) {
  try {
    return "none: " + lowered(schema);
  } catch (const Error& e) {
    return e.message();
  }
}

TEST(JsonSchema, SaysWhatTheCompilerWouldPassOver) {
  EXPECT_EQ(lowered(R"({"type": "string", "enum": ["a", 1, "b"]})"), R"({"enum":["a","b"]})");
  EXPECT_EQ(lowered(R"({"type": "object", "required": ["q"], "description": "x"})"),
            R"({"type":"object","additionalProperties":true,"required":["q"],"properties":{"q":{}}})");
  EXPECT_EQ(lowered(R"({"properties": {"a": true}})"),
            R"({"type":"object","additionalProperties":false,"properties":{"a":{}}})");
  EXPECT_EQ(lowered(R"({"type": "array"})"), R"({"type":"array","items":{}})");
  EXPECT_EQ(lowered(R"({"maximum": 2.5})"), R"({"type":"number","maximum":2.5})");
  EXPECT_EQ(lowered(R"({"type": "integer", "minimum": 0.5, "exclusiveMaximum": 3.5})"),
            R"({"type":"integer","minimum":1,"exclusiveMaximum":4})");
  EXPECT_EQ(lowered(R"({"type": ["null", "boolean"]})"), R"({"anyOf":[{"type":"null"},{"type":"boolean"}]})");
  EXPECT_EQ(lowered(R"({"definitions": {"a/b": {"type": "null"}}, "$ref": "#/definitions/a~1b"})"),
            R"({"$ref":"#/$defs/d0","$defs":{"d0":{"type":"null"}}})");
  EXPECT_EQ(lowered(R"({"oneOf": [{"type": "null"}, {"const": 1}, {"enum": ["x"]}]})"),
            R"({"anyOf":[{"type":"null"},{"enum":[1]},{"enum":["x"]}]})");
}

TEST(JsonSchema, NamesThePlaceOfWhatCannotBeKept) {
  EXPECT_THAT(fault(R"({"properties": {"a": {"items": {"not": {}}}}})"),
              HasSubstr("#/properties/a/items: the keyword 'not'"));
  EXPECT_THAT(fault(R"({"type": "object", "anyOf": [true]})"), HasSubstr("'type' beside 'anyOf'"));
  EXPECT_THAT(fault(R"({"oneOf": [{"type": "integer"}, {"type": "number"}]})"), HasSubstr("use anyOf"));
  EXPECT_THAT(fault(R"({"allOf": [true, true]})"), HasSubstr("#/allOf"));
  EXPECT_THAT(fault(R"({"type": "string", "pattern": "^a\"$"})"), HasSubstr("#/pattern: '\"' is not supported"));
  EXPECT_THAT(fault(R"({"type": "string", "pattern": "a", "maxLength": 3})"), HasSubstr("only one of"));
  EXPECT_THAT(fault(R"({"type": "number", "multipleOf": 0.1})"), HasSubstr("multipleOf"));
  EXPECT_THAT(fault(R"({"$ref": "other.json"})"), HasSubstr("not in this schema"));
  EXPECT_THAT(fault(R"({"type": "words"})"), HasSubstr("#/type"));
  EXPECT_THAT(fault("7"), HasSubstr("expected a schema"));
}

TEST(JsonSchema, RefusesWhatNothingOrNothingFiniteSatisfies) {
  for (const char* schema :
       {"false", R"({"type": "null", "const": 1})", R"({"type": "array", "minItems": 3, "maxItems": 1})",
        R"({"required": ["a"], "additionalProperties": false})", R"({"$ref": "#"})",
        R"({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]})",
        R"({"type": "array", "items": {"$ref": "#"}, "minItems": 1})",
        R"({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"})"})
    EXPECT_THAT(fault(schema), HasSubstr("nothing")) << schema;
  EXPECT_THAT(
      fault(
          R"({"anyOf": [{"type": "null"}, {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}]})"),
      HasSubstr("none: "));
}

TEST(JsonSchema, RefusesPatternsOfWhatJsonEscapes) {
  const auto fault_of = [](const char* pattern) -> std::string {
    try {
      return "none: " + lower_json_string_pattern(pattern).text;
    } catch (const Error& e) {
      return e.message();
    }
  };
  for (const char* pattern : {R"(a")",         R"(\\)",       R"(\n)",          R"(\x22)",
                              R"(["])",        R"([\"])",     R"(["-"])",       R"([\\])",
                              R"([\x22\x5c])", R"([\u005C])", R"([\n])",        R"([\v\f\b])",
                              R"([\0-\x1f])",  R"(\cJ)",      R"([\u{d}])",     R"([^ -\u{10ffff}])",
                              R"([^\S ])",     R"([^\s\S])",  R"(a[b](["]c)+)", "\xEF\xBF\xBF\n"})
    EXPECT_THAT(fault_of(pattern), HasSubstr("JSON has to escape")) << pattern;
  EXPECT_THAT(fault_of("x[^]]y"), HasSubstr("'[^]' of the pattern names nothing"));
  EXPECT_THAT(fault_of("x[]"), HasSubstr("'[]' of the pattern names nothing"));
  EXPECT_THAT(fault_of("x[a"), HasSubstr("without a ']' at byte 1"));
  EXPECT_THAT(fault_of("[z-a]"), HasSubstr("a range that is none"));
  EXPECT_THAT(fault_of(R"([\q])"), HasSubstr(R"('\q')"));
  EXPECT_THAT(fault_of(R"(\x1)"), HasSubstr("with 1 hexadecimal digits, expected 2"));
  EXPECT_THAT(fault_of(R"(\u{110000})"), HasSubstr("without a code point"));
  EXPECT_THAT(fault_of(R"(\uD83D\u0041)"), HasSubstr("half a pair of surrogates"));
  EXPECT_THAT(fault(R"({"patternProperties": {"\\d": {}, "[0-9]": {}}})"), HasSubstr("may match '\\d' too"));
}

TEST(JsonSchema, WritesPatternsWithClassesOfWhatStandsInJson) {
  for (const auto& [pattern, lowered] : {std::pair{"^a(b|c)+d{2,3}$", "^a(b|c)+d{2,3}$"},
                                         {R"(["a\n]\d\-[\x41-C]\u00e9)", R"(a[0-9]\-[A-C]\u{e9})"},
                                         {".", R"([ -!#-\[\]-\u{d7ff}\u{e000}-\u{10ffff}])"},
                                         {R"([^\w -\/:-@[-`{-\u{10FFFE}])", R"(\u{10ffff})"},
                                         {R"([\^a])", R"([a\^])"},
                                         {R"([\^-z])", R"([_-z\^])"},
                                         {"]", R"(\])"},
                                         {"\xC3\xA9", R"(\u{e9})"},
                                         {R"([\uD83D\uDE00-\u{1f603}])", R"([\u{1f600}-\u{1f603}])"},
                                         {R"(\bx\1)", R"(\bx\1)"}})
    EXPECT_EQ(lower_json_string_pattern(pattern).text, lowered) << pattern;
}

TEST(JsonSchema, TellsPatternsApartByHowTheyBegin) {
  const auto disjoint = [](const char* a, const char* b) {
    return are_disjoint_patterns(lower_json_string_pattern(a), lower_json_string_pattern(b));
  };
  for (const auto& [a, b] : {std::pair{"^a_.*$", "^b_.*$"}, {"^[a-z]+$", R"(^\d)"}, {"ab(c|d)", "ac"}, {"a+b", "b"}})
    EXPECT_TRUE(disjoint(a, b)) << a << " and " << b;
  for (const auto& [a, b] : {std::pair{"^.*a$", "^b"},
                             {"a*b", "b"},
                             {"a?c", "bc"},
                             {"a{0,2}c", "c"},
                             {"a|b", "b"},
                             {"(a|b)", "c"},
                             {"ab", "abc"},
                             {R"(\w)", "_"},
                             {"", "a"},
                             {"a+b", "aa"}})
    EXPECT_FALSE(disjoint(a, b)) << a << " and " << b;
  EXPECT_THAT(fault(R"({"patternProperties": {"^a": {"type": "null"}, "^b": {"type": "boolean"}}})"),
              HasSubstr("none: "));
}

// A class at random and the ASCII that it names.
std::pair<std::string, std::bitset<128>> random_class(std::mt19937& random) {
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  std::string text = "[";
  const bool negated = below(2) == 0;
  if (negated) text += '^';
  std::bitset<128> set;
  for (int parts = 1 + below(4); parts > 0; --parts) {
    const auto character = [&](int c) {
      constexpr const char* kHex = "0123456789abcdef";
      if (c < ' ' || c == 127 || below(4) == 0)
        text += std::string(below(2) == 0 ? "\\x" : "\\u00") + kHex[c >> 4] + kHex[c & 15];
      else if (std::isalnum(c) != 0 || c == ' ')
        text += static_cast<char>(c);
      else
        (text += '\\') += static_cast<char>(c);
    };
    if (below(4) == 0) {
      const char escape = "dws"[below(3)];
      const bool complement = below(2) == 0;
      (text += '\\') += complement ? static_cast<char>(std::toupper(escape)) : escape;
      for (int c = 0; c < 128; ++c) {
        const bool named = escape == 'd'   ? std::isdigit(c) != 0
                           : escape == 'w' ? std::isalnum(c) != 0 || c == '_'
                                           : std::isspace(c) != 0;
        if (named != complement) set.set(static_cast<std::size_t>(c));
      }
      continue;
    }
    const int first = below(128), last = below(2) == 0 ? first : first + below(128 - first);
    character(first);
    if (last > first) text += '-', character(last);
    for (int c = first; c <= last; ++c) set.set(static_cast<std::size_t>(c));
  }
  return {text + "]", negated ? ~set : set};
}

// In every place where the compiler may look at it: before what its automata know, and before what they do not.
TEST(JsonSchema, LetsComeWhatAClassNamesAndNothingThatJsonEscapes) {
  if (!has_structured_outputs()) GTEST_SKIP() << "cajal was built without xgrammar (make setup)";
  std::vector<std::string> bytes(257);
  for (std::size_t i = 0; i < 256; ++i) bytes[i] = std::string(1, static_cast<char>(i));
  const auto backend = make_grammar_backend(bytes, {256}, 1 << 20);
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    auto [text, named] = random_class(random);
    for (std::size_t c = 0; c < 128; ++c)
      if (c < ' ' || c == '"' || c == '\\') named.reset(c);
    StructuredOutputs what;
    what.json = to_json(Json::Object{{"type", "string"}, {"pattern", text + (round % 2 == 0 ? "]?" : "\xC3\xA9+")}});
    std::unique_ptr<GrammarMatcher> matcher;
    try {
      matcher = compile_grammar(*backend, what, bytes.size())->matcher();
    } catch (const Error& e) {
      EXPECT_THAT(e.message(), HasSubstr("JSON has to escape")) << text;
      EXPECT_TRUE(named.none()) << text;
      continue;
    }
    ASSERT_TRUE(matcher->accept('"')) << text;
    std::vector<std::int32_t> bitmask(bitmask_words(bytes.size()));
    matcher->fill_bitmask(bitmask);
    for (std::size_t c = 0; c < 128; ++c)
      EXPECT_EQ(static_cast<std::uint32_t>(bitmask[c / 32]) >> (c % 32) & 1, named[c]) << text << " and byte " << c;
  }
}

TEST(JsonSchema, CountsWhatRepetitionsWriteOut) {
  EXPECT_EQ(count_states("abc"), 3);
  EXPECT_EQ(count_states("[a-z{9}]{5}x*"), 6);
  EXPECT_EQ(count_states("((a{10}){2,10}b){10}"), 1010);
  EXPECT_EQ(count_states(R"(\d{3}\{9)"), 5);
  EXPECT_GE(count_states("((a{999999}){999999}){999999999999999999999}"), std::int64_t{1} << 30);
  std::string many = R"({"properties": {"p0": {"type": "string", "maxLength": 90})";
  for (int i = 1; i < 60; ++i)
    many += detail::join(", \"p", i, "\": {\"type\": \"string\", \"maxLength\": ", i % 2 ? 90 : 95, "}");
  EXPECT_THAT(fault((many + "}}").c_str()), HasSubstr("none: ")) << "equal lengths count once";
}

// Whole answers, by the demo model.
class StructuredAnswers : public testing::Test {
 protected:
  void SetUp() override {
    if (!has_structured_outputs()) GTEST_SKIP() << "cajal was built without xgrammar (make setup)";
    const char* schemas[] = {
        R"({"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}, "n": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["name", "n"]})",
        R"({"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 6})",
        R"({"type": "object", "properties": {"s": {"enum": ["red", "green"]}}, "required": ["s"]})"};
    for (std::uint32_t i = 0; i < 18; ++i) {
      EngineRequest r{.id = i, .n = i % 5 == 4 ? 2u : 1u, .deadline = {}, .cache_salt = {}};
      SequenceRequest& s = r.sequence;
      s.prompt = tokenizer.encode("<|im_start|>user\nTell me about Paris.<|im_end|>\n<|im_start|>assistant\n");
      // Nearly two blocks, so that sequences that run side by side soon want another each.
      s.prompt.insert(s.prompt.begin(), 120 - s.prompt.size(), 100);
      if (i % 3 == 0) s.prompt.push_back(*tokenizer.id_of("<think>"));
      s.sampling = sampling_of_kind(i);
      s.max_new_tokens = 140;
      s.eos_token_ids = {*tokenizer.id_of("<|im_end|>")};
      s.num_logprobs = static_cast<std::int64_t>(i % 3) - 1;
      ConstraintWishes wishes{.structured_outputs = StructuredOutputs{.json = schemas[i % 3]}, .logit_bias = {}};
      wishes.may_think = i % 4 == 1;
      if (i % 2 == 0) wishes.thinking_token_budget = 6;
      if (i % 7 == 3) wishes.structured_outputs.reset(), wishes.min_tokens = 30, wishes.logit_bias = {{100, 3.0f}};
      s.constraints = constraints.make(wishes);
      constraints.begin_after(s.constraints, s.prompt);
      requests.push_back(std::move(r));
    }
  }

  Recorder run(const LLMEngineOptions& options) const {
    Recorder recorder;
    LLMEngine engine(model, &tokenizer, options, recorder);
    for (const EngineRequest& r : requests) EXPECT_FALSE(engine.core().add(r)) << r.id;
    run_to_the_end(engine.core());
    return recorder;
  }
  static LLMEngineOptions options_of(std::int64_t max_num_seqs) {
    LLMEngineOptions options;
    options.max_num_seqs = max_num_seqs;
    options.max_model_len = 256;
    return options;
  }

  std::unique_ptr<Backend> backend = test_backend(2);
  Model model{{.folder = CAJAL_SOURCE_DIR "/share/demo-model"}, *backend};
  Tokenizer tokenizer = Tokenizer::from_folder(CAJAL_SOURCE_DIR "/share/demo-model");
  RequestConstraints constraints{&tokenizer, 4096, std::vector{*tokenizer.id_of("<|im_end|>")}};
  std::vector<EngineRequest> requests;
};

TEST_F(StructuredAnswers, AreTheSameWhoeverRunsBesideThemAndWhateverIsGuessed) {
  LLMEngineOptions alone = options_of(1);
  alone.enable_prefix_caching = false;
  const Recorder expected = run(alone);
  const auto expect_as_alone = [&](const LLMEngineOptions& options, const std::string& what) {
    SCOPED_TRACE(what);
    Recorder recorder = run(options);
    EXPECT_EQ(recorder.sequences.size(), expected.sequences.size());
    for (const auto& [key, heard] : recorder.sequences) expect_same(heard, expected.sequences.at(key), name_of(key));
    return recorder;
  };
  expect_as_alone(options_of(16), "together");
  LLMEngineOptions options = options_of(16);
  options.prefill_chunk_size = 5;
  expect_as_alone(options, "in chunks");
  options = options_of(16);
  options.max_num_kv_blocks = 5;
  EXPECT_GT(expect_as_alone(options, "preempted").preemptions, 0);
  options = options_of(8);
  options.prompt_lookup_num_tokens = 4;
  EXPECT_GT(expect_as_alone(options, "with guesses looked up").num_accepted, 0);
  options = options_of(8);
  options.assistant_model = &model;
  EXPECT_GT(expect_as_alone(options, "with an assistant").num_accepted, 0);

  std::int64_t complete = 0;
  for (const auto& [key, heard] : expected.sequences) {
    const SequenceRequest& s = requests[key.first].sequence;
    if (!s.constraints.grammar || heard.finish_reasons[0] != FinishReason::stop) continue;
    const std::size_t thought = heard.text.find("</think>");
    const std::string answer = heard.text.substr(thought == std::string::npos ? 0 : thought + 8);
    EXPECT_NO_THROW(parse_json(answer, "the answer")) << heard.text;
    ++complete;
  }
  EXPECT_GT(complete, 10);
}

TEST_F(StructuredAnswers, ThatCannotGoOnEndWithAnErrorAndNothingElseDoes) {
  requests.resize(2);
  requests[0].sequence.constraints = {};
  requests[0].sequence.constraints.grammar = std::make_shared<Repeats>(2, false);
  const Recorder recorder = run(options_of(4));
  EXPECT_THAT(recorder.sequences.at({0, 0}).finish_reasons, ElementsAre(FinishReason::error));
  EXPECT_THAT(recorder.sequences.at({0, 0}).error, HasSubstr("lets no token come"));
  EXPECT_NE(recorder.sequences.at({1, 0}).finish_reasons, std::vector{FinishReason::error});
}

TEST_F(StructuredAnswers, OfGrammarsThatTakeTooLongAreRefused) {
  const std::vector<std::int32_t> eos{*tokenizer.id_of("<|im_end|>")};
  GrammarCompiler compiler(tokenizer, 4096, eos, {.timeout = std::chrono::milliseconds(0)});
  try {
    compiler.compile({.json = R"({"type": "string", "maxLength": 100})"});
    FAIL() << "it was compiled within no time";
  } catch (const Error& e) {
    EXPECT_THAT(e.message(), HasSubstr("could not be compiled within"));
  }
}

}  // namespace
}  // namespace cajal
