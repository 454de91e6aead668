#pragma once
// The split pattern of Qwen's tokenizers, written out: PCRE2 needs several times as long for the same answer.
#include <cstdint>
#include <string_view>

#include "text/unicode.h"

namespace cajal {

inline constexpr std::string_view kQwenPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

class QwenScanner {
 public:
  explicit QwenScanner(std::string_view text) : text_(text), properties_(unicode::properties()) {}

  // The end of the piece that begins at `at` (< size). Pieces cover the text without gaps.
  std::size_t next(std::size_t at) const;

 private:
  struct Char {
    std::uint32_t length;  // bytes; 0 at the end of the text
    std::uint8_t kind;
    bool newline;
  };
  static constexpr std::uint8_t kKinds = unicode::kLetter | unicode::kNumber | unicode::kSpace;

  Char look(std::size_t at) const {
    if (at >= text_.size()) return {0, kKinds, false};
    const auto c = unicode::decode_valid(text_, at);
    return {c.length, static_cast<std::uint8_t>(properties_[c.value] & kKinds), c.value == '\n' || c.value == '\r'};
  }
  std::size_t contraction(std::size_t at) const;  // bytes of 's, 't, 're … at an apostrophe, or 0
  std::size_t letters(std::size_t at) const;
  std::size_t symbols(std::size_t at) const;
  std::size_t spaces(std::size_t at) const;

  std::string_view text_;
  const std::uint8_t* properties_;
};

}  // namespace cajal
