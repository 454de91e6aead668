// A template and its variables: "<template>\0<JSON>". Whatever they are, an answer or an Error comes soon.
#include <chrono>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "base/utf8.h"
#include "text/jinja/template.h"

using namespace cajal;

namespace {

// Variables for templates that bring none.
const Json& usual_variables() {
  static const Json variables = parse_json(
      R"({"messages": [{"role": "system", "content": "be <brief>"}, {"role": "user", "content": "żółw 漢字 {{ x }}"},
          {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1.5}}}]}],
          "tools": [{"name": "f", "parameters": {"type": "object", "required": ["a"]}}],
          "s": "a b,c", "n": 7, "f": -2.5, "l": [3, 1, 2], "d": {"a": 1, "b": [true, null]}, "t": true, "none": null})",
      "variables");
  return variables;
}

void check_spans(const jinja::Output& output) {
  CAJAL_CHECK(is_valid_utf8(output.text));
  std::size_t last = 0;
  for (const jinja::ByteSpan& span : output.user) {
    CAJAL_CHECK(span.begin < span.end && span.end <= output.text.size(), "a span outside the text");
    CAJAL_CHECK(span.begin > last || (last == 0 && span.begin == 0), "spans that touch or are out of order");
    last = span.end;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t split = input.find('\0');
  jinja::RenderOptions options;
  options.limits.steps = 200'000;
  options.limits.produced_bytes = std::uint64_t{16} << 20;
  options.limits.string_bytes = std::size_t{1} << 20;
  options.now.emplace();
  options.now->tm_year = 125;
  options.now->tm_mday = 1;
  const auto begin = std::chrono::steady_clock::now();
  try {
    const jinja::Template compiled(input.substr(0, split));
    const bool own = split != std::string_view::npos && split + 1 < input.size();
    check_spans(compiled.render(own ? parse_json(input.substr(split + 1), "variables") : usual_variables(), options));
  } catch (const Error&) {
  }
  // Far more than the limits allow, also under sanitizers.
  CAJAL_CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(5), "a template took too long");
  return 0;
}
