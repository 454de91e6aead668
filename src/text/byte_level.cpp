#include "text/byte_level.h"

#include <array>

#include "base/utf8.h"

namespace cajal {
namespace {

constexpr std::size_t kAlphabetEnd = 0x144;  // one past the largest code point of the alphabet

struct Alphabet {
  std::array<char32_t, 256> of_byte{};
  std::array<std::int16_t, kAlphabetEnd> to_byte{};  // -1: not in the alphabet

  constexpr Alphabet() {
    to_byte.fill(-1);
    char32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
      const char32_t c = printable ? static_cast<char32_t>(byte) : next++;
      of_byte[static_cast<std::size_t>(byte)] = c;
      to_byte[c] = static_cast<std::int16_t>(byte);
    }
  }
};
constexpr Alphabet kAlphabet;

}  // namespace

char32_t byte_to_alphabet(std::uint8_t byte) { return kAlphabet.of_byte[byte]; }

std::optional<std::string> from_byte_alphabet(std::string_view token) {
  std::string bytes;
  bytes.reserve(token.size());
  for (std::size_t at = 0; at < token.size();) {
    const Utf8Step step = decode_utf8(token, at);
    if (!step.valid || step.code_point >= kAlphabetEnd || kAlphabet.to_byte[step.code_point] < 0) return std::nullopt;
    bytes += static_cast<char>(kAlphabet.to_byte[step.code_point]);
    at += step.length;
  }
  return bytes;
}

std::string to_byte_alphabet(std::string_view bytes) {
  std::string token;
  token.reserve(bytes.size() * 2);
  for (const char byte : bytes) append_utf8(token, kAlphabet.of_byte[static_cast<std::uint8_t>(byte)]);
  return token;
}

}  // namespace cajal
