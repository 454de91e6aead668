// Any body: reading it ends in a request whose values are in their ranges, or in a RequestError with a message.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "protocol/chat_request.h"
#include "protocol/completion_request.h"

namespace {

using namespace cajal::protocol;

void check(const SamplingFields& s) {
  CAJAL_CHECK(s.n >= 1 && s.n <= kMaxAnswers);
  CAJAL_CHECK(!s.temperature || *s.temperature >= 0);
  CAJAL_CHECK(!s.top_p || (*s.top_p > 0 && *s.top_p <= 1));
  CAJAL_CHECK(!s.max_tokens || *s.max_tokens >= 0);
  for (const auto& stop : s.stop) CAJAL_CHECK(!stop.empty());
}

template <class Read>
void read(Read&& read_request, const cajal::Json& body) {
  try {
    check(read_request(body).sampling);
  } catch (const RequestError& e) {
    CAJAL_CHECK(e.body().status == 400 && !e.body().message.empty());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  cajal::Json body;
  try {
    body = parse_body({reinterpret_cast<const char*>(data), size});
  } catch (const RequestError&) {
    return 0;
  }
  read(read_chat_request, body);
  read(read_completion_request, body);
  return 0;
}
