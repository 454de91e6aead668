#include "text/unicode.h"

#include "text/unicode_tables.h"

namespace cajal::unicode {
namespace {

constexpr char32_t kCodePoints = 0x110000;

// One byte a code point. It lies in zeroed memory, so pages of code points that have no properties are never touched.
std::uint8_t g_properties[kCodePoints];

template <class Ranges>
void mark(const Ranges& ranges, std::uint8_t bit) {
  for (const auto& range : ranges)
    for (char32_t c = range.first; c <= range.last; ++c) g_properties[c] |= bit;
}

const std::uint8_t* fill() {
  namespace tables = unicode_tables;
  mark(tables::letters(), kLetter);
  mark(tables::numbers(), kNumber);
  mark(tables::spaces(), kSpace);
  mark(tables::words(), kWord);
  // What decomposes for good changes; what a mark was composed with stands as it is.
  for (const auto& d : tables::decompositions()) g_properties[d.code_point] |= kNfcCareful;
  for (const auto& c : tables::compositions()) g_properties[c.composite] &= static_cast<std::uint8_t>(~kNfcCareful);
  // What can join or be sorted before something earlier.
  for (const auto& c : tables::compositions()) g_properties[c.second] |= kNfcCareful;
  mark(tables::combining_classes(), kNfcCareful);
  for (char32_t c = 0x1161; c <= 0x1175; ++c) g_properties[c] |= kNfcCareful;  // Hangul vowels and
  for (char32_t c = 0x11a8; c <= 0x11c2; ++c) g_properties[c] |= kNfcCareful;  // final consonants join what is before
  return g_properties;
}

}  // namespace

const std::uint8_t* properties() {
  static const std::uint8_t* const filled = fill();
  return filled;
}

}  // namespace cajal::unicode
