// cajal embed and cajal rerank.
#include <gmock/gmock.h>

#include <cmath>
#include <cstring>

#include "cli/cli_fixture.h"
#include "cli/text_lines.h"

namespace cajal::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Words = std::vector<std::string>;

Ran run_golden(const std::string& command, const std::string& name, Words more, const std::string& input = {}) {
  Words words{command, CAJAL_TEST_DATA "/goldens_embedding/" + name, "--threads", "1"};
  words.insert(words.end(), more.begin(), more.end());
  return cajal(words, input);
}

std::vector<float> floats(const Json& list) {
  std::vector<float> values;
  for (const Json& x : list.as_array()) values.push_back(static_cast<float>(x.as_double()));
  return values;
}

TEST(Embed, PrintsALineOfNumbersForEachText) {
  const Ran ran = run_golden("embed", "dense", {"--input", "-"}, "\"one\"\n\n{\"text\": \"two\"}\n{\"input\":\"one\"}");
  ASSERT_EQ(ran.code, 0) << ran.err;
  std::istringstream lines(ran.out);
  std::vector<std::vector<float>> vectors;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream numbers(line);
    auto& vector = vectors.emplace_back();
    double length = 0;
    for (float x = 0; numbers >> x; length += static_cast<double>(x) * static_cast<double>(x)) vector.push_back(x);
    EXPECT_NEAR(length, 1, 1e-6);
  }
  ASSERT_EQ(vectors.size(), 3u);
  EXPECT_EQ(vectors[0].size(), 32u);
  EXPECT_EQ(vectors[0], vectors[2]);
  EXPECT_NE(vectors[0], vectors[1]);
  const Json json = run_golden("embed", "dense", {"--prompt", "two", "--json"}).json();
  EXPECT_EQ(floats(*json.find("data")->as_array()[0].find("embedding")), vectors[1]) << "digits lose nothing";
}

TEST(Embed, AnswersAsOpenAIDoes) {
  const Ran ran = run_golden("embed", "dense", {"--input", "-", "--json", "--dimensions", "4"},
                             "{\"text\":\"one\",\"id\":\"a/1\"}\n\"\"\n");
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Json json = ran.json();
  EXPECT_EQ(json.find("object")->as_string(), "list");
  EXPECT_THAT(json.find("model")->as_string(), HasSubstr("dense"));
  const Json::Array& data = json.find("data")->as_array();
  ASSERT_EQ(data.size(), 2u);
  EXPECT_EQ(data[0].find("object")->as_string(), "embedding");
  EXPECT_EQ(data[1].find("index")->as_int(), 1);
  EXPECT_EQ(data[0].find("id")->as_string(), "a/1");
  EXPECT_FALSE(data[1].find("id"));
  EXPECT_EQ(data[0].find("embedding")->as_array().size(), 4u);
  EXPECT_EQ(to_json(*json.find("usage")), R"({"prompt_tokens":5,"total_tokens":5})") << "o, n, e, end; end";
}

TEST(Embed, GivesTheSameVectorsInBase64) {
  const auto embedding = [](const char* format) {
    return *run_golden("embed", "dense", {"--prompt", "x", "--json", "--encoding-format", format, "--dimensions", "2"})
                .json()
                .find("data")
                ->as_array()[0]
                .find("embedding");
  };
  const std::vector<float> expected = floats(embedding("float"));
  const std::string text = embedding("base64").as_string();
  ASSERT_EQ(text.size(), 12u);
  const std::string alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  for (std::size_t at = 0; at < text.size(); at += 4) {
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < 4; ++i)
      bits = bits << 6 | static_cast<std::uint32_t>(text[at + i] == '=' ? 0 : alphabet.find(text[at + i]));
    for (const int shift : {16, 8, 0}) bytes += static_cast<char>(bits >> shift & 255);
  }
  std::vector<float> got(2);
  std::memcpy(got.data(), bytes.data(), 8);
  EXPECT_EQ(got, expected);
}

TEST(Embed, PutsPromptsInFront) {
  const auto of = [](Words words) { return run_golden("embed", "dense", std::move(words)).out; };
  const std::string plain = of({"--prompt", "x"});
  EXPECT_EQ(of({"--prompt", "x", "--prompt-name", "document"}), plain);
  EXPECT_NE(of({"--prompt", "x", "--prompt-name", "query"}), plain);
  EXPECT_EQ(of({"--prompt", "x", "--instruction", "Do"}), of({"--prompt", "Instruct: Do\nQuery:x"}));
  EXPECT_EQ(run_golden("embed", "dense_untied", {"--prompt", "x"}).out,
            run_golden("embed", "dense_untied", {"--prompt", "x", "--prompt-name", "query"}).out)
      << "the model's default";
  const Ran unknown = run_golden("embed", "dense", {"--prompt", "x", "--prompt-name", "passage"});
  EXPECT_EQ(unknown.code, 1);
  EXPECT_THAT(unknown.err, HasSubstr("expected one of 'query', 'document'"));
  EXPECT_EQ(run_golden("embed", "dense", {"--prompt", "x", "--prompt-name", "query", "--instruction", "y"}).code, 2);
}

