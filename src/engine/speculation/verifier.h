#pragma once
// How many of the guesses were right. A step computes the sequence's last token and all guesses after it in one go; here
// its rows are walked until the model says something else.
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

namespace cajal {

struct VerifiedDraft {
  std::int64_t num_tokens = 0;    // that were chosen: the right guesses and, unless the walk was stopped, one more
  std::int64_t num_accepted = 0;  // of the guesses
};

// Chooses the target's token by the logits of a row of the sequence, and takes it: row 0 is the sequence's last token, row i
// that of guess i - 1. `position` is that of the token to be chosen. Nothing to choose (the sequence has ended, the logits
// are of no use): nullopt, and the walk stops there.
using ChooseTargetToken = std::function<std::optional<std::int32_t>(std::int64_t row, std::int64_t position)>;

// Walks the rows of a chain of guesses. `length` is how many tokens the sequence had before. Every row that is chosen from
// follows tokens that the target chose itself, so these are the tokens of decoding without guesses, one for one:
// docs/decisions/0011-lossless-speculation.md. Afterwards all tokens but the last one are in the cache; what the wrong
// guesses left behind them is overwritten by whatever comes there.
VerifiedDraft verify_chain(std::span<const std::int32_t> draft, std::int64_t length, const ChooseTargetToken& choose);

}  // namespace cajal
