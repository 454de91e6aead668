#include "protocol/fields.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace cajal::protocol {
namespace {

constexpr int kMaxDepth = 64;

}  // namespace

Fields::Fields(const Json& object, std::string path) : object_(object), path_(std::move(path)) {
  if (object.is_object()) return;
  std::string name = path_.empty() ? "the request" : path_.substr(0, path_.size() - 1);
  throw RequestError({.param = path_.empty() ? "" : name,
                      .message = detail::join(name, " is ", object.type_name(), ", expected an object")});
}

void Fields::wrong_type(std::string_view name, const Json& found, std::string_view expected) const {
  refuse(path(name), " is ", found.type_name(), ", expected ", expected);
}

const Json* Fields::find(std::string_view name) {
  known_.emplace_back(name);
  const Json* value = object_.find(name);
  return value && !value->is_null() ? value : nullptr;
}

std::optional<std::string> Fields::text(std::string_view name) {
  const Json* value = find(name);
  if (!value) return std::nullopt;
  if (!value->is_string()) wrong_type(name, *value, "a string");
  return value->as_string();
}

std::string Fields::required_text(std::string_view name) {
  auto value = text(name);
  if (!value || value->empty()) refuse(path(name), " is missing");
  return std::move(*value);
}

std::optional<bool> Fields::boolean(std::string_view name) {
  const Json* value = find(name);
  if (!value) return std::nullopt;
  if (!value->is_bool()) wrong_type(name, *value, "a boolean");
  return value->as_bool();
}

std::optional<std::int64_t> Fields::integer(std::string_view name, const Range<std::int64_t>& range) {
  const Json* value = find(name);
  if (!value) return std::nullopt;
  std::int64_t result = 0;
  if (value->is_int()) {
    result = value->as_int();
  } else if (value->is_double() && std::abs(value->as_double()) < 0x1p53 &&
             std::trunc(value->as_double()) == value->as_double()) {
    result = static_cast<std::int64_t>(value->as_double());  // 5.0, as some clients write 5
  } else {
    wrong_type(name, *value, "an integer");
  }
  if (result < range.min || result > range.max)
    refuse(path(name), " is ", result, ", expected ", range.min, " to ", range.max);
  return result;
}

std::optional<double> Fields::number(std::string_view name, const Range<double>& range) {
  const Json* value = find(name);
  if (!value) return std::nullopt;
  if (!value->is_number()) wrong_type(name, *value, "a number");
  const double result = value->as_double();
  if (!(result >= range.min && result <= range.max) || (range.above_min && result == range.min))
    refuse(path(name), " is ", result, ", expected ", range.above_min ? "more than " : "", range.min,
           range.above_min ? " and at most " : " to ", range.max);
  return result;
}

const Json::Object* Fields::object(std::string_view name) {
  const Json* value = find(name);
  if (!value) return nullptr;
  if (!value->is_object()) wrong_type(name, *value, "an object");
  return &value->as_object();
}

const Json::Array* Fields::array(std::string_view name) {
  const Json* value = find(name);
  if (!value) return nullptr;
  if (!value->is_array()) wrong_type(name, *value, "an array");
  return &value->as_array();
}

void Fields::accept(std::string_view name) { find(name); }

void Fields::refuse_unless(std::string_view name, std::string_view why, const std::vector<Json>& harmless) {
  const Json* value = find(name);
  if (!value || std::find(harmless.begin(), harmless.end(), *value) != harmless.end()) return;
  throw RequestError({.code = "unsupported_parameter",
                      .param = path(name),
                      .message = detail::join(path(name), " is not supported: ", why, " — leave it out")});
}

std::vector<std::string> Fields::unknown() const {
  std::vector<std::string> names;
  for (const auto& [name, value] : object_.as_object())
    if (std::find(known_.begin(), known_.end(), name) == known_.end()) names.push_back(path(name));
  return names;
}

Json parse_body(std::string_view body) {
  Json json;
  try {
    json = parse_json(body, "the request body", {.max_depth = kMaxDepth});
  } catch (const Error& e) {
    throw RequestError({.code = "invalid_json", .message = e.message()});
  }
  [[maybe_unused]] const Fields must_be_an_object(json);
  return json;
}

std::vector<std::int32_t> token_ids_of(const Json::Array& array, const std::string& path) {
  std::vector<std::int32_t> ids;
  ids.reserve(array.size());
  for (std::size_t i = 0; i < array.size(); ++i) {
    const std::string name = detail::join(path, "[", i, "]");
    if (!array[i].is_int()) refuse(name, " is ", array[i].type_name(), ", expected a token id");
    const std::int64_t id = array[i].as_int();
    if (id < 0 || id > std::numeric_limits<std::int32_t>::max()) refuse(name, " is ", id, ", expected a token id");
    ids.push_back(static_cast<std::int32_t>(id));
  }
  return ids;
}

}  // namespace cajal::protocol
