#include "cli/chat_prompt.h"

#include <string_view>

namespace cajal::cli {

std::tm local_time() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&now, &local);
  return local;
}

ChatPromptIds ChatPrompt::render(const Tokenizer& tokenizer, Json::Array messages,
                                 std::optional<bool> enable_thinking) const {
  Json variables = Json::Object{{"messages", std::move(messages)}, {"add_generation_prompt", true}};
  if (enable_thinking) variables.set("enable_thinking", *enable_thinking);
  const RenderedChat chat = template_.render(variables, {.now = now_, .limits = {}});
  const std::string_view text = chat.text;
  const std::string_view trimmed = text.substr(0, text.find_last_not_of(" \n") + 1);
  return {encode_rendered(tokenizer, chat, true), trimmed.ends_with("<think>")};
}

}  // namespace cajal::cli
