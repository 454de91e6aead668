// Any body: reading it ends in a request whose values are in their ranges, or in a RequestError with a message.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "protocol/chat_request.h"
#include "protocol/completion_request.h"
#include "protocol/messages_request.h"
#include "protocol/responses_request.h"

namespace {

using namespace cajal::protocol;

void check(const SamplingFields& s) {
  CAJAL_CHECK(s.n >= 1 && s.n <= kMaxAnswers);
  CAJAL_CHECK(!s.temperature || *s.temperature >= 0);
  CAJAL_CHECK(!s.top_p || (*s.top_p > 0 && *s.top_p <= 1));
  CAJAL_CHECK(!s.max_tokens || *s.max_tokens >= 0);
  for (const auto& stop : s.stop) CAJAL_CHECK(!stop.empty());
}

// What a template goes through.
void check(const ChatRequest& request) {
  check(request.sampling);
  for (const cajal::Json& message : request.variables.find("messages")->as_array()) {
    CAJAL_CHECK(message.find("role")->is_string() && message.find("content")->is_string());
  }
  for (const cajal::Json& tool : request.tools) CAJAL_CHECK(tool.find("function")->find("name")->is_string());
}
void check(const CompletionRequest& request) { check(request.sampling); }
void check(const ResponsesRequest& request) { check(request.chat); }
void check(const MessagesRequest& request) { check(request.chat); }

template <class Read>
void read(Read&& read_request, const cajal::Json& body) {
  try {
    check(read_request(body));
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
  read(read_responses_request, body);
  read([](const cajal::Json& json) { return read_messages_request(json); }, body);
  return 0;
}
