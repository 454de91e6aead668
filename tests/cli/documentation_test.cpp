#include "cli/documentation.h"

#include <gmock/gmock.h>

#include <cstdlib>

#include "cli/cli_fixture.h"
#include "cli/commands.h"
#include "cli/flags.h"

namespace cajal::cli {
namespace {

using ::testing::HasSubstr;

bool is_here(const std::string& program) {
  return std::system(("command -v " + program + " >/dev/null 2>&1").c_str()) == 0;
}

// What a shell command prints.
std::string output_of(const std::string& command) {
  std::string text;
  std::FILE* pipe = ::popen(command.c_str(), "r");
  char buffer[4096];
  while (const std::size_t got = std::fread(buffer, 1, sizeof buffer, pipe)) text.append(buffer, got);
  EXPECT_EQ(::pclose(pipe), 0) << command << "\n" << text;
  return text;
}

TEST(ManPage, HasEveryCommandAndFlagThatHelpShows) {
  const std::string page = man_page();
  EXPECT_EQ(cajal({"help", "--man"}).out, page);
  for (const CommandInfo& command : commands()) {
    if (!command.run) continue;
    EXPECT_THAT(page, HasSubstr(".SS cajal " + std::string(command.name) + "\n"));
    for (const Flag& flag : flags()) {
      if (!(flag.commands & command.bit)) continue;
      std::string name = "\\-\\-";
      for (const char c : flag.name) name += c == '-' ? std::string("\\-") : std::string(1, c);
      EXPECT_THAT(page, HasSubstr("\\fB" + name + "\\fR")) << command.name;
    }
  }
}

TEST(ManPage, RendersWithoutAWarning) {
  if (!is_here("groff")) GTEST_SKIP() << "groff is not here";
  const TemporaryFolder folder;
  const std::string file = folder.file("cajal.1", man_page());
  EXPECT_EQ(output_of("groff -man -Tutf8 -ww -z " + file + " 2>&1"), "");
  EXPECT_THAT(output_of("groff -man -Tutf8 -P-cbou " + file + " 2>/dev/null"), HasSubstr("--max-new-tokens N"));
}

TEST(Completion, IsAScriptOfItsShell) {
  const TemporaryFolder folder;
  for (const std::string shell : {"bash", "zsh", "fish"}) {
    const std::string script = completion(shell);
    EXPECT_EQ(cajal({"help", "--completion", shell}).out, script);
    EXPECT_THAT(script, HasSubstr("max-new-tokens"));
    if (!is_here(shell)) continue;
    EXPECT_EQ(output_of(shell + " -n " + folder.file("script", script) + " 2>&1"), "");
  }
  EXPECT_EQ(cajal({"help", "--completion", "cmd"}).code, 2);
}

TEST(Completion, BashOffersWhatFits) {
  if (!is_here("bash")) GTEST_SKIP() << "bash is not here";
  const TemporaryFolder folder;
  const std::string script = folder.file("cajal.bash", completion("bash"));
  folder.file("models/tiny/config.json", "{}");
  const auto offers = [&](const std::string& words, int at) {
    return output_of("cd " + folder.path() + " && bash -c 'source " + script + "; COMP_WORDS=(" + words +
                     "); COMP_CWORD=" + std::to_string(at) + "; _cajal; printf \"%s\\n\" \"${COMPREPLY[@]}\"' 2>&1");
  };
  EXPECT_EQ(offers("cajal gen", 1), "generate\n");
  EXPECT_EQ(offers("cajal generate --top", 2), "--top-k\n--top-p\n");
  EXPECT_EQ(offers("cajal score --top", 2), "--top-logprobs\n");
  EXPECT_EQ(offers("cajal generate models/ti", 2), "models/tiny\n");
  EXPECT_EQ(offers("cajal generate --prompt-file models/tiny/c", 3), "models/tiny/config.json\n");
  EXPECT_EQ(offers("cajal generate --prompt mod", 3), "\n");
  EXPECT_THAT(offers("cajal help sc", 2), HasSubstr("score"));
}

}  // namespace
}  // namespace cajal::cli
