#include "text/jinja/case.h"

#include <algorithm>

#include "base/utf8.h"
#include "text/jinja/case_tables.h"
#include "text/unicode.h"

namespace cajal::jinja {
namespace {

namespace tables = case_tables;

bool is_in(std::span<const tables::Range> ranges, char32_t c) {
  const auto it = std::upper_bound(ranges.begin(), ranges.end(), c, [](char32_t v, auto& r) { return v <= r.last; });
  return it != ranges.end() && it->first <= c && (c - it->first) % it->stride == 0;
}

void append_mapped(std::string& out, char32_t c, std::span<const tables::Mapping> one,
                   std::span<const tables::Several> several) {
  const auto it = std::upper_bound(one.begin(), one.end(), c, [](char32_t v, auto& m) { return v <= m.last; });
  if (it != one.end() && it->first <= c && (c - it->first) % it->stride == 0)
    return append_utf8(out, static_cast<char32_t>(static_cast<std::int64_t>(c) + it->delta));
  const auto many = std::lower_bound(several.begin(), several.end(), c, [](auto& s, char32_t v) { return s.from < v; });
  if (many == several.end() || many->from != c) return append_utf8(out, c);
  for (const char32_t* to = many->to; *to; ++to) append_utf8(out, *to);
}

}  // namespace

bool is_printable(char32_t c) { return c < 0x7f ? c >= 0x20 : !is_in(tables::unprintable(), c); }

bool is_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x1f);
  return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
         c == 0x202f || c == 0x205f || c == 0x3000;
}

bool is_alpha(char32_t c) { return unicode::properties_of(c) & unicode::kLetter; }
bool is_decimal(char32_t c) { return is_in(tables::decimals(), c); }
int decimal_value(char32_t c) {  // decimals stand in tens, from zero to nine
  const auto ranges = tables::decimals();
  const auto it = std::upper_bound(ranges.begin(), ranges.end(), c, [](char32_t v, auto& r) { return v <= r.last; });
  return static_cast<int>((c - it->first) % 10);
}
bool is_numeric(char32_t c) { return unicode::properties_of(c) & unicode::kNumber; }
bool is_lower(char32_t c) { return is_in(tables::lowers(), c); }
bool is_upper(char32_t c) { return is_in(tables::uppers(), c); }
bool is_title(char32_t c) { return is_in(tables::titles(), c); }
bool is_identifier_start(char32_t c) { return c == '_' || is_alpha(c); }
bool is_identifier_part(char32_t c) { return unicode::properties_of(c) & unicode::kWord; }

void append_upper(std::string& out, char32_t c) {
  if (c < 0x80)
    out += static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
  else
    append_mapped(out, c, tables::upper(), tables::upper_several());
}
void append_lower(std::string& out, char32_t c) {
  if (c < 0x80)
    out += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  else
    append_mapped(out, c, tables::lower(), tables::lower_several());
}
void append_title(std::string& out, char32_t c) { append_mapped(out, c, tables::title(), tables::title_several()); }

}  // namespace cajal::jinja
