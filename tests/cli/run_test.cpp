#include "cli/run.h"

#include <gmock/gmock.h>

#include "backends/backend.h"
#include "base/utf8.h"
#include "cli/cli_fixture.h"
#include "cli/commands.h"

namespace cajal::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using Words = std::vector<std::string>;

TEST(Program, SaysItsVersion) {
  const Ran ran = cajal({"--version"});
  EXPECT_EQ(ran.code, 0);
  EXPECT_THAT(ran.out, MatchesRegex("cajal [0-9.]+\n"));
  EXPECT_EQ(ran.err, "");
}

TEST(Program, HelpsWithinEightyColumns) {
  std::vector<Words> ways{{"--help"}, {"help"}, {"-h"}};
  for (const CommandInfo& command : commands())
    if (command.run) {
      const Words words{std::string(command.name), "--help"};
      EXPECT_EQ(cajal(words).out, cajal({"help", std::string(command.name)}).out);
      ways.push_back(words);
    }
  for (const Words& words : ways) {
    const Ran ran = cajal(words);
    EXPECT_EQ(ran.code, 0);
    EXPECT_EQ(ran.err, "");
    EXPECT_THAT(ran.out, HasSubstr("Usage: cajal"));
    std::istringstream lines(ran.out);
    for (std::string line; std::getline(lines, line);) {
      std::size_t columns = 0;
      for (std::size_t at = 0; at < line.size(); at += decode_utf8(line, at).length) ++columns;
      EXPECT_LE(columns, 80u) << words[0] << ": " << line;
    }
  }
}

TEST(Program, HelpsWhateverElseIsGiven) {
  EXPECT_EQ(cajal({"generate", "--nonsense", "--help"}).code, 0);
  EXPECT_EQ(cajal({"tokenize", "-h", "--top-p"}).code, 0);
}

// Each ends with exit code 2, nothing on standard output, and one last line that says what and what to do.
TEST(Program, RefusesMisuse) {
  const Words wrong[] = {{},
                         {"generat"},
                         {"chat"},
                         {"render"},
                         {"export", "x"},
                         {"export", "-o", "y"},
                         {"serve", "--port", "65536"},
                         {"pull"},
                         {"cache"},
                         {"bench", "serve", "--goodput", "ttfx:1"},
                         {"help", "nothing"},
                         {"help", "generate", "score"},
                         {"--top-p", "1"},
                         {"generate", "--nonsense"},
                         {"generate", "--top-p", "2"},
                         {"tokenize"},
                         {"generate", "--prompt", "x"},
                         {"score", tokenizer_folder(), "extra"},
                         {"inspect", tokenizer_folder(), "--graph", "x"},
                         {"doctor", "x"},
                         {"bench", "-p", "0", "-n", "0"}};
  for (const Words& words : wrong) {
    const Ran ran = cajal(words, {}, {{"CAJAL_DEMO_MODEL", "/does/not/exist"}});
    const std::string shown = words.empty() ? "" : words[0] + " " + words.back();
    EXPECT_EQ(ran.code, 2) << shown << ": " << ran.err;
    EXPECT_EQ(ran.out, "") << shown;
    EXPECT_THAT(ran.last_line(), MatchesRegex("cajal: error: .+ — .+")) << shown;
  }
  EXPECT_THAT(cajal({"generat"}).err, HasSubstr("did you mean 'cajal generate'?"));
}

TEST(Program, FailsWithOneLastLine) {
  const TemporaryFolder folder;
  const std::string wrong_config = folder.file("m/config.json", "{\"model_type\":\"llama\"}");
  const Words failing[] = {{"tokenize", "/does/not/exist"},
                           {"tokenize", "org/name"},
                           {"tokenize", wrong_config},
                           {"tokenize", folder.path() + "/m"},
                           {"generate", folder.path() + "/m", "--token-ids", "1"},
                           {"inspect", folder.path() + "/m"},
                           {"score", folder.path(), "--prompt", "a\nb"}};
  for (const Words& words : failing) {
    const Ran ran = cajal(words, "", {{"HF_HOME", "/nowhere\nat all"}});
    EXPECT_EQ(ran.code, 1) << ran.err;
    EXPECT_EQ(ran.out, "");
    EXPECT_THAT(ran.last_line(), MatchesRegex("cajal: error: .+ — .+"));
    EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1)
        << "control characters of names do not break the line";
  }
}

TEST(Program, FailsWhereResultsCannotBeWritten) {
  std::istringstream in;
  std::ostringstream out, err;
  out.setstate(std::ios::badbit);
  EXPECT_EQ(run(Words{"--version"}, {}, in, out, err), 1);
  EXPECT_THAT(err.str(), HasSubstr("cajal: error: standard output: cannot write"));
}

TEST(Doctor, SaysWhatTheMachineHas) {
  const Ran plain = cajal({"doctor"});
  EXPECT_EQ(plain.code, 0);
  if (!why_no_cuda().empty()) {
    EXPECT_THAT(plain.out, HasSubstr(why_no_cuda()));
  }
  const Json json = cajal({"doctor", "--json"}, "", {{"HF_HOME", "/models"}}).json();
  EXPECT_GE(json.find("cpu")->find("cores_available")->as_int(), 1);
  EXPECT_GT(json.find("memory")->find("total_bytes")->as_int(), 0);
  EXPECT_EQ(json.find("device")->as_string(), why_no_cuda().empty() ? "cuda" : "cpu");
  EXPECT_EQ(json.find("hub_cache")->as_string(), "/models/hub");
}

}  // namespace
}  // namespace cajal::cli
