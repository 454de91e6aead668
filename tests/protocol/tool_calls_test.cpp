#include "protocol/tool_calls.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "base/error.h"

namespace cajal::protocol {
namespace {

struct Whole {
  std::string content;
  std::vector<std::pair<std::string, std::string>> calls;  // name and arguments
  bool operator==(const Whole&) const = default;
};

void PrintTo(const Whole& whole, std::ostream* out) {
  *out << "content '" << whole.content << "'";
  for (const auto& [name, arguments] : whole.calls) *out << ", " << name << "(" << arguments << ")";
}

Json::Array weather_tools() {
  return parse_json(
             R"([{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties":
    {"city": {"type": "string"}, "days": {"type": "integer"}, "exact": {"type": "boolean"}, "tags": {"type": "array"}}}}}])",
             "tools")
      .as_array();
}

// How a client puts deltas together, from text that comes in pieces of `size`.
Whole parse(const std::string& text, std::size_t size) {
  const Json::Array tools = weather_tools();
  ToolCallParser parser(tools);
  Whole whole;
  const auto take = [&](const ParsedText& parsed) {
    whole.content += parsed.content;
    for (const ToolCallDelta& delta : parsed.calls) {
      if (delta.name) {
        EXPECT_EQ(delta.index, whole.calls.size());
        whole.calls.emplace_back(*delta.name, "");
      }
      EXPECT_LT(delta.index, whole.calls.size());
      whole.calls.at(delta.index).second += delta.arguments;
    }
  };
  for (std::size_t at = 0; at < text.size(); at += size) take(parser.push(std::string_view(text).substr(at, size)));
  take(parser.flush());
  EXPECT_EQ(parser.num_calls(), whole.calls.size());
  return whole;
}

struct Case {
  const char* what;
  std::string text;
  Whole expected;
};

const std::string kArguments = R"({"city": "Paris, \"</tool_call>\" {x}", "days": [1, -2.5e3, {"a": null}]})";

