#include "base/utf8.h"

#include <simdjson.h>

#include <algorithm>

namespace cajal {
namespace {

struct Lead {
  std::uint8_t length;                  // 0: not a leading byte
  std::uint8_t second_min, second_max;  // what the second byte may be (Unicode 15.0, table 3-7)
};

Lead lead_of(unsigned char b) {
  if (b < 0x80) return {1, 0, 0};
  if (b < 0xc2) return {0, 0, 0};
  if (b < 0xe0) return {2, 0x80, 0xbf};
  if (b == 0xe0) return {3, 0xa0, 0xbf};
  if (b == 0xed) return {3, 0x80, 0x9f};
  if (b < 0xf0) return {3, 0x80, 0xbf};
  if (b == 0xf0) return {4, 0x90, 0xbf};
  if (b < 0xf4) return {4, 0x80, 0xbf};
  if (b == 0xf4) return {4, 0x80, 0x8f};
  return {0, 0, 0};
}

// Bytes at `at` that form a well-formed beginning, and whether they are a whole code point.
struct Extent {
  std::uint8_t length;
  bool whole, cut;  // cut: the text ends before the code point does
};

Extent extent(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const Lead lead = lead_of(byte(at));
  if (lead.length == 0) return {1, false, false};
  for (std::uint8_t i = 1; i < lead.length; ++i) {
    if (at + i >= text.size()) return {i, false, true};
    const unsigned char low = i == 1 ? lead.second_min : 0x80, high = i == 1 ? lead.second_max : 0xbf;
    if (byte(at + i) < low || byte(at + i) > high) return {i, false, false};
  }
  return {lead.length, true, false};
}

}  // namespace

Utf8Step decode_utf8(std::string_view text, std::size_t at) {
  const Extent e = extent(text, at);
  if (!e.whole) return {0xfffd, e.length, false};
  const auto bits = [&](std::size_t i) {
    return static_cast<char32_t>(static_cast<unsigned char>(text[at + i]) & 0x3f);
  };
  const auto first = static_cast<char32_t>(static_cast<unsigned char>(text[at]));
  switch (e.length) {
    case 1: return {first, 1, true};
    case 2: return {(first & 0x1f) << 6 | bits(1), 2, true};
    case 3: return {(first & 0x0f) << 12 | bits(1) << 6 | bits(2), 3, true};
    default: return {(first & 0x07) << 18 | bits(1) << 12 | bits(2) << 6 | bits(3), 4, true};
  }
}

bool is_valid_utf8(std::string_view text) { return simdjson::validate_utf8(text.data(), text.size()); }

void append_utf8(std::string& out, char32_t c) {
  const auto put = [&](char32_t byte) { out += static_cast<char>(byte); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xc0 | c >> 6), put(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    put(0xe0 | c >> 12), put(0x80 | (c >> 6 & 0x3f)), put(0x80 | (c & 0x3f));
  } else {
    put(0xf0 | c >> 18), put(0x80 | (c >> 12 & 0x3f)), put(0x80 | (c >> 6 & 0x3f)), put(0x80 | (c & 0x3f));
  }
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const Extent e = extent(text, at);
    if (e.whole)
      out.append(text, at, e.length);
    else
      append_utf8(out, 0xfffd);
    at += e.length;
  }
  return out;
}

std::size_t incomplete_utf8_suffix(std::string_view text) {
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, text.size()); ++back) {
    const std::size_t at = text.size() - back;
    if ((static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) continue;
    const Extent e = extent(text, at);
    return e.cut && e.length == back ? back : 0;
  }
  return 0;
}

}  // namespace cajal
