#pragma once
// The byte alphabet of byte-level vocabularies: 256 printable code points, one a byte. Printable Latin-1 stands for itself
// and the other bytes, in order, for U+0100 onwards: a space is written "Ġ" (U+0120), a newline "Ċ" (U+010A).
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace cajal {

char32_t byte_to_alphabet(std::uint8_t byte);

// The bytes that a vocabulary string stands for, or nothing if it has a character outside the alphabet.
std::optional<std::string> from_byte_alphabet(std::string_view token);
std::string to_byte_alphabet(std::string_view bytes);

}  // namespace cajal
