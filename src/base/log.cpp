#include "base/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>

#include "base/json.h"

namespace cajal {
namespace {

std::atomic<bool> g_json{false};
thread_local int t_quiet = 0;

spdlog::logger& logger() {
  static const auto instance = [] {
    auto made = std::make_shared<spdlog::logger>("cajal", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%v");
    made->set_level(spdlog::level::info);
    return made;
  }();
  return *instance;
}

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::debug: return spdlog::level::debug;
    case LogLevel::info: return spdlog::level::info;
    case LogLevel::warning: return spdlog::level::warn;
    case LogLevel::error: return spdlog::level::err;
  }
  return spdlog::level::info;
}

const char* name(LogLevel level) {
  static constexpr const char* kNames[] = {"debug", "info", "warning", "error"};
  return kNames[static_cast<int>(level)];
}

}  // namespace

void set_log_level(LogLevel level) { logger().set_level(to_spdlog(level)); }
void set_log_json(bool json) { g_json = json; }

QuietThread::QuietThread() { ++t_quiet; }
QuietThread::~QuietThread() { --t_quiet; }

void log_line(LogLevel level, std::string_view message) { log_event(level, message, Json::Object{}); }

void log_event(LogLevel level, std::string_view message, const Json& fields) {
  if (t_quiet > 0) return;
  std::string line;
  if (g_json) {
    Json object;
    object.set("level", name(level));
    object.set("message", message);
    for (const auto& [key, value] : fields.as_object()) object.set(key, value);
    line = to_json(object);
  } else {
    // An ordinary remark needs no label; the rest says what it is.
    line = level == LogLevel::info ? detail::join("cajal: ", message)
                                   : detail::join("cajal: ", name(level), ": ", message);
  }
  logger().log(to_spdlog(level), line);
}

}  // namespace cajal
