#pragma once
// Reads a JSON object of settings into C++ values, saying of each key whether it must be there and what it may be, so
// that nothing is silently ignored or silently wrong. Follows Python where files written by Python need it: null is
// "not set", 0 and 1 are booleans, 128.0 is an integer, 1 is a number.
#include <concepts>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/error.h"
#include "base/json.h"

namespace cajal {

// What to do about a file that makes no sense.
inline constexpr const char* kCompare = "compare the file with the one that the model was published with";

std::string show(const Json& value);  // as an error quotes it: JSON, cut short when it is long

class ConfigReader {
 public:
  template <class T>
  struct Range {
    T min = std::numeric_limits<T>::lowest();
    T max = std::numeric_limits<T>::max();
  };

  // `where` begins every error: "models/x/config.json", or "models/x/config.json, rope_scaling" for an object inside.
  // Keeps a reference to `object`.
  ConfigReader(const Json& object, std::string where);

  const Json& object() const { return object_; }
  const std::string& where() const { return where_; }
  // The value of a key, or null if it is absent or JSON's null.
  const Json* find(std::string_view key) const;

  template <class T>
  const ConfigReader& required(const char* key, T& into, Range<std::type_identity_t<T>> range = {}) const {
    if (!find(key)) fail_missing(key);
    return optional(key, into, range);
  }
  // Keeps what `into` holds when the key is not set.
  template <class T>
  const ConfigReader& optional(const char* key, T& into, Range<std::type_identity_t<T>> range = {}) const {
    const Json* value = find(key);
    if (!value) return *this;
    if constexpr (std::same_as<T, bool>)
      into = to_bool(key, *value);
    else if constexpr (std::integral<T>)
      into = static_cast<T>(to_int(key, *value, range.min, range.max));
    else
      into = static_cast<T>(to_number(key, *value, static_cast<double>(range.min), static_cast<double>(range.max)));
    return *this;
  }
  const ConfigReader& required(const char* key, std::string& into) const;
  const ConfigReader& optional(const char* key, std::string& into) const;
  const ConfigReader& optional(const char* key, std::vector<std::int64_t>& into) const;
  // Token ids as a list or as one integer. Negative ids, which some files use for "none", are left out.
  const ConfigReader& optional_token_ids(const char* key, std::vector<std::int32_t>& into) const;

  // What a JSON value means to Python's `if`: null, false, 0, "", [] and {} are false, and so is an absent key.
  bool truthy(std::string_view key) const;

  // A value that could be read and cannot be right: the file is not what it says it is.
  template <class... Expected>
  [[noreturn]] void fail_value(std::string_view key, const Json& found, const Expected&... expected) const {
    fail(ErrorCode::data_loss, where_, ": '", key, "' is ", show(found), ", expected ", expected..., remedy(kCompare));
  }
  [[noreturn]] void fail_missing(std::string_view key) const;
  // A feature that would change the result and is not implemented. `why` ends the sentence "'key' is value, …".
  [[noreturn]] void fail_unsupported(std::string_view key, std::string_view why, std::string_view what_to_do) const;

  bool to_bool(std::string_view key, const Json& value) const;
  std::int64_t to_int(std::string_view key, const Json& value, std::int64_t min, std::int64_t max) const;
  double to_number(std::string_view key, const Json& value, double min, double max) const;

 private:
  const Json& object_;
  std::string where_;
};

}  // namespace cajal
