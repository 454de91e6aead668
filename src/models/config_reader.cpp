#include "models/config_reader.h"

#include <cmath>

#include "base/utf8.h"

namespace cajal {

std::string show(const Json& value) {
  constexpr std::size_t kMost = 80;
  std::string text = to_json(value);
  if (text.size() <= kMost) return text;
  text.resize(kMost);
  text.resize(text.size() - incomplete_utf8_suffix(text));
  return text + "...";
}

ConfigReader::ConfigReader(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
  if (!object.is_object())
    fail(ErrorCode::data_loss, where_, ": is ", object.type_name(), ", expected an object", remedy(kCompare));
}

const Json* ConfigReader::find(std::string_view key) const {
  const Json* value = object_.find(key);
  return value && !value->is_null() ? value : nullptr;
}

bool ConfigReader::truthy(std::string_view key) const {
  const Json* value = find(key);
  if (!value) return false;
  if (value->is_bool()) return value->as_bool();
  if (value->is_number()) return value->as_double() != 0;
  if (value->is_string()) return !value->as_string().empty();
  if (value->is_array()) return !value->as_array().empty();
  return !value->as_object().empty();
}

void ConfigReader::fail_missing(std::string_view key) const {
  fail(ErrorCode::data_loss, where_, ": '", key, "' is ", object_.find(key) ? "null" : "missing", remedy(kCompare));
}

void ConfigReader::fail_unsupported(std::string_view key, std::string_view why, std::string_view what_to_do) const {
  const Json* value = object_.find(key);
  fail(ErrorCode::unsupported, where_, ": '", key, "' is ", value ? show(*value) : "missing", why.empty() ? "" : ", ",
       why, remedy(what_to_do));
}

bool ConfigReader::to_bool(std::string_view key, const Json& value) const {
  if (value.is_bool()) return value.as_bool();
  if (value.is_number() && (value.as_double() == 0 || value.as_double() == 1)) return value.as_double() == 1;
  fail_value(key, value, "true or false");
}

std::int64_t ConfigReader::to_int(std::string_view key, const Json& value, std::int64_t min, std::int64_t max) const {
  constexpr double kExact = 9007199254740992.0;  // 2^53: beyond it a double no longer says which integer was meant
  std::int64_t result = 0;
  bool integral = true;
  if (value.is_int())
    result = value.as_int();
  else if (value.is_double() && std::abs(value.as_double()) <= kExact &&
           std::trunc(value.as_double()) == value.as_double())
    result = static_cast<std::int64_t>(value.as_double());
  else
    integral = false;
  if (!integral || result < min || result > max) {
    if (max == std::numeric_limits<std::int64_t>::max()) fail_value(key, value, "an integer of at least ", min);
    fail_value(key, value, "an integer from ", min, " to ", max);
  }
  return result;
}

double ConfigReader::to_number(std::string_view key, const Json& value, double min, double max) const {
  if (!value.is_number()) fail_value(key, value, "a number");
  const double result = value.as_double();
  if (!(result >= min && result <= max)) fail_value(key, value, "a number from ", min, " to ", max);
  return result;
}

const ConfigReader& ConfigReader::required(const char* key, std::string& into) const {
  if (!find(key)) fail_missing(key);
  return optional(key, into);
}

const ConfigReader& ConfigReader::optional(const char* key, std::string& into) const {
  const Json* value = find(key);
  if (!value) return *this;
  if (!value->is_string()) fail_value(key, *value, "a string");
  into = value->as_string();
  return *this;
}

const ConfigReader& ConfigReader::optional(const char* key, std::vector<std::int64_t>& into) const {
  const Json* value = find(key);
  if (!value) return *this;
  if (!value->is_array()) fail_value(key, *value, "a list of integers");
  into.clear();
  for (const Json& element : value->as_array())
    into.push_back(
        to_int(key, element, std::numeric_limits<std::int64_t>::lowest(), std::numeric_limits<std::int64_t>::max()));
  return *this;
}

const ConfigReader& ConfigReader::optional_token_ids(const char* key, std::vector<std::int32_t>& into) const {
  const Json* value = find(key);
  if (!value) return *this;
  into.clear();
  const auto append = [&](const Json& id) {
    const std::int64_t read =
        to_int(key, id, std::numeric_limits<std::int32_t>::lowest(), std::numeric_limits<std::int32_t>::max());
    if (read >= 0) into.push_back(static_cast<std::int32_t>(read));
  };
  if (!value->is_array()) {
    append(*value);
    return *this;
  }
  for (const Json& id : value->as_array()) append(id);
  return *this;
}

}  // namespace cajal
