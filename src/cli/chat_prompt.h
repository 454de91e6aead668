#pragma once
// A conversation as the token ids that a model goes on from.
#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "text/chat_template.h"

namespace cajal::cli {

std::tm local_time();

struct ChatPromptIds {
  std::vector<std::int32_t> ids;
  bool opens_thinking = false;  // the template has written <think> already
};

// The chat template of a model's folder. The time that templates see is that of loading, so that a conversation's
// beginning stays as it was.
class ChatPrompt {
 public:
  explicit ChatPrompt(const std::string& folder) : template_(ChatTemplate::from_folder(folder)), now_(local_time()) {}

  // `enable_thinking` is a variable of the template only where it is given. What messages say is text, also where it
  // spells a control token.
  ChatPromptIds render(const Tokenizer& tokenizer, Json::Array messages, std::optional<bool> enable_thinking) const;

 private:
  ChatTemplate template_;
  std::tm now_;
};

}  // namespace cajal::cli
