#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "cli/cli_fixture.h"

namespace cajal::cli {
namespace {

using testing::HasSubstr;

TEST(Render, GivesTransformersPromptByteForByte) {
  const std::string file = CAJAL_TEST_DATA "/text/chat_template.json";
  const Json goldens = parse_json(read_file(file), file);
  for (const auto& [name, c] : goldens.find("cases")->as_object()) {
    const Ran result = cajal({"render", tokenizer_folder(), "--input", "-"}, to_json(*c.find("kwargs")));
    if (const Json* wanted = c.find("ok")) {
      EXPECT_EQ(result.out, wanted->as_string()) << name;
      EXPECT_EQ(result.code, 0) << name;
    } else {
      EXPECT_EQ(result.out, "") << name;
      EXPECT_EQ(result.code, 1) << name;
      EXPECT_THAT(result.err, HasSubstr("line ")) << name << ": an error has the template's line";
    }
  }
}

TEST(Render, NeedsARequestAndOneTemplate) {
  EXPECT_EQ(cajal({"render", tokenizer_folder()}, "").code, 2);
  EXPECT_EQ(cajal({"render", tokenizer_folder(), "--template", "x.jinja", "--input", "-"}, "{}").code, 2);
  EXPECT_EQ(cajal({"render", tokenizer_folder(), "--input", "-"}, "[]").code, 1);
  EXPECT_EQ(cajal({"render", tokenizer_folder(), "--input", "-"}, "{").code, 1);
  EXPECT_EQ(cajal({"render", "--template", "/nonexistent.jinja", "--input", "-"}, "{}").code, 1);
}

}  // namespace
}  // namespace cajal::cli
