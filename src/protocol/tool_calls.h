#pragma once
// Finds calls of tools in what a model writes, piece by piece. Both of Qwen's forms are known:
//   <tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>                                        (Qwen3, as Hermes)
//   <tool_call><function=f><parameter=a>1</parameter></function></tool_call>                           (Qwen3-Coder)
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "protocol/json_scanner.h"

namespace cajal::protocol {

// More of a call. The first delta of each has its name; the arguments of all of them, one after another, are JSON, unless
// the model breaks off or errs in their middle.
struct ToolCallDelta {
  std::size_t index = 0;
  std::optional<std::string> name;
  std::string arguments;
  bool operator==(const ToolCallDelta&) const = default;
};

struct ParsedText {
  std::string content;
  std::vector<ToolCallDelta> calls;
};

// What comes out does not depend on how the text is cut. White space around calls belongs to nobody; what looks like a call
// and is none is content, unchanged.
class ToolCallParser {
 public:
  // `tools` as a request has them: their schemas say which parameters of the second form are strings. Must outlive this.
  explicit ToolCallParser(const Json::Array& tools) : tools_(tools) {}

  ParsedText push(std::string_view text);
  ParsedText flush();  // when no more text comes
  std::size_t num_calls() const { return num_calls_; }

 private:
  enum class State : std::uint8_t { content, opened, json, xml_name, xml_body, skip };
  bool step(ParsedText& out);
  bool in_content(ParsedText& out);
  bool in_opened(ParsedText& out);
  bool in_json(ParsedText& out);
  void json_character(char c, ParsedText& out);
  void end_member(ParsedText& out);
  bool end_json(ParsedText& out);
  bool in_xml_name(ParsedText& out);
  bool in_xml_body(ParsedText& out);
  bool read_parameter(ParsedText& out);
  std::string parameter_json(const std::string& parameter, const std::string& value) const;
  bool in_skip();
  bool no_call(ParsedText& out);
  void begin_call(std::string name, ParsedText& out);
  void give(ParsedText& out, std::string_view arguments);

  const Json::Array& tools_;
  State state_ = State::content;
  std::string held_;  // not yet understood
  std::string raw_;   // of the call, as long as it may turn out to be content
  std::size_t num_calls_ = 0;
  bool has_name_ = false, has_arguments_ = false;  // of this call, given out

  // Of the first form.
  JsonScanner scanner_;
  std::string key_, value_, early_arguments_;
  bool in_value_ = false, streams_ = false;

  std::string function_;  // of the second
};

}  // namespace cajal::protocol
