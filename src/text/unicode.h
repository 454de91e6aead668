#pragma once
// What the tokenizer needs to know of a code point. The answers are those of the Hugging Face tokenizers library, whose
// pattern engine and normaliser use Unicode data of different versions.
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace cajal::unicode {

// Bits of a code point's properties. Of kLetter, kNumber and kSpace at most one is set.
enum : std::uint8_t {
  kLetter = 1,       // \p{L}
  kNumber = 2,       // \p{N}
  kSpace = 4,        // \s
  kWord = 8,         // \w, as `single_word` of added tokens means it
  kNfcCareful = 16,  // may change, or change what stands before it, under NFC
};

// Properties of every code point below 0x110000, indexed by it.
const std::uint8_t* properties();

inline std::uint8_t properties_of(char32_t c) { return properties()[c]; }

struct CodePoint {
  char32_t value;
  std::uint32_t length;  // bytes
};

// The code point that starts at `at`; the text must be valid UTF-8 and `at` the start of a code point.
inline CodePoint decode_valid(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text[at + i])); };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xe0) return {(lead & 0x1f) << 6 | (byte(1) & 0x3f), 2};
  if (lead < 0xf0) return {(lead & 0x0f) << 12 | (byte(1) & 0x3f) << 6 | (byte(2) & 0x3f), 3};
  return {(lead & 0x07) << 18 | (byte(1) & 0x3f) << 12 | (byte(2) & 0x3f) << 6 | (byte(3) & 0x3f), 4};
}

// The start of the code point that ends at `end` (> 0) of valid UTF-8.
inline std::size_t start_of_last(std::string_view text, std::size_t end) {
  do --end;
  while ((static_cast<unsigned char>(text[end]) & 0xc0) == 0x80);
  return end;
}

}  // namespace cajal::unicode
