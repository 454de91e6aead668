#pragma once
// What an answer has to be, as the fields of a request say it.
#include <optional>
#include <string>
#include <vector>

#include "protocol/fields.h"

namespace cajal::protocol {

// At most one of them; as vLLM's structured_outputs names them.
struct StructureFields {
  std::string param = {};  // the field that asks for it; empty: none does
  std::string json = {};   // a JSON schema, as JSON
  std::string regex = {}, grammar = {}, structural_tag = {};
  std::vector<std::string> choice = {};
  bool json_object = false;
};

// response_format, structured_outputs and the older guided_json, guided_regex, guided_choice and guided_grammar.
StructureFields read_structure(Fields& fields);
// OpenAI's {"type": "text" | "json_object" | "json_schema", …}; `path` names it in errors. The type "json_schema" has its
// parts in a member of that name or, as in /v1/responses, beside the type.
StructureFields read_response_format(const Json& format, const std::string& path);

enum class ToolChoiceKind { none, automatic, required, named };
struct ToolChoice {
  ToolChoiceKind kind = ToolChoiceKind::automatic;
  std::string name = {};  // of the tool that is named
};
// "none", "auto", "required" or {"type": "function", "function": {"name": …}}; also {"type": "function", "name": …}.
ToolChoice read_tool_choice(const Json& choice, const std::string& path);
// Refuses a choice that the tools cannot meet.
void check_tool_choice(const ToolChoice& choice, const Json::Array& tools, const std::string& path);

// How models write calls: {"name": …, "arguments": …} (Qwen3, as Hermes), or <function=…> (Qwen3-Coder).
enum class ToolCallForm { json, xml };
ToolCallForm tool_call_form(std::string_view rendered_prompt);
// The structural tag of an answer that calls tools: of one that has to, or of one whose calls, if it makes any, have the
// parameters of `tools`. Null where calls are free: tool_choice is auto and no tool is strict.
Json tool_call_tag(const Json::Array& tools, const ToolChoice& choice, bool parallel, ToolCallForm form);
// Of an answer that either is what `structure` says or calls tools.
Json structure_or_calls_tag(const StructureFields& structure, const Json::Array& tools, bool parallel,
                            ToolCallForm form);

}  // namespace cajal::protocol
