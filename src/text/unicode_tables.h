#pragma once
// Unicode data of the Hugging Face tokenizers library, as tools/make_unicode_tables.py observed it. Private to unicode.cpp
// and nfc.cpp: other files ask unicode.h.
#include <cstdint>
#include <span>

namespace cajal::unicode_tables {

struct Range {
  char32_t first, last;  // both inside
};

struct CombiningRange {
  char32_t first, last;
  std::uint8_t combining_class;
};

// The full canonical decomposition of `code_point` is pool[offset, offset + length).
struct Decomposition {
  char32_t code_point;
  std::uint16_t offset, length;
};

struct Composition {
  char32_t first, second, composite;
};

// Character classes of the pattern engines. Letters, numbers and spaces do not overlap.
std::span<const Range> letters();  // \p{L}
std::span<const Range> numbers();  // \p{N}
std::span<const Range> spaces();   // \s
std::span<const Range> words();    // \w of the engine that honours single_word

// Normalisation data (Unicode 9.0); Hangul syllables are left to arithmetic. All sorted.
std::span<const CombiningRange> combining_classes();
std::span<const Decomposition> decompositions();
std::span<const char32_t> decomposition_pool();
std::span<const Composition> compositions();  // by first, then second

}  // namespace cajal::unicode_tables