const std::vector<Case> kCases = {
    {"no call", "Just <b>text</b> <tool", {"Just <b>text</b> <tool", {}}},
    {"white space at the end stays", "a \n", {"a \n", {}}},
    {"one call",
     "<tool_call>\n{\"name\": \"weather\", \"arguments\": " + kArguments + "}\n</tool_call>",
     {"", {{"weather", kArguments}}}},
    {"text and two calls",
     "Let me see.\n\n<tool_call>\n{\"name\": \"a\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n"
     "{\"name\": \"b\", \"arguments\": {\"x\": 1}}\n</tool_call>\n",
     {"Let me see.", {{"a", "{}"}, {"b", "{\"x\": 1}"}}}},
    {"arguments before the name",
     R"(<tool_call>{"arguments": {"x": 1}, "name": "f"}</tool_call>)",
     {"", {{"f", R"({"x": 1})"}}}},
    {"no arguments", R"(<tool_call>{"name": "f"}</tool_call>)", {"", {{"f", "{}"}}}},
    {"arguments that are null", R"(<tool_call>{"name": "f", "arguments": null}</tool_call>)", {"", {{"f", "{}"}}}},
    {"arguments that are encoded twice",
     R"(<tool_call>{"name": "f", "arguments": "{\"x\": 1}"}</tool_call>)",
     {"", {{"f", R"({"x": 1})"}}}},
    {"other members",
     R"(<tool_call>{"id": 7, "name": "f", "x": {"name": "g"}, "arguments": {"name": 2}, "n": 1}</tool_call>)",
     {"", {{"f", R"({"name": 2})"}}}},
    {"text behind a call",
     R"(<tool_call>{"name": "f", "arguments": {}}</tool_call> and on)",
     {" and on", {{"f", "{}"}}}},
    {"a call that nobody closes, and another",
     R"(<tool_call>{"name": "f"}<tool_call>{"name": "g"})",
     {"", {{"f", "{}"}, {"g", "{}"}}}},
    {"no JSON", "a <tool_call>nothing</tool_call>", {"a <tool_call>nothing</tool_call>", {}}},
    {"no name", R"(<tool_call>{"x": 1}</tool_call>)", {R"(<tool_call>{"x": 1}</tool_call>)", {}}},
    {"no JSON any more", R"(<tool_call>{"name": x}</tool_call>)", {R"(<tool_call>{"name": x}</tool_call>)", {}}},
    {"breaking off before the name", R"(<tool_call>{"name": "we)", {R"(<tool_call>{"name": "we)", {}}},
    {"breaking off in the arguments",
     R"(<tool_call>{"name": "f", "arguments": {"city": "Par)",
     {"", {{"f", R"({"city": "Par)"}}}},
    {"XML",
     "I look.\n<tool_call>\n<function=weather>\n<parameter=city>\nNew\nYork <b>\n</parameter>\n<parameter=days>\n3\n"
     "</parameter>\n<parameter=exact>True</parameter><parameter=tags>[\"a\", 1]</parameter>\n<parameter=other>\n3\n"
     "</parameter>\n</function>\n</tool_call>",
     {"I look.",
      {{"weather", R"({"city": "New\nYork <b>", "days": 3, "exact": true, "tags": ["a",1], "other": "3"})"}}}},
    {"XML without parameters", "<tool_call><function=f></function></tool_call>", {"", {{"f", "{}"}}}},
    {"XML with a parameter that nobody closes",
     "<tool_call><function=f>\n<parameter=a>\n1\n<parameter=b>2\n</function>\n</tool_call>",
     {"", {{"f", R"({"a": "1", "b": "2"})"}}}},
    {"XML without a name",
     "<tool_call><function=></function></tool_call>",
     {"<tool_call><function=></function></tool_call>", {}}},
};

TEST(ToolCallParser, FindsTheSameCallsHoweverTheTextIsCut) {
  for (const Case& c : kCases)
    for (std::size_t size = 1; size <= c.text.size(); ++size)
      ASSERT_EQ(parse(c.text, size), c.expected) << c.what << size;
}

TEST(ToolCallParser, GivesTheNameAndArgumentsBeforeTheCallIsComplete) {
  const Json::Array tools = weather_tools();
  ToolCallParser parser(tools);
  const auto first = parser.push(R"(Yes.<tool_call>{"name": "weather", "argu)");
  EXPECT_EQ(first.content, "Yes.");
  EXPECT_EQ(first.calls, (std::vector<ToolCallDelta>{{0, "weather", ""}}));
  EXPECT_EQ(parser.push(R"(ments": {"city": "Pa)").calls, (std::vector<ToolCallDelta>{{0, {}, R"({"city": "Pa)"}}));
  EXPECT_EQ(parser.push("ris\"}").calls, (std::vector<ToolCallDelta>{{0, {}, "ris\"}"}}));
}

TEST(JsonScanner, TakesWhatTheParserTakes) {
  for (const std::string text : {R"({})",
                                 R"({"a":1})",
                                 R"( {"a" : [ ] , "b":{"c":-0.5E+3}} )",
                                 R"({"a":"\u00e9\n\\"})",
                                 R"({"a":[1,2,{"b":null}],"c":true,"d":false})",
                                 R"({"a":01})",
                                 R"({"a":1.})",
                                 R"({"a":.5})",
                                 R"({"a":+1})",
                                 R"({"a":-})",
                                 R"({"a":1e})",
                                 R"({a:1})",
                                 R"({"a" 1})",
                                 R"({"a":1,})",
                                 R"({"a":[1,]})",
                                 R"({"a":[1})",
                                 R"({"a":"\x"})",
                                 R"({"a":"\u12g4"})",
                                 R"({"a":tru})",
                                 R"({"a":nulll})",
                                 R"([1])",
                                 R"({"a":1 2})",
                                 "{\"a\":\"\n\"}"}) {
    JsonScanner scanner;
    bool good = true;
    for (const char c : text)
      if (!scanner.done()) good = scanner.push(c);
    bool parses = true;
    try {
      parses = parse_json(text, "text").is_object();
    } catch (const Error&) {
      parses = false;
    }
    EXPECT_EQ(good && scanner.done(), parses) << text;
  }
}

}  // namespace
}  // namespace cajal::protocol
