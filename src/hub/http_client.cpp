#include "hub/http_client.h"

#include <curl/curl.h>

#include <algorithm>
#include <cctype>
#include <exception>
#include <mutex>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace cajal {
namespace {

struct Transfer {
  CURL* handle;
  HttpAnswer answer;
  const HttpClient::Body* body;
  bool ended_by_caller = false;
  std::exception_ptr failure;  // of the caller: an exception must not pass through libcurl
};

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front()))) text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.remove_suffix(1);
  return text;
}

std::size_t take_header(char* data, std::size_t size, std::size_t count, void* user) {
  auto& answer = static_cast<Transfer*>(user)->answer;
  const std::string_view line(data, size * count);
  if (line.starts_with("HTTP/")) {
    answer = {};  // of a redirect's target, or after 100 Continue
    if (const std::size_t space = line.find(' '); space != std::string_view::npos && space + 3 < line.size())
      for (std::size_t i = 1; i <= 3; ++i) answer.status = answer.status * 10 + (line[space + i] - '0');
  } else if (const std::size_t colon = line.find(':'); colon != std::string_view::npos) {
    std::string name(line.substr(0, colon));
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
    answer.headers[name] = trimmed(line.substr(colon + 1));
  }
  return size * count;
}

std::size_t take_body(char* data, std::size_t size, std::size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  try {
    if ((*transfer.body)(transfer.answer, std::as_bytes(std::span(data, size * count)))) return size * count;
  } catch (...) {
    transfer.failure = std::current_exception();
  }
  transfer.ended_by_caller = true;
  return 0;
}

template <class Value>
void set(CURL* handle, CURLoption option, Value value) {
  CAJAL_CHECK(curl_easy_setopt(handle, option, value) == CURLE_OK, "curl_easy_setopt ", static_cast<int>(option));
}

}  // namespace

HttpClient::HttpClient() : handle_(nullptr) {
  static std::once_flag initialised;
  std::call_once(initialised, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
  handle_ = curl_easy_init();
  if (!handle_) fail(ErrorCode::unavailable, "libcurl cannot be used", remedy("check its installation"));
}

HttpClient::~HttpClient() {
  if (handle_) curl_easy_cleanup(handle_);
}

HttpClient::HttpClient(HttpClient&& other) noexcept
    : patience(other.patience), handle_(std::exchange(other.handle_, nullptr)) {}

HttpAnswer HttpClient::ask(const HttpAsk& ask, const Body& body) {
  CURL* handle = handle_;
  Transfer transfer{handle, {}, &body};
  curl_easy_reset(handle);  // connections stay
  set(handle, CURLOPT_URL, ask.url.c_str());
  set(handle, CURLOPT_PROTOCOLS_STR, "http,https");
  set(handle, CURLOPT_REDIR_PROTOCOLS_STR, ask.url.starts_with("https://") ? "https" : "http,https");
  set(handle, CURLOPT_FOLLOWLOCATION, ask.follow ? 1L : 0L);
  set(handle, CURLOPT_MAXREDIRS, 10L);
  set(handle, CURLOPT_NOSIGNAL, 1L);
  set(handle, CURLOPT_NOBODY, ask.head ? 1L : 0L);
  set(handle, CURLOPT_USERAGENT, "cajal/" CAJAL_VERSION);
  set(handle, CURLOPT_CONNECTTIMEOUT, static_cast<long>(patience.count()));
  set(handle, CURLOPT_LOW_SPEED_LIMIT, 1L);
  set(handle, CURLOPT_LOW_SPEED_TIME, static_cast<long>(patience.count()));
  set(handle, CURLOPT_HEADERFUNCTION, take_header);
  set(handle, CURLOPT_HEADERDATA, &transfer);
  set(handle, CURLOPT_WRITEFUNCTION, take_body);
  set(handle, CURLOPT_WRITEDATA, &transfer);
  if (!ask.token.empty()) {
    set(handle, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
    set(handle, CURLOPT_XOAUTH2_BEARER, ask.token.c_str());
  }
  // Not CURLOPT_RESUME_FROM: with it a server that knows no ranges is an error, and here its whole answer will do.
  const std::string range = std::to_string(ask.first_byte) + "-";
  if (ask.first_byte > 0) set(handle, CURLOPT_RANGE, range.c_str());
  char reason[CURL_ERROR_SIZE] = "";
  set(handle, CURLOPT_ERRORBUFFER, reason);
  const CURLcode code = curl_easy_perform(handle);
  set<char*>(handle, CURLOPT_ERRORBUFFER, nullptr);
  if (transfer.failure) std::rethrow_exception(transfer.failure);
  if (code != CURLE_OK && !transfer.ended_by_caller)
    fail(ErrorCode::unavailable, ask.url, ": ", reason[0] ? reason : curl_easy_strerror(code),
         remedy("check the network and proxies, and try again: what has come is kept"));
  return std::move(transfer.answer);
}

}  // namespace cajal
