#pragma once
// UTF-8: checking, repairing, and walking by code point.
#include <cstdint>
#include <string>
#include <string_view>

namespace cajal {

// One step of decoding. `length` bytes starting at a position form `code_point`; if they are not UTF-8, `valid` is
// false and `length` is that of the maximal subpart (at least 1), which WHATWG's decoder replaces by one U+FFFD.
struct Utf8Step {
  char32_t code_point;
  std::uint8_t length;
  bool valid;
};
Utf8Step decode_utf8(std::string_view text, std::size_t at);

bool is_valid_utf8(std::string_view text);
// Each maximal ill-formed subpart becomes one U+FFFD, as Python's and Rust's lossy decoders do.
std::string replace_invalid_utf8(std::string_view text);
void append_utf8(std::string& out, char32_t code_point);

// How many bytes at the end of `text` are the beginning of a code point that more bytes could complete: 0 to 3.
std::size_t incomplete_utf8_suffix(std::string_view text);

}  // namespace cajal
