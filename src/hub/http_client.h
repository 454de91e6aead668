#pragma once
// HTTP for downloads, over libcurl.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>

namespace cajal {

struct HttpAnswer {
  long status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string header(const std::string& name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? "" : found->second;
  }
};

struct HttpAsk {
  std::string url;
  std::string token;             // sent to the host of `url` and to no other that it may redirect to
  bool head = false;             // headers only
  bool follow = true;            // redirects
  std::uint64_t first_byte = 0;  // > 0: the rest of the content from here on
};

// One connection that is kept between requests; for one thread at a time.
class HttpClient {
 public:
  HttpClient();
  ~HttpClient();
  HttpClient(HttpClient&& other) noexcept;
  HttpClient& operator=(HttpClient&& other) = delete;

  // Hands the body of the last answer of a chain of redirects to `body`, with that answer's status and headers, as it
  // comes; false ends the transfer. Error(unavailable) with libcurl's reason if the connection fails, or brings nothing for
  // `patience`.
  using Body = std::function<bool(const HttpAnswer& so_far, std::span<const std::byte>)>;
  HttpAnswer ask(const HttpAsk& ask, const Body& body);

  std::chrono::seconds patience{30};

 private:
  void* handle_;
};

}  // namespace cajal
