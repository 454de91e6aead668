#pragma once
// POST /v1/completions: what a body asks for.
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/json.h"
#include "protocol/sampling_fields.h"

namespace cajal::protocol {

using TextOrIds = std::variant<std::string, std::vector<std::int32_t>>;

struct CompletionRequest {
  std::optional<std::string> model;
  std::vector<TextOrIds> prompts;
  bool echo = false;
  SamplingFields sampling;  // max_tokens may be 0 with echo
  AnswerFields answer;
  std::vector<std::string> ignored;  // fields that nobody knows
};

CompletionRequest read_completion_request(const Json& body);

// "text", ["text", …], [1, 2] or [[1, 2], …]; at most `max_count` of them.
std::vector<TextOrIds> read_texts(const Json& value, const std::string& name, std::size_t max_count);

}  // namespace cajal::protocol
