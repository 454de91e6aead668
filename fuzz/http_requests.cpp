// Any bytes, cut anywhere: the parser reads the same requests as from the bytes in one piece, and refuses the same ones.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "http/request_parser.h"

namespace {

using cajal::http::RequestParser;

const cajal::http::RequestLimits kLimits{.head_bytes = 1024, .num_headers = 16, .body_bytes = 4096};

// All that a connection would see of these bytes, in words.
struct Seen {
  std::string requests;
  bool refused = false;
};

Seen read_all(std::string_view bytes, std::size_t piece) {
  RequestParser parser(kLimits);
  Seen seen;
  for (std::size_t at = 0; at < bytes.size() && parser.state() != RequestParser::State::failed; at += piece) {
    parser.push(bytes.substr(at, piece));
    while (parser.state() == RequestParser::State::complete) {
      const cajal::http::Request request = parser.take();
      CAJAL_CHECK(request.body.size() <= kLimits.body_bytes && request.headers.size() <= kLimits.num_headers);
      CAJAL_CHECK(request.path.starts_with('/') || request.path == "*");
      seen.requests += request.method + " " + request.path + "?" + request.query + " " + request.version + "\n";
      for (const auto& [name, value] : request.headers) seen.requests += name + ": " + value + "\n";
      seen.requests += request.body + "\n";
      parser.push("");
    }
  }
  seen.refused = parser.state() == RequestParser::State::failed;
  return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::size_t piece = data[0] + 1u;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const Seen whole = read_all(bytes, bytes.size() + 1), cut = read_all(bytes, piece);
  // That a head is none, or too long, may show earlier in one way than in the other; then one has read no more.
  const bool same = whole.refused || cut.refused
                        ? whole.requests.starts_with(cut.requests) || cut.requests.starts_with(whole.requests)
                        : whole.requests == cut.requests;
  CAJAL_CHECK(same, whole.requests, "---\n", cut.requests);
  return 0;
}
