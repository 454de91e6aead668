// Any bytes: the checker, the decoder, the repairer and the law of incomplete suffixes agree with each other.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/utf8.h"

namespace {

bool every_step_is_valid(std::string_view text) {
  bool valid = true;
  std::string again;
  for (std::size_t at = 0; at < text.size();) {
    const cajal::Utf8Step step = cajal::decode_utf8(text, at);
    CAJAL_CHECK(step.length >= 1 && step.length <= 4 && step.length <= text.size() - at);
    valid = valid && step.valid;
    cajal::append_utf8(again, step.code_point);
    at += step.length;
  }
  CAJAL_CHECK(again == cajal::replace_invalid_utf8(text), "the decoder and the repairer differ");
  return valid;
}

// Whether some bytes after `text` make it valid: the few that matter are tried, so this is slow and obvious.
bool can_be_completed(std::string_view text) {
  for (const char* rest : {"\x80", "\x90\x80", "\x80\x80", "\xa0\x80", "\x80\x80\x80", "\x90\x80\x80"})
    if (cajal::is_valid_utf8(std::string(text) + rest)) return true;
  return false;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const bool valid = cajal::is_valid_utf8(text);
  CAJAL_CHECK(valid == every_step_is_valid(text));

  const std::string repaired = cajal::replace_invalid_utf8(text);
  CAJAL_CHECK(cajal::is_valid_utf8(repaired));
  CAJAL_CHECK(!valid || repaired == text, "valid text was changed");

  const std::size_t suffix = cajal::incomplete_utf8_suffix(text);
  CAJAL_CHECK(suffix <= 3 && suffix <= text.size());
  if (valid) CAJAL_CHECK(suffix == 0);
  const std::string_view head = text.substr(0, text.size() - suffix), tail = text.substr(text.size() - suffix);
  if (suffix > 0) {
    // What is held back is the beginning of one code point, and holding it back changes nothing about the rest.
    CAJAL_CHECK(!cajal::is_valid_utf8(tail) && can_be_completed(tail));
    CAJAL_CHECK(cajal::replace_invalid_utf8(head) + "\xef\xbf\xbd" == repaired);
  } else {
    for (std::size_t n = 1; n <= 3 && n <= text.size(); ++n) {
      const std::string_view end = text.substr(text.size() - n);
      CAJAL_CHECK(cajal::is_valid_utf8(end) || !can_be_completed(end), "an incomplete end was not noticed");
    }
  }
  return 0;
}
