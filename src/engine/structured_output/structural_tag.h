#pragma once
// Text with structures in it, and the limits of what grammars are written in.
#include <cstdint>
#include <string_view>

#include "base/json.h"

namespace cajal {

// A structural tag, {"type": "structural_tag", "format": …}, with every JSON schema in it lowered (json_schema.h) and
// everything else checked. Throws Error(invalid_argument) that names the place.
Json lower_structural_tag(const Json& tag);

// How many characters, classes and literals a regular expression or a grammar has once its repetitions are written out: about
// as many states does its compilation look at, each with the whole vocabulary.
constexpr std::int64_t kMostStates = 4096;
std::int64_t count_states(std::string_view text);

// Refuses what is too large or too deep, or what the compiler would pass over. Throws Error(invalid_argument).
void check_regex(std::string_view regex);
void check_ebnf(std::string_view grammar);

}  // namespace cajal
