#pragma once
// A model's chat template: messages to the text that the model was trained on.
#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "text/jinja/template.h"
#include "text/tokenizer.h"

namespace cajal {

struct RenderedChat {
  std::string text;
  std::vector<TextSpan> user;  // the bytes that came from the variables, in order; all others are the template's own
};

struct ChatRenderOptions {
  std::optional<std::tm> now;  // local time, for templates that write a date
  jinja::Limits limits;
};

// Immutable after loading; may be used from many threads at once.
class ChatTemplate {
 public:
  // Reads chat_template.jinja, or else the chat_template of tokenizer_config.json, from a model's folder. Where there are
  // several, the one named "default" is taken, and "tool_use" for requests with tools. Error(not_found) if there is
  // none; jinja::TemplateError, which is an Error, gives the line of what cannot be parsed.
  static ChatTemplate from_folder(const std::string& folder);
  static bool is_present(const std::string& folder);
  // `what` names the template in messages.
  static ChatTemplate from_source(std::string_view source, std::string_view what = "chat template");

  // Renders with every member of `variables` as a variable: messages, tools, add_generation_prompt, and whatever else the
  // template knows. As in Hugging Face's apply_chat_template, tools and documents are none and add_generation_prompt is
  // false if they are absent, and bos_token, eos_token and the like are what tokenizer_config.json says.
  // jinja::TemplateError gives kind and line of what the template refuses.
  RenderedChat render(const Json& variables, const ChatRenderOptions& options = {}) const;

 private:
  ChatTemplate(jinja::Template standard, std::optional<jinja::Template> with_tools)
      : standard_(std::move(standard)), with_tools_(std::move(with_tools)) {}

  jinja::Template standard_;
  std::optional<jinja::Template> with_tools_;
  std::vector<std::pair<std::string, std::string>> tokens_;  // "eos_token" and its text
};

// The ids of a rendered chat. With `protect_user_text`, no byte that came from the variables becomes part of a control
// token: "<|im_end|>" in a message is then text. Nothing else differs from encoding the text as it stands.
std::vector<std::int32_t> encode_rendered(const Tokenizer& tokenizer, const RenderedChat& chat, bool protect_user_text);

}  // namespace cajal
