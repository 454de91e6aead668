#pragma once
// Reads the fields of a JSON object so that none is passed over: a wrong one is refused by name, one that nobody asked for
// is listed.
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "protocol/request_error.h"

namespace cajal::protocol {

template <class Number>
struct Range {
  Number min, max;
  bool above_min = false;  // min itself is out
};

// null means absent, everywhere. Every getter throws RequestError for another type or range.
class Fields {
 public:
  // `path` stands in front of names: "messages[0]."
  explicit Fields(const Json& object, std::string path = {});

  const Json* find(std::string_view name);  // null: absent
  std::optional<std::string> text(std::string_view name);
  std::string required_text(std::string_view name);  // neither absent nor empty
  std::optional<bool> boolean(std::string_view name);
  std::optional<std::int64_t> integer(std::string_view name, const Range<std::int64_t>& range);
  std::optional<double> number(std::string_view name, const Range<double>& range);
  const Json::Object* object(std::string_view name);
  const Json::Array* array(std::string_view name);

  // What is known and does nothing here, such as "user".
  void accept(std::string_view name);
  // What is known and not there yet: anything but null and, if it is given, `harmless` is refused.
  void refuse_unless(std::string_view name, std::string_view why, const std::vector<Json>& harmless = {});

  std::vector<std::string> unknown() const;
  std::string path(std::string_view name) const { return path_ + std::string(name); }

 private:
  [[noreturn]] void wrong_type(std::string_view name, const Json& found, std::string_view expected) const;

  const Json& object_;
  std::string path_;
  std::vector<std::string> known_;
};

inline constexpr Range<std::int64_t> kAnyInteger{std::numeric_limits<std::int64_t>::min(),
                                                 std::numeric_limits<std::int64_t>::max()};

// The body of a request as a JSON object, not deeper and not larger than a client needs.
Json parse_body(std::string_view body);

// Token ids of an array; the vocabulary is checked by the engine.
std::vector<std::int32_t> token_ids_of(const Json::Array& array, const std::string& path);

}  // namespace cajal::protocol
