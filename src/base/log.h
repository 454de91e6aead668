#pragma once
// Lines for people on stderr: "cajal: warning: …", or one JSON object a line. Results never go through here.
#include <string>
#include <string_view>

#include "base/error.h"

namespace cajal {

class Json;

enum class LogLevel { debug, info, warning, error };

void set_log_level(LogLevel level);
void set_log_json(bool json);

// While this lives the calling thread logs nothing: of several that do the same, one says what there is to say.
class QuietThread {
 public:
  QuietThread();
  ~QuietThread();
  QuietThread(const QuietThread&) = delete;
  QuietThread& operator=(const QuietThread&) = delete;
};

void log_line(LogLevel level, std::string_view message);
// A line with more than words: people read `message`, programs the members of `fields` too, which is a JSON object.
void log_event(LogLevel level, std::string_view message, const Json& fields);

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
