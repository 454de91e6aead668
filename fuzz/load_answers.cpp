// What a server that is measured sends, cut anywhere: the same answer as from the bytes in one piece, and never a crash.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "http/response_reader.h"
#include "load/stream_reader.h"

namespace {

using cajal::http::ResponseReader;

struct Seen {
  std::string body;
  cajal::load::RequestOutcome outcome;
  bool complete = false;
};

Seen read_all(std::string_view bytes, std::size_t piece) {
  ResponseReader reader;
  cajal::load::StreamReader stream;
  Seen seen;
  for (std::size_t at = 0; at < bytes.size() && reader.state() < ResponseReader::State::complete; at += piece) {
    std::string body;
    reader.push(bytes.substr(at, piece), body);
    if (reader.state() != ResponseReader::State::head) stream.push(body, static_cast<double>(at));
    seen.body += body;
  }
  seen.complete = reader.end_of_stream() == ResponseReader::State::complete;
  stream.finish(seen.complete ? "" : reader.failure(), seen.outcome);
  return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const Seen whole = read_all(bytes, bytes.size() + 1), cut = read_all(bytes, data[0] + 1u);
  if (whole.complete && cut.complete) {
    CAJAL_CHECK(whole.body == cut.body, whole.body, "---\n", cut.body);
    CAJAL_CHECK(whole.outcome.generated_text == cut.outcome.generated_text && whole.outcome.error == cut.outcome.error);
    CAJAL_CHECK(whole.outcome.output_tokens == cut.outcome.output_tokens);
  }
  CAJAL_CHECK(whole.outcome.latency >= whole.outcome.ttft && cut.outcome.latency >= cut.outcome.ttft);
  cajal::load::error_text(500, whole.body);
  return 0;
}
