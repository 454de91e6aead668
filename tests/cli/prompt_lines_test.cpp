#include "cli/prompt_lines.h"

#include <gmock/gmock.h>

#include <fstream>

#include "cli/cli_fixture.h"

namespace cajal::cli {
namespace {

using ::testing::HasSubstr;
using Words = std::vector<std::string>;

PromptLine only(const std::string& text) {
  const auto lines = read_prompt_lines(text, "f.jsonl", {.max_new_tokens = 9, .seed = 4});
  EXPECT_EQ(lines.size(), 1u);
  return lines.at(0);
}

TEST(PromptLines, AreTextsOrObjects) {
  const auto lines = read_prompt_lines("\"one\"\n\n  \r\n{\"prompt\":\"two\"}\n{\"token_ids\":[1,2]}", "f.jsonl", {});
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0].prompt, "one");
  EXPECT_EQ(lines[1].prompt, "two");
  EXPECT_EQ(lines[1].number, 4u) << "empty lines count";
  EXPECT_EQ(lines[2].token_ids, (std::vector<std::int32_t>{1, 2}));
  for (const auto& line : lines) EXPECT_FALSE(line.error);
}

TEST(PromptLines, SayWhatTheCommandLineLeavesOpenAndWin) {
  const PromptLine line =
      only(R"({"id":"x","prompt":"p","max_tokens":3,"temperature":0.5,"top_k":-1,"top_p":0.25,"min_p":0.125,)"
           R"("repetition_penalty":1.5,"presence_penalty":-1,"frequency_penalty":2,"stop":["a","b"],"ignore_eos":true,)"
           R"("logprobs":2,"n":3,"priority":-5,"timeout_ms":100,"cache_salt":"s","enable_thinking":false})");
  ASSERT_FALSE(line.error) << line.error->what();
  EXPECT_EQ(line.id, Json("x"));
  const GenerateFlags& g = line.generate;
  EXPECT_EQ(g.max_new_tokens, 3);
  EXPECT_EQ(g.seed, 4u) << "from the command line";
  EXPECT_EQ(g.temperature, 0.5);
  EXPECT_EQ(g.top_k, -1);
  EXPECT_EQ(g.top_p, 0.25);
  EXPECT_EQ(g.min_p, 0.125);
  EXPECT_EQ(g.repetition_penalty, 1.5);
  EXPECT_EQ(g.presence_penalty, -1);
  EXPECT_EQ(g.frequency_penalty, 2);
  EXPECT_EQ(g.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(g.ignore_eos);
  EXPECT_EQ(g.logprobs, 2);
  EXPECT_EQ(g.num_return_sequences, 3);
  EXPECT_EQ(line.priority, -5);
  EXPECT_EQ(line.timeout_ms, 100);
  EXPECT_EQ(line.cache_salt, "s");
  EXPECT_EQ(line.enable_thinking, false);
}

TEST(PromptLines, AreKnownByTheirNameOrByTheirFirstLine) {
  EXPECT_TRUE(has_prompt_lines("a.jsonl", "anything"));
  EXPECT_TRUE(has_prompt_lines("-", "{\"prompt\":\"a\"}\nrubbish"));
  EXPECT_TRUE(has_prompt_lines("a.txt", "{\"id\":1,\"messages\":[]}"));
  for (const char* prompt : {"", "a text", "{", "{\"a\":1}", "[1]", "\"quoted\"", " {\"prompt\":\"a\"}"})
    EXPECT_FALSE(has_prompt_lines("a.txt", prompt)) << prompt;
}

TEST(PromptLines, ThatMakeNoSenseSayWhy) {
  const std::pair<const char*, const char*> bad[] = {
      {"nonsense", "line 1"},
      {"3", "it is an integer, expected a text or an object"},
      {"{}", "none of prompt, token_ids and messages"},
      {R"({"prompt":"a","token_ids":[1]})", "more than one of prompt"},
      {R"({"prompt":3})", "'prompt' is 3, expected a text"},
      {R"({"token_ids":[-1]})", "'token_ids' is -1"},
      {R"({"token_ids":[3000000000]})", "3000000000"},
      {R"({"messages":[]})", "expected a list of messages"},
      {R"({"prompt":"a","n":0})", "'n' is 0, expected an integer of at least 1"},
      {R"({"prompt":"a","n":1.5})", "'n' is 1.5"},
      {R"({"prompt":"a","stop":""})", "expected texts that are not empty"},
      {R"({"prompt":"a","temperature":"hot"})", "expected a number"},
      {R"({"prompt":"a","top_k":99999999999})", "at most 2147483647"},
      {R"({"prompt":"a","id":[1]})", "a text or an integer"},
      {R"({"prompt":"a","temprature":1})", "'temprature' is not a field of a request"},
  };
  for (const auto& [text, why] : bad) {
    const PromptLine line = only(text);
    ASSERT_TRUE(line.error) << text;
    EXPECT_THAT(line.error->what(), HasSubstr("f.jsonl, line 1")) << text;
    EXPECT_THAT(line.error->what(), HasSubstr(why)) << text;
  }
}

class RequestFile : public testing::Test {
 protected:
  RequestFile() { folder_.file("config.json", tiny_config()); }
  Ran answer(const std::string& lines, Words more) const {
    folder_.file("requests.jsonl", lines);
    Words words{"generate",     folder_.path(),  "--load-format",
                "dummy",        "--threads",     "1",
                "--ignore-eos", "--prompt-file", folder_.path() + "/requests.jsonl"};
    words.insert(words.end(), more.begin(), more.end());
    return cajal(words);
  }
  static std::vector<Json> lines_of(const std::string& text) {
    std::vector<Json> lines;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) lines.push_back(parse_json(line, "a line"));
    return lines;
  }
  static std::string ids(const Json& answer, std::size_t choice = 0) {
    return to_json(*answer.find("choices")->as_array().at(choice).find("token_ids"));
  }
  mutable TemporaryFolder folder_;
};

