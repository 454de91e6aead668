#include "engine/structured_output/json_schema.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/structured_output/json_string_pattern.h"
#include "engine/structured_output/structural_tag.h"

namespace cajal {
namespace {

using Words = std::span<const std::string_view>;

constexpr std::int64_t kMostUnrolled = 100;
constexpr std::int64_t kMostCharacters = 1'000'000, kMostItems = 100'000, kMostMultiple = 1024;
constexpr std::string_view kAnnotations[] = {"title",     "description", "default", "examples",   "example",
                                             "$comment",  "$schema",     "$id",     "deprecated", "readOnly",
                                             "writeOnly", "$defs",       "$anchor", "definitions"};
constexpr std::string_view kOfNumbers[] = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"};
constexpr std::string_view kOfStrings[] = {"minLength", "maxLength", "pattern", "format"};
constexpr std::string_view kOfArrays[] = {"items", "prefixItems", "minItems", "maxItems", "uniqueItems"};
constexpr std::string_view kOfObjects[] = {"properties",        "required",      "additionalProperties",
                                           "patternProperties", "propertyNames", "minProperties",
                                           "maxProperties"};
constexpr std::string_view kCombining[] = {"$ref", "const", "enum", "anyOf", "oneOf", "allOf"};
constexpr std::string_view kTypes[] = {"null", "boolean", "object", "array", "number", "integer", "string"};
constexpr std::string_view kFormats[] = {"email", "date", "time",     "date-time", "duration",
                                         "ipv4",  "ipv6", "hostname", "uuid",      "uri"};

bool is_one_of(std::string_view word, Words words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

template <class... Parts>
[[noreturn]] void refuse(const std::string& at, const Parts&... parts) {
  fail(ErrorCode::invalid_argument, at, ": ", parts...);
}

bool has_type(const Json& value, std::string_view type) {
  if (type == "integer")
    return value.is_int() || (value.is_double() && std::trunc(value.as_double()) == value.as_double());
  return type == "null"      ? value.is_null()
         : type == "boolean" ? value.is_bool()
         : type == "number"  ? value.is_number()
         : type == "string"  ? value.is_string()
         : type == "array"   ? value.is_array()
                             : value.is_object();
}

// One piece of a JSON pointer in the fragment of a URI.
std::string unescaped(std::string_view piece) {
  std::string result;
  for (std::size_t i = 0; i < piece.size(); ++i) {
    if (piece[i] == '%' && i + 2 < piece.size()) {
      result += static_cast<char>(std::strtol(std::string(piece.substr(i + 1, 2)).c_str(), nullptr, 16));
      i += 2;
    } else if (piece[i] == '~' && i + 1 < piece.size()) {
      result += piece[++i] == '1' ? '/' : '~';
    } else {
      result += piece[i];
    }
  }
  return result;
}

class Lowering {
 public:
  Lowering(const Json& root, bool keeps_lengths) : root_(root), keeps_lengths_(keeps_lengths) {}

  Json run() {
    Json result = lower(root_, "#");
    for (; !waiting_.empty(); waiting_.pop_front()) {
      const auto& [pointer, target] = waiting_.front();
      definitions_.emplace_back(names_.at(pointer), lower(*target, pointer));
    }
    // The definitions that a finite text satisfies: those that need no others first, then those that need these, and so on.
    std::set<std::string> finite;
    for (std::size_t before = finite.size() + 1; before != finite.size();) {
      before = finite.size();
      for (const auto& [name, definition] : definitions_)
        if (can_end(definition, finite)) finite.insert(name);
    }
    if (!can_end(result, finite)) refuse("#", "nothing finite satisfies the schema: what it requires requires itself");
    if (!definitions_.empty()) result.set("$defs", definitions_);
    return result;
  }

 private:
  Json lower(const Json& schema, const std::string& at);
  Json lower_reference(const Json& schema, const std::string& at);
  Json lower_values(const Json& schema, const std::string& at, const std::vector<std::string_view>& types);
  Json lower_choice(const Json& schema, const std::string& at, const char* keyword);
  Json lower_type(const Json& schema, const std::string& at, std::string_view type);
  Json lower_number(const Json& schema, const std::string& at, bool integer);
  Json lower_string(const Json& schema, const std::string& at);
  JsonStringPattern lower_pattern(const std::string& pattern, const std::string& at);
  Json lower_array(const Json& schema, const std::string& at);
  Json lower_object(const Json& schema, const std::string& at);
  void lower_other_properties(const Json& schema, const std::string& at, Json& result);

  void add_states(const std::string& text, std::int64_t count, const std::string& at);
  void check_keywords(const Json& schema, const std::string& at) const;
  void check_alone(const Json& schema, const std::string& at, const char* keyword) const;
  std::vector<std::string_view> types_of(const Json& schema, const std::string& at) const;
  void check_disjoint(const Json& schema, const std::string& at) const;
  std::optional<Json::Array> values_of(const Json& branch) const;
  bool are_disjoint(const Json& a, const Json& b) const;
  const Json& target_of(const std::string& pointer, const std::string& at) const;
  bool can_end(const Json& lowered, const std::set<std::string>& finite) const;

  const Json& root_;
  bool keeps_lengths_;
  std::int64_t num_states_ = 0;
  std::set<std::string> texts_;  // that are counted: equal ones are compiled once
  int num_nodes_ = 0;
  std::map<std::string, std::string> names_;  // of definitions, by pointer
  std::deque<std::pair<std::string, const Json*>> waiting_;
  Json::Object definitions_;
};

std::int64_t count_of(const Json& value, const std::string& at, std::int64_t most) {
  if (!value.is_int() || value.as_int() < 0) refuse(at, "expected a number of 0 or more");
  return std::min(value.as_int(), most);
}

void Lowering::check_keywords(const Json& schema, const std::string& at) const {
  for (const auto& [key, value] : schema.as_object()) {
    if (key == "type" || is_one_of(key, kAnnotations) || is_one_of(key, kOfNumbers) || is_one_of(key, kOfStrings) ||
        is_one_of(key, kOfArrays) || is_one_of(key, kOfObjects) || is_one_of(key, kCombining))
      continue;
    if (key == "discriminator" || key == "strict" || key.starts_with("x-"))
      continue;  // OpenAPI's, which forbid nothing
    refuse(at, "the keyword '", key, "' is not supported");
  }
}

// Beside some keywords others would be passed over.
void Lowering::check_alone(const Json& schema, const std::string& at, const char* keyword) const {
  for (const auto& [key, value] : schema.as_object())
    if (key != keyword && !is_one_of(key, kAnnotations) && key != "discriminator" &&
        !(key == "type" && (std::string_view(keyword) == "enum" || std::string_view(keyword) == "const")))
      refuse(at, "'", key, "' beside '", keyword, "' is not supported");
}

std::vector<std::string_view> Lowering::types_of(const Json& schema, const std::string& at) const {
  std::vector<std::string_view> types;
  if (const Json* type = schema.find("type")) {
    const Json::Array list = type->is_array() ? type->as_array() : Json::Array{*type};
    for (const Json& name : list) {
      const auto found =
          name.is_string() ? std::find(std::begin(kTypes), std::end(kTypes), name.as_string()) : std::end(kTypes);
      if (found == std::end(kTypes))
        refuse(at + "/type", "expected null, boolean, object, array, number, integer or string");
      types.push_back(*found);
    }
    if (types.empty()) refuse(at + "/type", "is empty");
    return types;
  }
  // Without a type a keyword says something of the values of its type alone; to be of that type is a choice that is valid.
  for (const auto& [key, value] : schema.as_object()) {
    if (is_one_of(key, kOfObjects)) return {"object"};
    if (is_one_of(key, kOfArrays)) return {"array"};
    if (is_one_of(key, kOfStrings)) return {"string"};
    if (is_one_of(key, kOfNumbers)) return {"number"};
  }
  return {};
}

Json Lowering::lower(const Json& schema, const std::string& at) {
  if (++num_nodes_ > kMaxSchemaNodes) refuse(at, "the schema has more than ", kMaxSchemaNodes, " parts");
  if (schema.is_bool() && !schema.as_bool()) refuse(at, "nothing satisfies the schema 'false'");
  if (schema.is_bool()) return Json::Object{};
  if (!schema.is_object()) refuse(at, "is ", schema.type_name(), ", expected a schema: an object or a boolean");
  check_keywords(schema, at);
  const auto has = [&](const char* key) { return schema.find(key) != nullptr; };
  if (has("$ref")) return lower_reference(schema, at);
  const std::vector<std::string_view> types = types_of(schema, at);
  if (has("const") || has("enum")) return lower_values(schema, at, types);
  for (const char* keyword : {"anyOf", "oneOf"})
    if (has(keyword)) return lower_choice(schema, at, keyword);
  if (const Json* all = schema.find("allOf")) {
    check_alone(schema, at, "allOf");
    if (!all->is_array() || all->as_array().size() != 1)
      refuse(at + "/allOf", "more than one schema is not supported — write them as one");
    return lower(all->as_array()[0], at + "/allOf/0");
  }
  if (types.empty()) return Json::Object{};
  if (types.size() == 1) return lower_type(schema, at, types[0]);
  Json::Array options;
  for (const std::string_view type : types) options.push_back(lower_type(schema, at, type));
  return Json::Object{{"anyOf", std::move(options)}};
}

const Json& Lowering::target_of(const std::string& pointer, const std::string& at) const {
  if (pointer != "#" && !pointer.starts_with("#/"))
    refuse(at + "/$ref", "'", pointer, "' is not in this schema, expected '#' or '#/$defs/…'");
  const Json* target = &root_;
  for (std::size_t begin = 2; begin <= pointer.size() && pointer.size() > 1;) {
    const std::size_t end = std::min(pointer.find('/', begin), pointer.size());
    const std::string piece = unescaped(std::string_view(pointer).substr(begin, end - begin));
    const auto index = static_cast<std::size_t>(std::strtoull(piece.c_str(), nullptr, 10));
    target = target->is_array() ? (index < target->as_array().size() ? &target->as_array()[index] : nullptr)
                                : target->find(piece);
    if (!target) refuse(at + "/$ref", "there is no '", pointer, "'");
    begin = end + 1;
  }
  return *target;
}

Json Lowering::lower_reference(const Json& schema, const std::string& at) {
  check_alone(schema, at, "$ref");
  const Json& reference = *schema.find("$ref");
  if (!reference.is_string()) refuse(at + "/$ref", "expected a string");
  const std::string& pointer = reference.as_string();
  auto found = names_.find(pointer);
  if (found == names_.end()) {
    const Json& target = target_of(pointer, at);
    found = names_.emplace(pointer, detail::join("d", names_.size())).first;
    waiting_.emplace_back(pointer, &target);
  }
  return Json::Object{{"$ref", "#/$defs/" + found->second}};
}

Json Lowering::lower_values(const Json& schema, const std::string& at, const std::vector<std::string_view>& types) {
  const bool one = schema.find("const") != nullptr;
  check_alone(schema, at, one ? "const" : "enum");
  const Json& given = *schema.find(one ? "const" : "enum");
  if (!one && !given.is_array()) refuse(at + "/enum", "expected an array");
  Json::Array values;
  for (const Json& value : one ? Json::Array{given} : given.as_array())
    if (!schema.find("type") ||
        std::any_of(types.begin(), types.end(), [&](auto type) { return has_type(value, type); }))
      values.push_back(value);
  if (values.empty()) refuse(at, "nothing satisfies the schema: no value is of the type");
  num_nodes_ += static_cast<int>(values.size());
  if (num_nodes_ > kMaxSchemaNodes) refuse(at, "the schema has more than ", kMaxSchemaNodes, " parts");
  return Json::Object{{"enum", std::move(values)}};
}

Json Lowering::lower_choice(const Json& schema, const std::string& at, const char* keyword) {
  check_alone(schema, at, keyword);
  const Json& given = *schema.find(keyword);
  const std::string path = at + "/" + keyword;
  if (!given.is_array() || given.as_array().empty()) refuse(path, "expected an array of schemas");
  if (std::string_view(keyword) == "oneOf") check_disjoint(given, path);
  Json::Array options;
  for (std::size_t i = 0; i < given.as_array().size(); ++i)
    options.push_back(lower(given.as_array()[i], detail::join(path, "/", i)));
  return Json::Object{{"anyOf", std::move(options)}};
}

// The only values that satisfy a branch of a choice, if it lists them.
std::optional<Json::Array> Lowering::values_of(const Json& branch) const {
  if (const Json* value = branch.find("const")) return Json::Array{*value};
  const Json* values = branch.find("enum");
  return values && values->is_array() ? std::optional(values->as_array()) : std::nullopt;
}

bool Lowering::are_disjoint(const Json& a, const Json& b) const {
  const auto known = [&](const Json& branch) -> const Json& {
    const Json* reference = branch.find("$ref");
    return reference && reference->is_string() ? target_of(reference->as_string(), "#") : branch;
  };
  const Json &left = known(a), &right = known(b);
  if (!left.is_object() || !right.is_object()) return false;
  const auto left_values = values_of(left), right_values = values_of(right);
  if (left_values && right_values)
    return std::none_of(left_values->begin(), left_values->end(), [&](const Json& value) {
      return std::find(right_values->begin(), right_values->end(), value) != right_values->end();
    });
  const auto left_types = types_of(left, "#"), right_types = types_of(right, "#");
  const auto of = [](const Json::Array& values, const std::vector<std::string_view>& types) {
    return std::any_of(values.begin(), values.end(), [&](const Json& v) {
      return std::any_of(types.begin(), types.end(), [&](auto type) { return has_type(v, type); });
    });
  };
  if (left_values && !right_types.empty()) return !of(*left_values, right_types);
  if (right_values && !left_types.empty()) return !of(*right_values, left_types);
  if (left_types.empty() || right_types.empty()) return false;
  const auto family = [](std::string_view type) { return type == "integer" ? std::string_view("number") : type; };
  const bool overlap = std::any_of(left_types.begin(), left_types.end(), [&](auto l) {
    return std::any_of(right_types.begin(), right_types.end(), [&](auto r) { return family(l) == family(r); });
  });
  if (!overlap) return true;
  // Objects that a required property tells apart.
  const Json *properties = left.find("properties"), *others = right.find("properties");
  if (left_types.size() != 1 || right_types.size() != 1 || !properties || !others || !properties->is_object())
    return false;
  const auto requires_it = [](const Json& schema, const std::string& name) {
    const Json* list = schema.find("required");
    return list && list->is_array() &&
           std::find(list->as_array().begin(), list->as_array().end(), Json(name)) != list->as_array().end();
  };
  return std::any_of(properties->as_object().begin(), properties->as_object().end(), [&](const auto& property) {
    const Json* other = others->find(property.first);
    if (!other || !requires_it(left, property.first) || !requires_it(right, property.first)) return false;
    return values_of(property.second) && values_of(*other) && are_disjoint(property.second, *other);
  });
}

void Lowering::check_disjoint(const Json& branches, const std::string& at) const {
  const Json::Array& list = branches.as_array();
  constexpr std::size_t kMostBranches = 64;  // every pair is looked at
  if (list.size() > kMostBranches) refuse(at, "more than ", kMostBranches, " schemas are not supported — use anyOf");
  for (std::size_t i = 0; i < list.size(); ++i)
    for (std::size_t k = 0; k < i; ++k)
      if (!are_disjoint(list[k], list[i]))
        refuse(at, "values may satisfy schemas ", k, " and ", i, ", and exactly one is not supported then — use anyOf");
}

// Of what the compiler writes out, so that a short schema cannot keep it busy for long.
void Lowering::add_states(const std::string& text, std::int64_t count, const std::string& at) {
  if (!texts_.insert(text).second) return;
  num_states_ += count;
  if (num_states_ > kMostStates)
    refuse(at, "the patterns, lengths and multiples of the schema up to here have more than ", kMostStates,
           " characters with their repetitions written out");
}

JsonStringPattern Lowering::lower_pattern(const std::string& pattern, const std::string& at) {
  with_context(at, [&] { check_regex(pattern); });
  add_states(pattern, count_states(pattern), at);
  return with_context(at, [&] { return lower_json_string_pattern(pattern); });
}

Json Lowering::lower_type(const Json& schema, const std::string& at, std::string_view type) {
  if (type == "integer" || type == "number") return lower_number(schema, at, type == "integer");
  if (type == "string") return lower_string(schema, at);
  if (type == "array") return lower_array(schema, at);
  if (type == "object") return lower_object(schema, at);
  return Json::Object{{"type", type}};
}

Json Lowering::lower_number(const Json& schema, const std::string& at, bool integer) {
  Json result = Json::Object{{"type", integer ? "integer" : "number"}};
  int bounds = 0;
  for (const std::string_view key : kOfNumbers) {
    const Json* value = schema.find(key);
    if (!value) continue;
    const std::string path = at + "/" + std::string(key);
    if (!value->is_number()) refuse(path, "expected a number");
    constexpr double kLarge = 1e15;  // digits of larger ones are not exact
    if (std::abs(value->as_double()) > kLarge) refuse(path, "expected a number of at most 15 digits");
    double bound = value->as_double();
    if (key == "multipleOf") {
      const bool whole =
          integer && has_type(*value, "integer") && bound >= 1 && bound <= static_cast<double>(kMostMultiple);
      if (!whole || bounds > 0)
        refuse(path, "supported are integers of 1..", kMostMultiple, " for type integer, without bounds");
      result.set(key, static_cast<std::int64_t>(bound));
      add_states(detail::join(bound), static_cast<std::int64_t>(bound), at);
      continue;
    }
    ++bounds;
    if (integer) {
      const bool least = key == "minimum" || key == "exclusiveMinimum";
      const bool open = key == "exclusiveMinimum" || key == "exclusiveMaximum";
      if (std::trunc(bound) != bound)
        bound = least ? std::floor(bound) + (open ? 0 : 1) : std::ceil(bound) - (open ? 0 : 1);
      result.set(key, static_cast<std::int64_t>(bound));
    } else {
      result.set(key, bound);
    }
  }
  return result;
}

Json Lowering::lower_string(const Json& schema, const std::string& at) {
  Json result = Json::Object{{"type", "string"}};
  const Json *pattern = schema.find("pattern"), *format = schema.find("format");
  const Json *least = schema.find("minLength"), *most = schema.find("maxLength");
  if ((pattern != nullptr) + (format != nullptr) + (least || most) > 1)
    refuse(at, "only one of pattern, format and minLength with maxLength is supported for a string");
  if (format) {
    if (!format->is_string() || !is_one_of(format->as_string(), kFormats))
      refuse(at + "/format",
             "supported are email, date, time, date-time, duration, ipv4, ipv6, hostname, uuid and uri");
    return result.set("format", *format), result;
  }
  if (pattern) {
    if (!pattern->is_string()) refuse(at + "/pattern", "expected a string");
    return result.set("pattern", lower_pattern(pattern->as_string(), at + "/pattern").text), result;
  }
  if (!least && !most) return result;
  const std::int64_t from = least ? count_of(*least, at + "/minLength", kMostCharacters + 1) : 0;
  const std::int64_t to = most ? count_of(*most, at + "/maxLength", kMostCharacters) : kMostCharacters;
  if (from > to) refuse(at, "nothing satisfies the schema: minLength is ", from, " and maxLength ", to);
  if (!keeps_lengths_) return result;
  // As lengths, control characters would be let through that JSON has to escape. U+FFFF, which is no character, keeps the
  // compiler from unrolling a long repetition into as many states.
  const bool unrolls = to <= kMostUnrolled;
  const std::string lengths =
      detail::join("^[^\"\\\\\\x00-\\x1f", unrolls ? "" : "\xEF\xBF\xBF", "]{", from, ",", to, "}$");
  add_states(lengths, unrolls ? to : 2 * kMostUnrolled, at);
  result.set("pattern", lengths);
  return result;
}

Json Lowering::lower_array(const Json& schema, const std::string& at) {
  Json result = Json::Object{{"type", "array"}};
  if (const Json* unique = schema.find("uniqueItems"); unique && *unique != Json(false))
    refuse(at, "the keyword 'uniqueItems' is not supported");
  std::int64_t prefix = 0;
  if (const Json* items = schema.find("prefixItems")) {
    if (!items->is_array()) refuse(at + "/prefixItems", "expected an array of schemas");
    Json::Array list;
    for (const Json& item : items->as_array()) list.push_back(lower(item, detail::join(at, "/prefixItems/", prefix++)));
    result.set("prefixItems", std::move(list));
  }
  const Json *least = schema.find("minItems"), *most = schema.find("maxItems");
  if (least) result.set("minItems", count_of(*least, at + "/minItems", kMostItems + 1));
  if (most) result.set("maxItems", count_of(*most, at + "/maxItems", kMostItems));
  const std::int64_t from = least ? result.find("minItems")->as_int() : 0;
  if (most && from > result.find("maxItems")->as_int())
    refuse(at, "nothing satisfies the schema: minItems is ", from, " and maxItems ", result.find("maxItems")->as_int());
  if (most && result.find("maxItems")->as_int() < prefix) refuse(at, "maxItems is less than there are prefixItems");
  if (const Json* items = schema.find("items")) {
    if (items->is_array()) refuse(at + "/items", "an array is not supported — use prefixItems");
    result.set("items", *items == Json(false) ? Json(false) : lower(*items, at + "/items"));
  } else if (prefix == 0 || from > prefix) {
    result.set("items", Json::Object{});
  }
  return result;
}

Json Lowering::lower_object(const Json& schema, const std::string& at) {
  Json result = Json::Object{{"type", "object"}};
  Json properties = Json::Object{};
  if (const Json* given = schema.find("properties")) {
    if (!given->is_object()) refuse(at + "/properties", "expected an object of schemas");
    for (const auto& [name, value] : given->as_object()) properties.set(name, lower(value, at + "/properties/" + name));
  }
  lower_other_properties(schema, at, result);
  const Json* others = result.find("additionalProperties");
  if (const Json* required = schema.find("required")) {
    if (!required->is_array()) refuse(at + "/required", "expected an array of names");
    for (const Json& name : required->as_array()) {
      if (!name.is_string()) refuse(at + "/required", "expected an array of names");
      if (properties.find(name.as_string())) continue;
      if (schema.find("patternProperties") || schema.find("propertyNames"))
        refuse(at + "/required", "'", name.as_string(), "' is not among the properties");
      const bool closed = schema.find("additionalProperties") && *others == Json(false);
      if (closed) refuse(at, "nothing satisfies the schema: '", name.as_string(), "' is required and no property");
      properties.set(name.as_string(), others->is_object() ? *others : Json(Json::Object{}));
    }
    if (!required->as_array().empty()) result.set("required", *required);
  }
  if (!properties.as_object().empty()) result.set("properties", properties);
  for (const char* key : {"minProperties", "maxProperties"})
    if (const Json* count = schema.find(key)) result.set(key, count_of(*count, at + "/" + key, kMostItems));
  return result;
}

void Lowering::lower_other_properties(const Json& schema, const std::string& at, Json& result) {
  const Json *properties = schema.find("properties"), *patterns = schema.find("patternProperties");
  const Json *names = schema.find("propertyNames"), *others = schema.find("additionalProperties");
  const bool any_properties = properties && properties->is_object() && !properties->as_object().empty();
  if ((patterns != nullptr) + (names != nullptr) + any_properties > 1)
    refuse(at, "only one of properties, patternProperties and propertyNames is supported");
  if (patterns) {
    if (!patterns->is_object()) refuse(at + "/patternProperties", "expected an object of schemas");
    if (others && *others != Json(false))
      refuse(at, "additionalProperties beside patternProperties is not supported but for false");
    constexpr std::size_t kMostPatterns = 64;  // every pair is looked at
    const Json::Object& all = patterns->as_object();
    if (all.size() > kMostPatterns)
      refuse(at + "/patternProperties", "more than ", kMostPatterns, " are not supported");
    Json list = Json::Object{};
    std::vector<JsonStringPattern> lowered;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const std::string path = at + "/patternProperties/" + all[i].first;
      lowered.push_back(lower_pattern(all[i].first, path));
      for (std::size_t k = 0; k < i; ++k)
        if (!are_disjoint_patterns(lowered[k], lowered[i]))
          refuse(path, "a name that matches it may match '", all[k].first,
                 "' too, and one schema of each name is supported — let them begin with different characters");
      list.set(lowered[i].text, lower(all[i].second, path));
    }
    result.set("patternProperties", std::move(list));
  }
  if (names) {
    if (!names->is_object()) refuse(at + "/propertyNames", "expected a schema of strings");
    result.set("propertyNames", lower_string(*names, at + "/propertyNames"));
  }
  if (others)
    result.set("additionalProperties", others->is_bool() ? *others : lower(*others, at + "/additionalProperties"));
  else
    result.set("additionalProperties", !any_properties && !patterns);
}

// Whether a finite text satisfies it, given the definitions of which one does.
bool Lowering::can_end(const Json& schema, const std::set<std::string>& finite) const {
  const auto ends = [&](const Json& s) { return can_end(s, finite); };
  if (const Json* reference = schema.find("$ref"))
    return finite.contains(reference->as_string().substr(std::string_view("#/$defs/").size()));
  if (const Json* options = schema.find("anyOf"))
    return std::any_of(options->as_array().begin(), options->as_array().end(), ends);
  if (const Json* required = schema.find("required")) {
    const Json* properties = schema.find("properties");
    for (const Json& name : required->as_array())
      if (!ends(*properties->find(name.as_string()))) return false;
  }
  if (const Json* least = schema.find("minItems"); least && least->as_int() > 0) {
    if (const Json* prefix = schema.find("prefixItems"))
      return std::all_of(prefix->as_array().begin(), prefix->as_array().end(), ends);
    if (const Json* items = schema.find("items"); items && items->is_object()) return ends(*items);
  }
  return true;
}

}  // namespace

Json lower_json_schema(const Json& schema, bool keeps_lengths) { return Lowering(schema, keeps_lengths).run(); }

}  // namespace cajal
