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
std::string read_all(std::string_view bytes, std::size_t piece) {
  RequestParser parser(kLimits);
  std::string seen;
  for (std::size_t at = 0; at < bytes.size() && parser.state() != RequestParser::State::failed; at += piece) {
    parser.push(bytes.substr(at, piece));
    while (parser.state() == RequestParser::State::complete) {
      const cajal::http::Request request = parser.take();
      CAJAL_CHECK(request.body.size() <= kLimits.body_bytes && request.headers.size() <= kLimits.num_headers);
      CAJAL_CHECK(request.path.starts_with('/') || request.path == "*");
      seen += request.method + " " + request.path + "?" + request.query + " " + request.version + "\n";
      for (const auto& [name, value] : request.headers) seen += name + ": " + value + "\n";
      seen += request.body + "\n";
      parser.push("");
    }
  }
  if (parser.state() == RequestParser::State::failed) seen += "refused";
  return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::size_t piece = data[0] + 1u;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string whole = read_all(bytes, bytes.size() + 1), cut = read_all(bytes, piece);
  // Whether a head is too long may show earlier in pieces than in one; then less was read.
  CAJAL_CHECK(whole == cut || (cut.ends_with("refused") && whole.starts_with(cut.substr(0, cut.size() - 7))), whole,
              "---\n", cut);
  return 0;
}
