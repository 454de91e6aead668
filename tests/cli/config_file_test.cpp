#include "cli/config_file.h"

#include <gtest/gtest.h>

#include "cli/usage_error.h"

namespace cajal::cli {
namespace {

using Values = std::vector<std::string>;

Values values_of(std::string_view line) {
  const auto entries = parse_config(line, "f");
  EXPECT_EQ(entries.size(), 1u) << line;
  EXPECT_EQ(entries.empty() ? "" : entries[0].key, "key") << line;
  return entries.empty() ? Values{} : entries[0].values;
}

TEST(ConfigFile, ReadsLinesAsYamlAndTomlWriteThem) {
  const std::pair<std::string, Values> cases[] = {
      {"key: value", {"value"}},
      {"key = value", {"value"}},
      {"key=value", {"value"}},
      {"  key:   value   ", {"value"}},
      {"key: \"a # b\"  # comment", {"a # b"}},
      {"key: 'it''s'", {}},
      {"key: \"a\\nb\"", {"a\nb"}},
      {"key: 'a\\nb'", {"a\\nb"}},
      {"key: a#b", {"a#b"}},
      {"key: http://host:80/x", {"http://host:80/x"}},
      {"\"key\": 1", {"1"}},
      {"key: [a, 'b, c', \"d\"]", {"a", "b, c", "d"}},
      {"key: []", {}},
      {"key: null", {}},
      {"key:", {}},
      {"key: ~", {}},
      {"key: {\"a\": [1]}", {"{\"a\": [1]}"}},
      {"key:\n  - a\n  - 'b c'\n", {"a", "b c"}},
      {"---\nkey: value\r\n\n# end\n", {"value"}},
      {"key: it's", {"it's"}},
  };
  for (const auto& [text, values] : cases) {
    if (text == "key: 'it''s'") {
      EXPECT_THROW(parse_config(text, "f"), UsageError) << "doubled quotes are not understood, so they are refused";
    } else {
      EXPECT_EQ(values_of(text), values) << text;
    }
  }
}

TEST(ConfigFile, ReadsAJsonObject) {
  const auto entries =
      parse_config(" {\"a\": 1, \"b\": [\"x\", 2], \"c\": null, \"d\": {\"e\": true}, \"f\": false}", "f");
  ASSERT_EQ(entries.size(), 5u);
  EXPECT_EQ(entries[0].values, Values{"1"});
  EXPECT_EQ(entries[1].values, (Values{"x", "2"}));
  EXPECT_TRUE(entries[2].values.empty());
  EXPECT_EQ(entries[3].values, Values{"{\"e\":true}"});
  EXPECT_EQ(entries[4].values, Values{"false"});
}

TEST(ConfigFile, RefusesWhatItDoesNotUnderstand) {
  for (const char* text :
       {"word", "[section]\n", ": x", "- item", "key: [a", "key: \"open", "key: 'a' b", "{\"a\": }", "{"})
    EXPECT_THROW(parse_config(text, "f"), UsageError) << text;
}

TEST(ConfigFile, IsEmptyWhereNothingStands) {
  EXPECT_TRUE(parse_config("", "f").empty());
  EXPECT_TRUE(parse_config("\n# nothing\n", "f").empty());
}

}  // namespace
}  // namespace cajal::cli
