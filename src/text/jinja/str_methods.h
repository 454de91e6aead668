#pragma once
// What methods of str and the filters of the same name share.
#include <functional>

#include "text/jinja/runtime.h"

namespace cajal::jinja {

// Maps code point by code point; `map` appends what becomes of one.
StrRef map_characters(Runtime& rt, const StrRef& text, const std::function<void(std::string&, char32_t)>& map);
StrRef upper(Runtime& rt, const StrRef& text);
StrRef lower(Runtime& rt, const StrRef& text);
StrRef capitalize(Runtime& rt, const StrRef& text);
// `chars` null: white space.
StrRef strip(Runtime& rt, const StrRef& text, const Str* chars, bool left, bool right);
StrRef replace(Runtime& rt, const StrRef& text, const Str& from, const Str& to, std::int64_t count);
StrRef join(Runtime& rt, const Str& between, const std::vector<StrRef>& parts);
std::vector<Value> split_lines(Runtime& rt, const StrRef& text, bool keep_ends);
// Whether `predicate` holds for all characters, of which there is at least one.
bool all_characters(const Str& text, bool (*predicate)(char32_t));
bool has_case(const Str& text, bool upper);  // str.isupper, str.islower
StrRef pad(Runtime& rt, const StrRef& text, std::int64_t width, const Str& fill, char align);

const Str& require_str(const Value& value, std::string_view what);

}  // namespace cajal::jinja
