// Any text, cut anywhere: the same content and calls as from the text in one piece, names once and first, indices in order.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "protocol/tool_calls.h"
#include "text/think_splitter.h"

namespace {

using cajal::protocol::ToolCallParser;

const cajal::Json::Array& tools() {
  static const cajal::Json::Array all =
      cajal::parse_json(
          R"([{"type":"function","function":{"name":"f","parameters":{"properties":{"a":{"type":"integer"},
        "b":{"type":"string"},"c":{"type":"object"}}}}}])",
          "tools")
          .as_array();
  return all;
}

struct Whole {
  std::string thinking, content, calls;
  bool operator==(const Whole&) const = default;
};

Whole parse(std::string_view text, std::size_t piece) {
  cajal::ThinkSplitter splitter(false);
  ToolCallParser parser(tools());
  Whole whole;
  std::size_t num_calls = 0;
  const auto take = [&](const cajal::protocol::ParsedText& parsed) {
    whole.content += parsed.content;
    for (const auto& delta : parsed.calls) {
      if (delta.name) {
        CAJAL_CHECK(delta.index == num_calls && !delta.name->empty());
        ++num_calls;
        whole.calls += "\n" + *delta.name + " ";
      }
      CAJAL_CHECK(delta.index + 1 == num_calls);
      whole.calls += delta.arguments;
    }
  };
  const auto give = [&](cajal::SplitText split) {
    whole.thinking += split.thinking;
    take(parser.push(split.answer));
  };
  for (std::size_t at = 0; at < text.size(); at += piece) give(splitter.push(text.substr(at, piece)));
  give(splitter.flush());
  take(parser.flush());
  CAJAL_CHECK(parser.num_calls() == num_calls);
  return whole;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const Whole whole = parse(text, text.size() + 1), cut = parse(text, data[0] % 16 + 1u);
  CAJAL_CHECK(whole == cut, whole.thinking, "|", whole.content, "|", whole.calls, "---\n", cut.thinking, "|",
              cut.content, "|", cut.calls);
  return 0;
}
