#include "engine/stop_strings.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace cajal {

StopStrings::StopStrings(std::vector<std::string> stop) : stop_(std::move(stop)) {
  for (const auto& s : stop_)
    if (s.empty()) fail(ErrorCode::invalid_argument, "a stop string is empty", remedy("leave it out"));
}

std::string StopStrings::push(std::string_view text) {
  if (stopped()) return {};
  if (stop_.empty()) return std::string(text);
  const std::size_t old = held_.size();
  held_ += text;
  // The stop string that ends first; what was held back contains no whole one.
  std::size_t first_end = std::string::npos, begin = 0, which = 0;
  for (std::size_t i = 0; i < stop_.size(); ++i) {
    const std::string& s = stop_[i];
    const std::size_t from = old >= s.size() ? old - s.size() + 1 : 0;
    const std::size_t at = held_.find(s, from);
    if (at == std::string::npos) continue;
    const std::size_t end = at + s.size();
    if (end < first_end || (end == first_end && at < begin)) first_end = end, begin = at, which = i;
  }
  if (first_end != std::string::npos) {
    stopped_by_ = which;
    std::string certain = held_.substr(0, begin);
    held_.clear();
    return certain;
  }
  std::size_t hold = 0;
  for (const auto& s : stop_)
    for (std::size_t n = std::min(s.size() - 1, held_.size()); n > hold; --n)
      if (std::string_view(held_).substr(held_.size() - n) == std::string_view(s).substr(0, n)) {
        hold = n;
        break;
      }
  std::string certain = held_.substr(0, held_.size() - hold);
  held_.erase(0, held_.size() - hold);
  return certain;
}

std::string StopStrings::flush() { return std::exchange(held_, {}); }

}  // namespace cajal
