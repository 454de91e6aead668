#pragma once
// A file of requests, one JSON value a line, for `generate --prompt-file FILE.jsonl`.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "cli/options.h"

namespace cajal::cli {

// What a line asks for. One of prompt, token_ids and messages is set.
struct PromptLine {
  std::size_t number = 0;  // from 1
  Json id;                 // a text or an integer that the answer repeats; null: none
  std::optional<std::string> prompt;
  std::optional<std::vector<std::int32_t>> token_ids;
  Json::Array messages;
  std::optional<bool> enable_thinking;
  GenerateFlags generate;  // those of the command line, with what the line says instead
  std::int32_t priority = 0;
  std::optional<std::int64_t> timeout_ms;
  std::string cache_salt;
  std::optional<Error> error;  // the line makes no sense
};

// Whether a file holds requests and not a prompt: its name ends in .jsonl, or its first line is an object with a prompt in
// it, as what comes through a pipe may be.
bool has_prompt_lines(const std::string& path, std::string_view text);

// Each line is a text, which is the prompt, or an object. `what` names the file in errors. Empty lines are skipped.
std::vector<PromptLine> read_prompt_lines(std::string_view text, std::string_view what, const GenerateFlags& defaults);

}  // namespace cajal::cli
