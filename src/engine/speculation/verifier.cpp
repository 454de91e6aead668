#include "engine/speculation/verifier.h"

#include "base/error.h"

namespace cajal {

VerifiedDraft verify_chain(std::span<const std::int32_t> draft, std::int64_t length, const ChooseTargetToken& choose) {
  CAJAL_CHECK(length > 0);
  VerifiedDraft verified;
  const auto num_guesses = static_cast<std::int64_t>(draft.size());
  for (std::int64_t row = 0; row <= num_guesses; ++row) {
    const std::optional<std::int32_t> token = choose(row, length + row);
    if (!token) break;
    ++verified.num_tokens;
    if (row == num_guesses || *token != draft[static_cast<std::size_t>(row)]) break;
    ++verified.num_accepted;
  }
  return verified;
}

}  // namespace cajal
