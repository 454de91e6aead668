#pragma once
// Regular expressions of strings in JSON, where quotes, backslashes and control characters have to be escaped. The grammar
// compiler writes none of them so, and lets some of them come as they are, which is not JSON.
#include <string>
#include <string_view>

namespace cajal {

// What `pattern` matches but for texts that JSON would have to escape, written with the classes that every part of the
// compiler takes at their word: of ["a] or of . no quote comes. Throws Error(invalid_argument) for a character or a class
// that JSON has to escape altogether, and for escapes that it does not know.
std::string lower_json_string_pattern(std::string_view pattern);

// Whether it is plain from how they begin that no text matches both, as with ^a_ and ^b_, or ^[a-z] and ^\d. For patterns that
// lower_json_string_pattern() takes.
bool are_disjoint_patterns(std::string_view a, std::string_view b);

}  // namespace cajal
