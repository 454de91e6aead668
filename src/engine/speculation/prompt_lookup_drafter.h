#pragma once
// Guesses without a model: what came after the last tokens when the sequence had them before. Hugging Face calls it prompt
// lookup, vLLM n-gram speculation. It pays where answers repeat their prompts: summaries, edits, code.
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>

#include "engine/speculation/drafter.h"

namespace cajal {

struct PromptLookupOptions {
  std::int64_t prompt_lookup_num_tokens = 10;   // guesses, at most
  std::int64_t max_matching_ngram_size = 3;     // tokens that must have been there before: at first so many, …
  std::int64_t min_matching_ngram_size = 1;     // … and if they were not, fewer, down to these
  std::int64_t max_indexed_tokens = 4'000'000;  // of all sequences; some 50 bytes each with the sizes above
};

// The guess for tokens t: with the largest n for which the last n of t are also somewhere before, what follows their most
// recent earlier occurrence. One that reaches the end of t goes on with itself, as a loop would.
//
// The n-grams of a sequence are kept from call to call, so that a call costs a comparison with the tokens of the last one
// and work for the new ones alone. When more than max_indexed_tokens are kept, the least recently used sequence is dropped
// and read anew if it comes again, which changes no guess; the one in use is kept however long it is.
class PromptLookupDrafter final : public Drafter {
 public:
  // Throws Error(invalid_argument) naming the option, its value and its range.
  explicit PromptLookupDrafter(const PromptLookupOptions& options);
  ~PromptLookupDrafter() override;

  const char* name() const override { return "prompt_lookup"; }
  std::int64_t max_draft_tokens() const override { return options_.prompt_lookup_num_tokens; }
  void propose(std::span<const DraftContext> contexts, std::span<Draft> drafts) override;
  void forget(std::uint64_t sequence) noexcept override;

  std::int64_t num_indexed_tokens() const { return num_indexed_tokens_; }

 private:
  class Index;
  Index& refresh(const DraftContext& context);
  void drop_least_recently_used(std::uint64_t kept);

  PromptLookupOptions options_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Index>> indexes_;  // by sequence
  std::int64_t num_indexed_tokens_ = 0;
  std::uint64_t calls_ = 0;
};

}  // namespace cajal
