#pragma once
// The file of --config.
#include <string>
#include <string_view>
#include <vector>

namespace cajal::cli {

struct ConfigEntry {
  std::string key;
  std::vector<std::string> values;  // several for a list; none for null
  std::string where;                // "run.yaml line 3"
};

// Reads a JSON object, or lines `key: value` or `key = value` with comments, quotes, [a, b] and lists of `- item` lines.
// Throws UsageError for anything else: what is not understood is never passed over.
std::vector<ConfigEntry> parse_config(std::string_view text, std::string_view file);

}  // namespace cajal::cli
