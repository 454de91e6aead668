#pragma once
// Values of flags, read strictly: all of the text, within the range, or UsageError.
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "cli/flags.h"

namespace cajal::cli {

struct Range {
  double min = 0, max = std::numeric_limits<double>::max();
  bool above_min = false;  // min itself is outside
};

std::int64_t integer(const Given& given, std::int64_t min, std::int64_t max = std::numeric_limits<std::int64_t>::max());
int small_integer(const Given& given, int min, int max = std::numeric_limits<int>::max());
std::vector<int> integer_list(const Given& given, int min);  // "1,2,3"
double decimal(const Given& given, const Range& range);
bool boolean(const Given& given);  // true, false, 1, 0, yes, no, on, off
Json json_object(const Given& given);
// `given` in lower case, if it is one of `words`.
std::string one_of(const Given& given, std::initializer_list<std::string_view> words);
[[noreturn]] void not_in_this_version(const Given& given, std::string_view what_to_do);

// Token ids: separated by spaces or commas, or a JSON list. Error(data_loss) names `what` and the item that is none.
std::vector<std::int32_t> parse_token_ids(std::string_view text, std::string_view what);

}  // namespace cajal::cli
