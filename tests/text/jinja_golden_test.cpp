// Templates as Jinja renders them under Hugging Face's settings: tests/data/text/jinja_goldens.json.
#include <gtest/gtest.h>

#include "text/jinja/template.h"
#include "text/support.h"

namespace cajal {
namespace {

std::string describe(const Json& expected) {
  if (const Json* ok = expected.find("ok")) return "ok: " + ok->as_string();
  return "error: " + expected.find("error")->as_string();
}

std::string outcome(const std::string& source, const Json& variables, int& line) {
  try {
    return "ok: " + jinja::Template(source).render(variables).text;
  } catch (const jinja::TemplateError& e) {
    line = e.line();
    return "error: " + std::string(jinja::name_of(e.kind()));
  }
}

class JinjaGoldens : public ::testing::TestWithParam<const char*> {};

TEST_P(JinjaGoldens, AreReproduced) {
  static const Json goldens = test::data("text/jinja_goldens.json");
  const Json& group = *goldens.find("groups")->find(GetParam());
  ASSERT_GT(group.as_array().size(), 40u);
  for (const Json& entry : group.as_array()) {
    const std::string& source = entry.find("template")->as_string();
    const Json* variables = entry.find("variables");
    int line = 0;
    EXPECT_EQ(outcome(source, variables ? *variables : *goldens.find("variables"), line), describe(entry)) << source;
    if (const Json* expected = entry.find("line")) {
      EXPECT_EQ(line, expected->as_int()) << source;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Text, JinjaGoldens,
                         ::testing::Values("expressions", "filters", "methods", "whitespace", "statements", "chats"),
                         [](const auto& group) { return std::string(group.param); });

}  // namespace
}  // namespace cajal
