#include "protocol/structure_fields.h"

#include <algorithm>

namespace cajal::protocol {
namespace {

// A schema as a member of a request, or a text that holds one.
std::string schema_text(const Json& schema, const std::string& path) {
  if (schema.is_string()) return schema.as_string();
  if (schema.is_object() || schema.is_bool()) return to_json(schema);
  refuse(path, " is ", schema.type_name(), ", expected a JSON schema");
}

std::vector<std::string> read_choice(const Json& value, const std::string& path) {
  if (!value.is_array() || value.as_array().empty()) refuse(path, " is no list of texts");
  std::vector<std::string> choice;
  for (const Json& text : value.as_array()) {
    if (!text.is_string() || text.as_string().empty()) refuse(path, " holds what is no text");
    choice.push_back(text.as_string());
  }
  return choice;
}

std::string read_text(const Json& value, const std::string& path) {
  if (!value.is_string() || value.as_string().empty()) refuse(path, " is no text");
  return value.as_string();
}

StructureFields one_of(const std::string& path, std::string_view name, const Json& value) {
  StructureFields s{.param = path};
  if (name == "json")
    s.json = schema_text(value, path);
  else if (name == "regex")
    s.regex = read_text(value, path);
  else if (name == "choice")
    s.choice = read_choice(value, path);
  else if (name == "grammar")
    s.grammar = read_text(value, path);
  else if (name == "structural_tag")
    s.structural_tag = value.is_string() ? value.as_string() : to_json(value);
  else if (value.is_bool())
    s.json_object = value.as_bool();
  else
    refuse(path, " is ", value.type_name(), ", expected a boolean");
  if (name == "json_object" && !s.json_object) s.param.clear();
  return s;
}

}  // namespace

StructureFields read_response_format(const Json& format, const std::string& path) {
  Fields f(format, path + ".");
  const std::string type = f.text("type").value_or("");
  if (type == "text") return {};
  if (type == "json_object") return {.param = path, .json_object = true};
  if (type == "structural_tag") return {.param = path, .structural_tag = to_json(format)};
  if (type != "json_schema") refuse(path + ".type", " is '", type, "', expected text, json_object or json_schema");
  const Json* inner = format.find("json_schema");
  const std::string at = inner ? path + ".json_schema" : path;
  Fields parts(inner ? *inner : format, at + ".");
  parts.boolean("strict");  // every schema is kept to the letter
  parts.text("name");
  parts.text("description");
  const Json* schema = parts.find("schema");
  if (!schema) refuse(at + ".schema", " is missing");
  return {.param = at + ".schema", .json = schema_text(*schema, at + ".schema")};
}

StructureFields read_structure(Fields& f) {
  std::vector<StructureFields> found;
  if (const Json* format = f.find("response_format")) found.push_back(read_response_format(*format, "response_format"));
  if (const Json* structured = f.find("structured_outputs")) {
    Fields s(*structured, "structured_outputs.");
    for (const char* name : {"json", "regex", "choice", "grammar", "json_object", "structural_tag"})
      if (const Json* value = s.find(name)) found.push_back(one_of(s.path(name), name, *value));
    for (const char* name : {"disable_fallback", "disable_any_whitespace", "disable_additional_properties"})
      s.accept(name);
    if (const auto unknown = s.unknown(); !unknown.empty()) refuse(unknown[0], " is no way to structure an answer");
  }
  for (const char* name : {"json", "regex", "choice", "grammar"})
    if (const Json* value = f.find(std::string("guided_") + name))
      found.push_back(one_of(std::string("guided_") + name, name, *value));
  f.accept("guided_decoding_backend");
  f.accept("guided_whitespace_pattern");
  std::erase_if(found, [](const StructureFields& s) { return s.param.empty(); });
  if (found.size() > 1)
    refuse(found[1].param, " is given beside ", found[0].param, ", and an answer has one structure");
  return found.empty() ? StructureFields() : std::move(found[0]);
}

ToolChoice read_tool_choice(const Json& choice, const std::string& path) {
  if (choice.is_string()) {
    const std::string& word = choice.as_string();
    if (word == "auto") return {};
    if (word == "none") return {.kind = ToolChoiceKind::none};
    if (word == "required") return {.kind = ToolChoiceKind::required};
    refuse(path, " is '", word, "', expected none, auto, required or a function");
  }
  Fields f(choice, path + ".");
  if (const auto type = f.text("type"); type && *type != "function")
    refuse(path + ".type", " is '", *type, "', expected function");
  const Json* function = f.find("function");
  const auto name = function ? Fields(*function, path + ".function.").text("name") : f.text("name");
  if (!name || name->empty()) refuse(path + (function ? ".function.name" : ".name"), " is missing");
  return {.kind = ToolChoiceKind::named, .name = *name};
}

namespace {

const std::string& name_of(const Json& tool) { return tool.find("function")->find("name")->as_string(); }

// What a call's arguments have to be. Without parameters a tool takes none.
Json parameters_of(const Json& tool) {
  const Json* parameters = tool.find("function")->find("parameters");
  return parameters
             ? *parameters
             : Json(Json::Object{{"type", "object"}, {"properties", Json::Object{}}, {"additionalProperties", false}});
}

bool is_strict(const Json& tool) {
  const Json* strict = tool.find("function")->find("strict");
  return strict && *strict == Json(true);
}

Json tag_of(const Json& tool, ToolCallForm form) {
  Json content = Json::Object{{"type", "json_schema"}, {"json_schema", parameters_of(tool)}};
  const bool xml = form == ToolCallForm::xml;
  if (xml) content.set("style", "qwen_xml");
  const std::string name = xml ? name_of(tool) : to_json(Json(name_of(tool)));
  return Json::Object{{"type", "tag"},
                      {"begin", xml ? "<tool_call>\n<function=" + name + ">\n"
                                    : "<tool_call>\n{\"name\": " + name + ", \"arguments\": "},
                      {"content", std::move(content)},
                      {"end", xml ? "\n</function>\n</tool_call>" : "}\n</tool_call>"}};
}

// The format of a structural tag that stands for a structure.
Json format_of(const StructureFields& s) {
  if (s.json_object) return Json::Object{{"type", "json_schema"}, {"json_schema", Json::Object{{"type", "object"}}}};
  if (!s.regex.empty()) return Json::Object{{"type", "regex"}, {"pattern", s.regex}};
  if (!s.grammar.empty()) return Json::Object{{"type", "grammar"}, {"grammar", s.grammar}};
  if (!s.choice.empty()) {
    Json::Array texts;
    for (const std::string& text : s.choice) texts.push_back(Json::Object{{"type", "const_string"}, {"value", text}});
    return Json::Object{{"type", "or"}, {"elements", std::move(texts)}};
  }
  try {
    if (!s.json.empty())
      return Json::Object{{"type", "json_schema"}, {"json_schema", parse_json(s.json, "the JSON schema")}};
    const Json tag = parse_json(s.structural_tag, "the structural tag");
    if (const Json* format = tag.find("format")) return *format;
  } catch (const Error& e) {
    refuse(s.param, ": ", e.message());
  }
  refuse(s.param, " has no format");
}

Json calls_format(Json::Array tags, bool once) {
  return Json::Object{{"type", "tags_with_separator"},
                      {"separator", "\n"},
                      {"tags", std::move(tags)},
                      {"at_least_one", true},
                      {"stop_after_first", once}};
}

Json tag_with(Json format) { return Json::Object{{"type", "structural_tag"}, {"format", std::move(format)}}; }

}  // namespace

Json structure_or_calls_tag(const StructureFields& structure, const Json::Array& tools, bool parallel,
                            ToolCallForm form) {
  Json::Array tags;
  for (const Json& tool : tools) tags.push_back(tag_of(tool, form));
  return tag_with(Json::Object{
      {"type", "or"}, {"elements", Json::Array{format_of(structure), calls_format(std::move(tags), !parallel)}}});
}

void check_tool_choice(const ToolChoice& choice, const Json::Array& tools, const std::string& path) {
  if (choice.kind == ToolChoiceKind::required && tools.empty()) refuse(path, " is required, and there are no tools");
  if (choice.kind != ToolChoiceKind::named) return;
  if (std::none_of(tools.begin(), tools.end(), [&](const Json& tool) { return name_of(tool) == choice.name; }))
    refuse(path, " names '", choice.name, "', and there is no such tool");
}

ToolCallForm tool_call_form(std::string_view prompt) {
  const std::size_t json = prompt.rfind("{\"name\": <function-name>"), xml = prompt.rfind("<function=");
  return json == std::string_view::npos && xml != std::string_view::npos ? ToolCallForm::xml : ToolCallForm::json;
}

Json tool_call_tag(const Json::Array& tools, const ToolChoice& choice, bool parallel, ToolCallForm form) {
  const bool forced = choice.kind == ToolChoiceKind::required || choice.kind == ToolChoiceKind::named;
  const bool strict = std::any_of(tools.begin(), tools.end(), is_strict);
  if (choice.kind == ToolChoiceKind::none || tools.empty() || (!forced && !strict)) return {};
  Json::Array tags;
  for (const Json& tool : tools)
    if (choice.kind != ToolChoiceKind::named || name_of(tool) == choice.name) tags.push_back(tag_of(tool, form));
  // A named tool is called once, as OpenAI's API has it.
  const bool once = !parallel || choice.kind == ToolChoiceKind::named;
  if (forced) return tag_with(calls_format(std::move(tags), once));
  return tag_with(Json::Object{{"type", "triggered_tags"},
                               {"triggers", Json::Array{"<tool_call>"}},
                               {"tags", std::move(tags)},
                               {"at_least_one", false},
                               {"stop_after_first", once}});
}

}  // namespace cajal::protocol
