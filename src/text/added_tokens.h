#pragma once
// Tokens that are found in the text itself, before it is cut into pieces: control tokens and those a user added.
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cajal {

struct TextSpan {
  std::size_t begin, end;  // bytes
  bool operator==(const TextSpan&) const = default;
};

struct AddedToken {
  std::string content;  // what is looked for, already normalised if `normalized`
  std::int32_t id = 0;
  bool special = false;      // control tokens: skip_special_tokens drops them, and text may be told not to name them
  bool normalized = false;   // looked for after normalisation instead of before
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false, rstrip = false;  // takes white space on that side along
};

// Finds tokens of one kind: leftmost first, of those that start there the longest.
class AddedTokenMatcher {
 public:
  struct Part {
    std::string_view text;
    const AddedToken* token;  // null: text between tokens
  };

  // What stays text although it reads like a token.
  struct Skip {
    bool special = false;             // special tokens, everywhere
    std::span<const TextSpan> plain;  // whatever touches these; sorted
    std::size_t offset = 0;           // where the text begins, as `plain` counts
  };

  AddedTokenMatcher() = default;
  explicit AddedTokenMatcher(std::vector<AddedToken> tokens);  // contents are not empty

  bool empty() const { return tokens_.empty(); }
  // Appends the parts of valid UTF-8, in order; parts without a token are never empty. Special tokens that are
  // skipped are found, so that nothing inside them is.
  void split(std::string_view text, const Skip& skip, std::vector<Part>& parts) const;

 private:
  const AddedToken* match(std::string_view text, std::size_t at) const;

  std::vector<AddedToken> tokens_;  // sorted by content
  // Of tokens that begin with a byte: [first_of_[byte], first_of_[byte + 1]).
  std::array<std::uint32_t, 257> first_of_{};
};

}  // namespace cajal
