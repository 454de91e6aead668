#include "text/json_fields.h"

namespace cajal::json_fields {
namespace {

[[noreturn]] void wrong_type(std::string_view key, const Json& value, std::string_view expected) {
  fail(ErrorCode::data_loss, "\"", key, "\" is ", value.type_name(), ", expected ", expected);
}

}  // namespace

const Json& required(const Json& object, std::string_view key) {
  if (!object.is_object())
    fail(ErrorCode::data_loss, "got ", object.type_name(), ", expected an object with \"", key, "\"");
  const Json* value = object.find(key);
  if (!value) fail(ErrorCode::data_loss, "\"", key, "\" is missing");
  return *value;
}

std::string string(const Json& object, std::string_view key) {
  const Json& value = required(object, key);
  if (!value.is_string()) wrong_type(key, value, "a string");
  return value.as_string();
}

bool boolean(const Json& object, std::string_view key) {
  const Json& value = required(object, key);
  if (!value.is_bool()) wrong_type(key, value, "true or false");
  return value.as_bool();
}

bool boolean_or(const Json& object, std::string_view key, bool absent) {
  const Json* value = object.find(key);
  return value && !value->is_null() ? boolean(object, key) : absent;
}

std::int64_t integer(const Json& object, std::string_view key) {
  const Json& value = required(object, key);
  if (!value.is_int()) wrong_type(key, value, "an integer");
  return value.as_int();
}

const Json::Array& array(const Json& object, std::string_view key) {
  const Json& value = required(object, key);
  if (!value.is_array()) wrong_type(key, value, "an array");
  return value.as_array();
}

const Json::Object& object(const Json& object, std::string_view key) {
  const Json& value = required(object, key);
  if (!value.is_object()) wrong_type(key, value, "an object");
  return value.as_object();
}

}  // namespace cajal::json_fields
