#include <gmock/gmock.h>

#include "cli/cli_fixture.h"

namespace cajal::cli {
namespace {

using ::testing::HasSubstr;

TEST(Tokenize, PrintsIdsSeparatedBySpaces) {
  EXPECT_EQ(cajal({"tokenize", tokenizer_folder()}, "Hello, world").out, "9707 11 1879\n");
  EXPECT_EQ(cajal({"tokenize", tokenizer_folder()}, "hi\n").out, "6023 198\n") << "a final newline is text too";
  EXPECT_EQ(cajal({"tokenize", tokenizer_folder()}, "").out, "\n");
}

TEST(Tokenize, PrintsIdsAndTokensAsJson) {
  EXPECT_EQ(cajal({"tokenize", tokenizer_folder(), "--json"}, "hi\n").out,
            "{\"token_ids\":[6023,198],\"tokens\":[\"hi\",\"Ċ\"]}\n");
  EXPECT_EQ(cajal({"tokenize", "--json", "--model", tokenizer_folder()}, "").out, "{\"token_ids\":[],\"tokens\":[]}\n");
}

TEST(Tokenize, AnswersEveryLineOfJson) {
  const Ran ran = cajal({"tokenize", tokenizer_folder(), "--jsonl"}, "\"a\"\nnot json\n\"\"\n3\n\"b\"");
  EXPECT_EQ(ran.code, 1);
  std::istringstream lines(ran.out);
  std::string line;
  std::vector<Json> answers;
  while (std::getline(lines, line)) answers.push_back(parse_json(line, "a line"));
  ASSERT_EQ(answers.size(), 5u);
  EXPECT_EQ(to_json(*answers[0].find("token_ids")), "[64]");
  EXPECT_TRUE(answers[1].find("error"));
  EXPECT_EQ(to_json(answers[2]), "{\"token_ids\":[],\"tokens\":[]}");
  EXPECT_TRUE(answers[3].find("error"));
  EXPECT_EQ(to_json(*answers[4].find("token_ids")), "[65]");
  EXPECT_THAT(ran.last_line(), HasSubstr("cajal: error: 2 of 5 lines failed, the first: standard input line 2"));
}

TEST(Tokenize, RefusesBytesThatAreNoText) {
  const Ran ran = cajal({"tokenize", tokenizer_folder()}, "ab\xff");
  EXPECT_EQ(ran.code, 1);
  EXPECT_EQ(ran.out, "");
  EXPECT_THAT(ran.err, HasSubstr("standard input: the text is not UTF-8"));
}

TEST(Detokenize, ReadsIdsHoweverTheyAreSeparated) {
  for (const char* ids :
       {"9707 11 1879", "9707,11,1879", " 9707,\n11\t1879\n", "[9707, 11, 1879]\n", "\n[9707,11,1879]"})
    EXPECT_EQ(cajal({"detokenize", tokenizer_folder()}, ids).out, "Hello, world") << ids;
  EXPECT_EQ(cajal({"detokenize", tokenizer_folder()}, "").out, "");
  EXPECT_EQ(cajal({"detokenize", tokenizer_folder()}, "[]").out, "");
}

TEST(Detokenize, LeavesControlTokensOutWhenAsked) {
  EXPECT_EQ(cajal({"detokenize", tokenizer_folder()}, "9707 151645").out, "Hello<|im_end|>");
  EXPECT_EQ(cajal({"detokenize", tokenizer_folder(), "--skip_special_tokens"}, "9707 151645").out, "Hello");
}

TEST(Detokenize, RefusesWhatIsNoId) {
  for (const char* ids : {"1 x", "-1", "2147483648", "1.5", "[1, \"a\"]", "[1", "[1, -1]", "1 2 ["}) {
    const Ran ran = cajal({"detokenize", tokenizer_folder()}, ids);
    EXPECT_EQ(ran.code, 1) << ids;
    EXPECT_EQ(ran.out, "") << ids;
    EXPECT_THAT(ran.err, HasSubstr("standard input")) << ids;
  }
}

TEST(TextCommands, TurnTextIntoIdsAndBack) {
  const std::string text = "Größe: 東京 🙂 <|im_start|>user\r\n\tdef f(x):\n";
  EXPECT_EQ(cajal({"detokenize", tokenizer_folder()}, cajal({"tokenize", tokenizer_folder()}, text).out).out, text);
}

}  // namespace
}  // namespace cajal::cli