// Greedy and drawn, short and long, one and several: what each line gets is what it gets alone.
TEST_F(RequestFile, GivesEachLineWhatItGetsAlone) {
  std::vector<std::string> requests;
  for (int i = 0; i < 24; ++i) {
    std::string prompt;
    for (int k = 0; k <= i * 5 % 67; ++k) prompt += (k ? "," : "") + std::to_string((k * 7 + i % 3) % 50);
    requests.push_back(detail::join(R"({"token_ids":[)", prompt, R"(],"n":)", 1 + i % 3, R"(,"seed":)", i,
                                    i % 2 ? R"(,"temperature":1.5,"top_k":20)" : "", R"(,"max_tokens":)", 1 + i % 9,
                                    R"(,"priority":)", i % 4, R"(,"id":)", i, "}"));
  }
  std::string all;
  for (const auto& r : requests) all += r + "\n";
  for (const Words& how : {Words{}, Words{"--max-num-seqs", "3"}, Words{"--max-num-batched-tokens", "5"},
                           Words{"--prompt-lookup-num-tokens", "3"}, Words{"--no-enable-prefix-caching"}}) {
    Words words = how;
    words.push_back("--json");
    const Ran together = answer(all, words);
    ASSERT_EQ(together.code, 0) << together.err;
    const auto answers = lines_of(together.out);
    ASSERT_EQ(answers.size(), requests.size());
    for (std::size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(answers[i].find("id")->as_int(), static_cast<std::int64_t>(i)) << "in the order of the lines";
      const auto alone = lines_of(answer(requests[i] + "\n", {"--json"}).out);
      ASSERT_EQ(alone.size(), 1u);
      for (std::size_t k = 0; k < 1 + i % 3; ++k) EXPECT_EQ(ids(answers[i], k), ids(alone[0], k)) << i << ", " << k;
    }
  }
}

