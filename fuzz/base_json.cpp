// Any bytes: parsing ends in a value or an Error; it accepts what simdjson's other, independent parser accepts; and
// what is written reads back as the same value.
#include <simdjson.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "base/utf8.h"

namespace {

// Whether the tree-building parser takes the text, and whether its verdict can be held against ours.
enum class Verdict { accepts, refuses, no_opinion };

Verdict dom_verdict(std::string_view text) {
  simdjson::dom::parser parser;
  const auto error = parser.parse(simdjson::padded_string(text)).error();
  if (!error) return Verdict::accepts;
  // It knows no integers beyond 64 bits, which we read as floating-point numbers, and reads deeper than we do.
  if (error == simdjson::NUMBER_ERROR || error == simdjson::DEPTH_ERROR) return Verdict::no_opinion;
  return Verdict::refuses;
}

// An exponent of more than 18 digits, which one of simdjson's parsers reads as zero or infinity and the other refuses.
bool has_endless_exponent(std::string_view text) {
  std::size_t digits = 0;
  bool in_exponent = false;
  for (const char c : text) {
    if (c == 'e' || c == 'E') {
      in_exponent = true;
      digits = 0;
    } else if (c >= '0' && c <= '9') {
      if (in_exponent && ++digits > 18) return true;
    } else if (c != '+' && c != '-') {
      in_exponent = false;
    }
  }
  return false;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Verdict verdict = dom_verdict(text);
  cajal::Json value;
  try {
    value = cajal::parse_json(text, "input");
  } catch (const cajal::Error& e) {
    CAJAL_CHECK(e.code() == cajal::ErrorCode::data_loss);
    const bool too_deep = e.message().find("nested too deeply") != std::string::npos;
    CAJAL_CHECK(verdict != Verdict::accepts || too_deep || has_endless_exponent(text), e.what());
    return 0;
  }
  CAJAL_CHECK(verdict != Verdict::refuses, "accepted what is not JSON");
  for (const int indent : {0, 2}) {
    const std::string written = cajal::to_json(value, indent);
    CAJAL_CHECK(cajal::is_valid_utf8(written));
    CAJAL_CHECK(cajal::parse_json(written, "written") == value, written);
  }
  return 0;
}
