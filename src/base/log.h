#pragma once
// Lines for people on stderr: "cajal: warning: …", or one JSON object a line. Results never go through here.
#include <string>
#include <string_view>

#include "base/error.h"

namespace cajal {

enum class LogLevel { debug, info, warning, error };

void set_log_level(LogLevel level);
void set_log_json(bool json);
void log_line(LogLevel level, std::string_view message);

template <class... Parts>
void log_debug(const Parts&... parts) {
  log_line(LogLevel::debug, detail::join(parts...));
}
template <class... Parts>
void log_info(const Parts&... parts) {
  log_line(LogLevel::info, detail::join(parts...));
}
template <class... Parts>
void log_warning(const Parts&... parts) {
  log_line(LogLevel::warning, detail::join(parts...));
}

}  // namespace cajal
