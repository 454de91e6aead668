#pragma once
// The tables of filters and tests.
#include <algorithm>
#include <span>

#include "text/jinja/runtime.h"

namespace cajal::jinja {

struct NamedFilter {
  std::string_view name;
  Filter filter;
};
inline Filter find_in(std::span<const NamedFilter> sorted, std::string_view name) {
  const auto it = std::lower_bound(sorted.begin(), sorted.end(), name,
                                   [](const NamedFilter& f, std::string_view n) { return f.name < n; });
  return it != sorted.end() && it->name == name ? it->filter : nullptr;
}

std::span<const NamedFilter> text_filters();      // of strings and numbers; sorted
std::span<const NamedFilter> sequence_filters();  // of lists and dictionaries; sorted

}  // namespace cajal::jinja