TEST_F(RequestFile, AnswersTheOtherLinesWhenOneIsBad) {
  const Ran ran = answer(
      "{\"token_ids\":[1,2],\"max_tokens\":2}\n{\"token_ids\":[1000000]}\nx\n{\"token_ids\":[3],\"max_tokens\":1}\n",
      {"--json"});
  EXPECT_EQ(ran.code, 1);
  const auto answers = lines_of(ran.out);
  ASSERT_EQ(answers.size(), 4u);
  EXPECT_TRUE(answers[0].find("choices"));
  EXPECT_THAT(answers[1].find("error")->as_string(), HasSubstr("requests.jsonl, line 2"));
  EXPECT_THAT(answers[2].find("error")->as_string(), HasSubstr("line 3"));
  EXPECT_TRUE(answers[3].find("choices"));
  EXPECT_THAT(ran.err, HasSubstr("2 of its requests failed"));
}

TEST_F(RequestFile, ComesThroughAPipeToo) {
  const Ran ran = cajal({"generate", folder_.path(), "--load-format", "dummy", "--prompt-file", "-", "--json"},
                        "{\"token_ids\":[1],\"max_tokens\":1}\n{\"token_ids\":[2],\"max_tokens\":1}\n");
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(lines_of(ran.out).size(), 2u);
}

TEST_F(RequestFile, WithoutRequestsIsRefused) {
  EXPECT_EQ(answer("", {}).code, 1);
  EXPECT_THAT(answer("\n\n", {}).err, HasSubstr("has no requests"));
}

TEST_F(RequestFile, EndsALineWhoseTimeIsOver) {
  const Ran ran = answer("{\"token_ids\":[1,2],\"timeout_ms\":0}\n", {"--json"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(lines_of(ran.out).at(0).find("choices")->as_array().at(0).find("finish_reason")->as_string(),
            "deadline_exceeded");
}

TEST_F(RequestFile, WritesMetricsAndATrace) {
  const std::string metrics = folder_.path() + "/metrics", trace = folder_.path() + "/trace.json";
  const Ran ran = answer("{\"token_ids\":[1,2],\"max_tokens\":5}\n", {"--metrics", metrics, "--trace", trace});
  ASSERT_EQ(ran.code, 0) << ran.err;
  std::ifstream in(metrics), traced(trace);
  const std::string text((std::istreambuf_iterator<char>(in)), {}),
      events((std::istreambuf_iterator<char>(traced)), {});
  EXPECT_THAT(text, HasSubstr("vllm:generation_tokens_total{engine=\"0\",model_name=\"" + folder_.path() + "\"} 5\n"));
  EXPECT_GT(parse_json(events, "the trace").as_array().size(), 10u);
  EXPECT_THAT(events, HasSubstr("\"first_token\""));
  EXPECT_NE(answer("\"x\"", {"--trace", folder_.path() + "/no/such"}).code, 0);
}

TEST_F(RequestFile, IsAnsweredTheSameWithAnAssistant) {
  const std::string lines =
      "{\"token_ids\":[1,2,3],\"max_tokens\":12}\n{\"token_ids\":[4],\"max_tokens\":9,\"temperature\":1,\"seed\":1,"
      "\"n\":2}\n";
  const auto plain = lines_of(answer(lines, {"--json"}).out);
  const std::string metrics = folder_.path() + "/metrics";
  const auto helped = lines_of(answer(lines, {"--json", "--assistant-model", folder_.path(), "--num-assistant-tokens",
                                              "3", "--metrics", metrics})
                                   .out);
  ASSERT_EQ(plain.size(), 2u);
  ASSERT_EQ(helped.size(), 2u);
  EXPECT_EQ(ids(plain[0]), ids(helped[0]));
  for (std::size_t k : {0u, 1u}) EXPECT_EQ(ids(plain[1], k), ids(helped[1], k));
  std::ifstream in(metrics);
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  EXPECT_THAT(text, HasSubstr("vllm:spec_decode_num_accepted_tokens_total"));
}

TEST_F(RequestFile, SaysWhichFlagsOfSpeculationContradictEachOther) {
  EXPECT_EQ(answer("\"x\"", {"--assistant-model", "a", "--prompt-lookup-num-tokens", "2"}).code, 2);
  const Ran ran = answer("\"x\"", {"--num-assistant-tokens", "2"});
  EXPECT_EQ(ran.code, 2);
  EXPECT_THAT(ran.err, HasSubstr("--assistant-model"));
}

}  // namespace
}  // namespace cajal::cli
