#include "text/chat_template.h"

#include <array>

#include "base/error.h"
#include "base/file.h"
#include "text/json_fields.h"

namespace cajal {
namespace {

std::string path_in(const std::string& folder, std::string_view name) {
  return folder.empty() || folder.ends_with('/') ? folder + std::string(name) : folder + '/' + std::string(name);
}

constexpr std::string_view kConfig = "tokenizer_config.json", kFile = "chat_template.jinja",
                           kToolFile = "additional_chat_templates/tool_use.jinja";

Json read_config(const std::string& folder) {
  const std::string path = path_in(folder, kConfig);
  return file_exists(path) ? parse_json(read_file(path), path) : Json(Json::Object{});
}

bool has_template(const Json& config) {
  const Json* found = config.find("chat_template");
  return found && !found->is_null();
}

struct Sources {
  std::optional<std::string> standard, with_tools;
};

// The value of chat_template: one template, or a list of named ones.
Sources sources_of(const Json& value, const std::string& what) {
  Sources sources;
  if (value.is_string()) {
    sources.standard = value.as_string();
    return sources;
  }
  if (!value.is_array())
    fail(ErrorCode::data_loss, what, ": \"chat_template\" is ", value.type_name(), ", expected a string or a list");
  std::string names;
  for (const Json& entry : value.as_array()) {
    const auto [name, source] = with_context(
        what, [&] { return std::pair(json_fields::string(entry, "name"), json_fields::string(entry, "template")); });
    if (name == "default") sources.standard = source;
    if (name == "tool_use") sources.with_tools = source;
    names += (names.empty() ? "" : ", ") + name;
  }
  if (!sources.standard)
    fail(ErrorCode::data_loss, what, ": the chat templates are named ", names.empty() ? "nothing" : names,
         ", and none of them \"default\"", remedy("name one of them \"default\""));
  return sources;
}

}  // namespace

bool ChatTemplate::is_present(const std::string& folder) {
  return file_exists(path_in(folder, kFile)) || has_template(read_config(folder));
}

ChatTemplate ChatTemplate::from_source(std::string_view source, std::string_view what) {
  return {jinja::Template(source, what), std::nullopt};
}

ChatTemplate ChatTemplate::from_folder(const std::string& folder) {
  const Json config = read_config(folder);
  const std::string config_path = path_in(folder, kConfig), file = path_in(folder, kFile),
                    tool_file = path_in(folder, kToolFile);
  Sources sources;
  std::string what = config_path + " (chat_template)", tool_what = config_path;
  if (file_exists(file)) {
    sources.standard = read_file(file, jinja::kMaxTemplateBytes);
    what = file;
    if (file_exists(tool_file)) {
      sources.with_tools = read_file(tool_file, jinja::kMaxTemplateBytes);
      tool_what = tool_file;
    }
  } else if (has_template(config)) {
    sources = sources_of(*config.find("chat_template"), config_path);
  } else {
    fail(ErrorCode::not_found, folder, ": the model has no chat template: neither ", kFile, " nor a chat_template in ",
         kConfig, remedy("use a model for chats, or give a plain prompt"));
  }
  std::optional<jinja::Template> with_tools;
  if (sources.with_tools) with_tools.emplace(*sources.with_tools, tool_what + " (tool_use)");
  ChatTemplate result(jinja::Template(*sources.standard, what), std::move(with_tools));
  constexpr std::array<const char*, 7> kTokens = {"bos_token", "eos_token", "unk_token", "sep_token",
                                                  "pad_token", "cls_token", "mask_token"};
  for (const char* name : kTokens) {
    const Json* token = config.find(name);
    if (token && token->is_object()) token = token->find("content");
    if (token && token->is_string()) result.tokens_.emplace_back(name, token->as_string());
  }
  return result;
}

RenderedChat ChatTemplate::render(const Json& variables, const ChatRenderOptions& options) const {
  const Json* tools = variables.find("tools");
  const jinja::Template& used = with_tools_ && tools && !tools->is_null() ? *with_tools_ : standard_;
  jinja::Output output = used.render(
      variables, {.own_variables = tokens_,
                  .defaults = {{"tools", nullptr}, {"documents", nullptr}, {"add_generation_prompt", false}},
                  .now = options.now,
                  .limits = options.limits});
  RenderedChat chat{std::move(output.text), {}};
  for (const jinja::ByteSpan& span : output.user) chat.user.push_back({span.begin, span.end});
  return chat;
}

std::vector<std::int32_t> encode_rendered(const Tokenizer& tokenizer, const RenderedChat& chat,
                                          bool protect_user_text) {
  // A chat template writes its own beginning and end of text.
  EncodeOptions options;
  options.add_special_tokens = false;
  if (protect_user_text) options.plain = chat.user;
  return tokenizer.encode(chat.text, options);
}

}  // namespace cajal
