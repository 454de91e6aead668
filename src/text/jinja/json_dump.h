#pragma once
// Python's json.dumps.
#include <string>

#include "text/jinja/runtime.h"

namespace cajal::jinja {

struct JsonStyle {
  bool ensure_ascii = false, sort_keys = false;
  StrRef indent;  // what stands in front once a level; null: one line
  StrRef item_separator, key_separator;
};

// What JSON does not have is Failure(type).
StrRef dump_json(Runtime& rt, const Value& value, const JsonStyle& style);
Value filter_tojson(Runtime& rt, const Value& value, const Args& args);

}  // namespace cajal::jinja
