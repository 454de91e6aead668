#pragma once
// Text with structures in it, and the limits of what grammars are written in.
#include <string_view>

#include "base/json.h"

namespace cajal {

// A structural tag, {"type": "structural_tag", "format": …}, with every JSON schema in it lowered (json_schema.h) and
// everything else checked. Throws Error(invalid_argument) that names the place.
Json lower_structural_tag(const Json& tag);

// What is too large or too deep for a regular expression or a grammar. Throws Error(invalid_argument).
void check_regex(std::string_view regex);
void check_ebnf(std::string_view grammar);

}  // namespace cajal
