#pragma once
// JSON schemas as the grammar compiler takes them at their word. It passes over keywords that stand beside others, or that
// it does not know, and writes what they forbid: here a schema becomes one in which it has nothing to pass over, or is refused.
#include <cstddef>
#include <string>

#include "base/json.h"

namespace cajal {

constexpr std::size_t kMaxSchemaBytes = 64 << 10;
constexpr int kMaxSchemaNodes = 4096;  // schemas in a schema, those of definitions counted once

// Every text that the result allows is valid for `schema`; not the other way round: an object that says which properties it
// has gets no others unless additionalProperties says so. Throws Error(invalid_argument) that names the place as a JSON
// pointer ("#/properties/a: …") for a keyword that cannot be kept, and for a schema that nothing, or nothing finite,
// satisfies.
// Without `keeps_lengths`, minLength and maxLength are left out: text that is not JSON is not to be kept to what JSON allows.
Json lower_json_schema(const Json& schema, bool keeps_lengths = true);

}  // namespace cajal
