#pragma once
// Typed reading of JSON objects from a tokenizer's files. Every Error(data_loss) says key, what stands there and what was
// expected; callers add the file.
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"

namespace cajal::json_fields {

const Json& required(const Json& object, std::string_view key);  // Error also if `object` is no object
std::string string(const Json& object, std::string_view key);
bool boolean(const Json& object, std::string_view key);
bool boolean_or(const Json& object, std::string_view key, bool absent);  // null counts as absent
std::int64_t integer(const Json& object, std::string_view key);
const Json::Array& array(const Json& object, std::string_view key);
const Json::Object& object(const Json& object, std::string_view key);

// The value of `type`, which says what kind of component an object describes.
inline std::string type_of(const Json& component) { return string(component, "type"); }

}  // namespace cajal::json_fields
