#pragma once
// Regular expressions of strings in JSON, where quotes, backslashes and control characters have to be escaped. The grammar
// compiler writes none of them so, and lets some of them come as they are, which is not JSON.
#include <string>
#include <string_view>
#include <vector>

namespace cajal {

struct CharacterRange {
  char32_t first, last;
};
// In order, and apart from one another.
using CharacterSet = std::vector<CharacterRange>;

struct JsonStringPattern {
  // What was matched but for texts that JSON would have to escape, written with the classes that every part of the compiler
  // takes at their word: of ["a] or of . no quote comes.
  std::string text;
  // The first characters of every text that matches, as far as they are plain.
  std::vector<CharacterSet> beginning;
};

// Throws Error(invalid_argument) for a character or a class that JSON has to escape altogether, and for escapes that it does
// not know.
JsonStringPattern lower_json_string_pattern(std::string_view pattern);

// Whether it is plain from how they begin that no text matches both, as with ^a_ and ^b_, or ^[a-z] and ^\d.
bool are_disjoint_patterns(const JsonStringPattern& a, const JsonStringPattern& b);

}  // namespace cajal
