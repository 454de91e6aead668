#pragma once
// Stop strings in streamed text, also where they cross the borders of tokens.
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cajal {

// Text goes in as it is detokenised; what can be no part of a stop string comes out at once. The stop string that is
// complete first ends the text, and is not part of it; of several that are complete with the same character, the longest.
class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> stop);  // empty strings are an Error(invalid_argument)

  std::string push(std::string_view text);  // the text that is now certain
  std::string flush();                      // what was held back, when no more text comes
  bool stopped() const { return stopped_by_.has_value(); }
  // The one that has ended the text, or "".
  std::string_view stopped_by() const {
    return stopped_by_ ? std::string_view(stop_[*stopped_by_]) : std::string_view();
  }

 private:
  std::vector<std::string> stop_;
  std::string held_;                       // the longest end of the text that a stop string begins with
  std::optional<std::size_t> stopped_by_;  // an index of stop_
};

}  // namespace cajal
