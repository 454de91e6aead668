#include "engine/request.h"

#include <cstddef>

#include "base/error.h"

namespace cajal {

const char* to_string(FinishReason reason) {
  static constexpr const char* kNames[] = {"stop", "length", "interrupted", "numerical_error", "deadline_exceeded",
                                           "error"};
  return kNames[static_cast<std::size_t>(reason)];
}

void check_token_ids(std::span<const std::int32_t> ids, std::int64_t vocab_size, std::int64_t max_model_len) {
  if (ids.empty()) fail(ErrorCode::invalid_argument, "the prompt has no tokens", remedy("give at least one"));
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || ids[i] >= vocab_size)
      fail(ErrorCode::invalid_argument, "token id ", ids[i], " at index ", i,
           " is outside the vocabulary, expected 0..", vocab_size - 1);
  if (static_cast<std::int64_t>(ids.size()) > max_model_len)
    fail(ErrorCode::invalid_argument, "the prompt has ", ids.size(), " tokens, and the model takes at most ",
         max_model_len, remedy("shorten it, or raise --max-model-len if the model allows it"));
}

}  // namespace cajal
