#include "text/jinja/str.h"

#include <algorithm>

namespace cajal::jinja {
namespace {

std::size_t count_code_points(std::string_view text) {
  std::size_t n = 0;
  for (const char c : text) n += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  return n;
}

}  // namespace

void Meter::fail_steps() const { raise(ErrorKind::limit, "the template needs more than ", limits_.steps, " steps"); }
void Meter::fail_produced() const {
  raise(ErrorKind::limit, "the template makes more than ", limits_.produced_bytes, " bytes of values");
}
void Meter::fail_string() const { raise(ErrorKind::limit, "a string of more than ", limits_.string_bytes, " bytes"); }

bool Str::is_user(std::size_t at) const {
  const auto span = std::upper_bound(user.begin(), user.end(), at, [](std::size_t a, ByteSpan s) { return a < s.end; });
  return span != user.end() && span->begin <= at;
}

std::size_t Str::offset_of(std::size_t index) const {
  if (is_ascii()) return index;
  if (index >= length) return bytes.size();
  std::size_t at = 0;
  for (; at < bytes.size(); ++at)
    if ((static_cast<unsigned char>(bytes[at]) & 0xc0) != 0x80 && index-- == 0) break;
  return at;
}

StrRef make_str(std::string bytes, bool user) {
  auto str = std::make_shared<Str>();
  str->bytes = std::move(bytes);
  str->length = count_code_points(str->bytes);
  if (user && !str->bytes.empty()) str->user.push_back({0, str->bytes.size()});
  return str;
}

void StrBuilder::mark(std::size_t begin, std::size_t end) {
  if (begin == end) return;
  if (!str_.user.empty() && str_.user.back().end == begin)
    str_.user.back().end = end;
  else
    str_.user.push_back({begin, end});
}

void StrBuilder::add(std::string_view text, bool user) {
  meter_.produce(text.size());
  meter_.check_string(str_.bytes.size() + text.size());
  if (user) mark(str_.bytes.size(), str_.bytes.size() + text.size());
  str_.bytes += text;
}

void StrBuilder::add(const Str& text, std::size_t begin, std::size_t end) {
  const std::size_t base = str_.bytes.size();
  add(std::string_view(text.bytes).substr(begin, end - begin));
  auto span = std::upper_bound(text.user.begin(), text.user.end(), begin,
                               [](std::size_t at, ByteSpan s) { return at < s.end; });
  for (; span != text.user.end() && span->begin < end; ++span)
    mark(base + std::max(span->begin, begin) - begin, base + std::min(span->end, end) - begin);
}

Str StrBuilder::take() {
  str_.length = count_code_points(str_.bytes);
  Str result = std::move(str_);
  str_ = {};
  return result;
}

StrRef StrBuilder::finish(bool markup) {
  auto str = std::make_shared<Str>(take());
  str->markup = markup;
  return str;
}

StrRef substring(Meter& meter, const StrRef& text, std::size_t begin, std::size_t end) {
  if (begin == 0 && end == text->bytes.size()) return text;
  StrBuilder out(meter);
  out.add(*text, begin, end);
  return out.finish(text->markup);
}

}  // namespace cajal::jinja
