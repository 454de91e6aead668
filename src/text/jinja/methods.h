#pragma once
#include <span>
#include <string_view>

#include "text/jinja/runtime.h"

namespace cajal::jinja {

struct NamedMethod {
  std::string_view name;
  Method method;
};
std::span<const NamedMethod> str_methods();  // sorted by name

}  // namespace cajal::jinja
