#pragma once
// Where a server is: "https://example.com:8443/base".
#include <cstdint>
#include <string>
#include <string_view>

namespace cajal::http {

struct Url {
  bool tls = false;
  std::string host;  // an IPv6 address without its brackets
  std::uint16_t port = 80;
  std::string path;  // what goes in front of every path: empty, or begins with '/' and does not end with it

  std::string authority() const;  // of a Host header: "localhost:8000"
};

// Error(invalid_argument) says what is no http:// or https:// address about it.
Url parse_url(std::string_view text);

}  // namespace cajal::http
