#include "http/url.h"

#include <charconv>

#include "base/error.h"

namespace cajal::http {
namespace {

[[noreturn]] void refuse(std::string_view text, std::string_view why) {
  fail(ErrorCode::invalid_argument, "'", text, "' is no address of a server: ", why,
       remedy("write it as in http://127.0.0.1:8000"));
}

std::uint16_t parse_port(std::string_view digits, std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc() || end != digits.data() + digits.size() || port == 0)
    refuse(text, "the port is no number from 1 to 65535");
  return port;
}

}  // namespace

std::string Url::authority() const {
  const std::string name = host.find(':') == std::string::npos ? host : "[" + host + "]";
  return port == (tls ? 443 : 80) ? name : name + ":" + std::to_string(port);
}

Url parse_url(std::string_view text) {
  Url url;
  std::string_view rest = text;
  if (rest.starts_with("https://"))
    url.tls = true;
  else if (!rest.starts_with("http://"))
    refuse(text, "it does not begin with http:// or https://");
  rest.remove_prefix(url.tls ? 8 : 7);
  url.port = url.tls ? 443 : 80;
  for (const char c : rest)
    if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7f || c == '?' || c == '#' || c == '@')
      refuse(text, "it may have a name, a port and a path only");
  const std::size_t slash = std::min(rest.find('/'), rest.size());
  std::string_view authority = rest.substr(0, slash);
  url.path = rest.substr(slash);
  while (url.path.ends_with('/')) url.path.pop_back();
  if (authority.starts_with('[')) {
    const std::size_t end = authority.find(']');
    if (end == std::string_view::npos) refuse(text, "a ] is missing");
    url.host = authority.substr(1, end - 1);
    authority.remove_prefix(end + 1);
    if (!authority.empty() && authority[0] != ':') refuse(text, "a port goes behind the ]");
  } else {
    url.host = authority.substr(0, authority.find(':'));
    authority.remove_prefix(url.host.size());
  }
  if (url.host.empty()) refuse(text, "it has no name");
  if (!authority.empty()) url.port = parse_port(authority.substr(1), text);
  return url;
}

}  // namespace cajal::http