TEST(Embed, RefusesByNameAndLine) {
  const std::pair<const char*, const char*> lines[] = {{"\"a\"\n\"b\"\n[1]\n", "standard input line 3: an array"},
                                                       {"\"a\"\nnonsense\n", "standard input line 2"},
                                                       {"{\"id\": 1}\n", "line 1: has no member \"text\""},
                                                       {"{\"text\": 1}\n", "line 1: the text is an integer"}};
  for (const auto& [input, says] : lines) {
    const Ran ran = run_golden("embed", "dense", {"--input", "-"}, input);
    EXPECT_EQ(ran.code, 1);
    EXPECT_EQ(ran.out, "");
    EXPECT_THAT(ran.last_line(), HasSubstr(says));
  }
  EXPECT_THAT(run_golden("embed", "dense", {"--prompt", "x", "--dimensions", "33"}).err, HasSubstr("expected 1 to 32"));
  EXPECT_EQ(run_golden("embed", "dense", {}).code, 2);
  EXPECT_EQ(run_golden("embed", "dense", {"--prompt", "x", "--input", "-"}).code, 2);
}

TEST(Embed, SaysHowLongATextMayBeAndCutsItWhenAsked) {
  const Words words{"--input", "-", "--max-model-len", "4"};
  const std::string input = "\"abc\"\n\"abcdefgh\"\n";
  const Ran refused = run_golden("embed", "dense", words, input);
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.last_line(), AllOf(HasSubstr("text 1: the text has 9 tokens"), HasSubstr("at most 4")));
  Words cutting = words;
  cutting.emplace_back("--truncate");
  const Ran cut = run_golden("embed", "dense", cutting, input);
  ASSERT_EQ(cut.code, 0) << cut.err;
  EXPECT_EQ(cut.out.substr(0, cut.out.size() / 2), cut.out.substr(cut.out.find('\n') + 1));
}

TEST(Embed, WarnsOfATokenizerThatAppendsNoEndToken) {
  const TemporaryFolder folder;
  const std::string golden = CAJAL_TEST_DATA "/goldens_embedding/";
  std::filesystem::copy(golden + "dense", folder.path(), std::filesystem::copy_options::recursive);
  const auto warning = [&] {
    testing::internal::CaptureStderr();
    EXPECT_EQ(cajal({"embed", folder.path(), "--prompt", "x"}).code, 0);
    return testing::internal::GetCapturedStderr();
  };
  EXPECT_EQ(warning(), "");
  std::filesystem::copy_file(golden + "reranker/tokenizer.json", folder.path() + "/tokenizer.json",
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(warning(), HasSubstr("appends no end token"));
}

TEST(Embed, OfNoTextsGivesNone) {
  EXPECT_EQ(run_golden("embed", "dense", {"--input", "-"}, "").out, "");
  EXPECT_EQ(run_golden("embed", "dense", {"--input", "-", "--json"}, "\n").json().find("data")->as_array().size(), 0u);
}

TEST(Embed, ReadsWhatIsInsideOfACausalModel) {
  EXPECT_EQ(run_golden("embed", "causal", {"--prompt", "x"}).code, 0);
  const Ran ran = run_golden("generate", "dense_untied", {"--token-ids", "1"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.last_line(), AllOf(HasSubstr("no output head"), HasSubstr("cajal embed")));
}

TEST(Rerank, SortsDocuments) {
  const Ran ran =
      run_golden("rerank", "reranker",
                 {"--query", "q", "--document", "is", "--document", "a\nb", "--document", "the query of yes"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  std::istringstream lines(ran.out);
  double before = 2;
  std::string seen;
  for (std::string line; std::getline(lines, line);) {
    const double score = std::stod(line);
    EXPECT_LE(score, before);
    EXPECT_GE(score, 0);
    before = score;
    seen += line.substr(line.find('\t')) + ";";
  }
  for (const char* document : {"\t0\tis;", "\t1\ta b;", "\t2\tthe query of yes;"})
    EXPECT_THAT(seen, HasSubstr(document));
}

TEST(Rerank, AnswersAsCohereDoes) {
  const std::string input = "\"is\"\n{\"document\":\"the\",\"id\":7}\n{\"text\":\"no\"}\n";
  const Ran ran = run_golden("rerank", "reranker", {"--query", "q", "--input", "-", "--json", "--top-n", "2"}, input);
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Json::Array results = ran.json().find("results")->as_array();
  ASSERT_EQ(results.size(), 2u);
  EXPECT_GE(results[0].find("relevance_score")->as_double(), results[1].find("relevance_score")->as_double());
  for (const Json& result : results) {
    const std::int64_t index = result.find("index")->as_int();
    const char* texts[] = {"is", "the", "no"};
    EXPECT_EQ(result.find("document")->find("text")->as_string(), texts[index]);
    EXPECT_EQ(result.find("id") != nullptr, index == 1);
  }
  EXPECT_GT(ran.json().find("usage")->find("prompt_tokens")->as_int(), 3 * 100);
}

TEST(Rerank, RefusesWhatIsMissing) {
  EXPECT_EQ(run_golden("rerank", "reranker", {"--document", "x"}).code, 2);
  EXPECT_EQ(run_golden("rerank", "reranker", {"--query", "x"}).code, 2);
  EXPECT_EQ(run_golden("rerank", "reranker", {"--query", "x", "--document", "y", "--input", "-"}).code, 2);
  const Ran ran = run_golden("rerank", "dense_untied", {"--query", "x", "--document", "y"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.last_line(), HasSubstr("no output head"));
  const std::string without_tokenizer = CAJAL_TEST_DATA "/goldens/d_bf16_tied";
  const Ran no_words = cajal({"rerank", without_tokenizer, "--query", "x", "--document", "y"});
  EXPECT_EQ(no_words.code, 1);
  EXPECT_THAT(no_words.err, HasSubstr("tokenizer.json"));
}

}  // namespace
}  // namespace cajal::cli
