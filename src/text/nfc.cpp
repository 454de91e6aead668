#include "text/nfc.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/utf8.h"
#include "text/unicode.h"
#include "text/unicode_tables.h"

namespace cajal {
namespace {

namespace tables = unicode_tables;

// Hangul syllables are an arithmetic code over their letters (The Unicode Standard, section 3.12).
constexpr char32_t kSyllables = 0xac00, kLeads = 0x1100, kVowels = 0x1161, kTails = 0x11a7;  // kTails: "no tail"
constexpr char32_t kLeadCount = 19, kVowelCount = 21, kTailCount = 28,
                   kSyllableCount = kLeadCount * kVowelCount * kTailCount;

std::uint8_t combining_class(char32_t c) {
  const auto all = tables::combining_classes();
  const auto it = std::upper_bound(all.begin(), all.end(), c, [](char32_t v, const auto& r) { return v < r.first; });
  return it != all.begin() && c <= std::prev(it)->last ? std::prev(it)->combining_class : std::uint8_t{0};
}

// The single code point that two compose to, or 0.
char32_t compose(char32_t first, char32_t second) {
  if (first - kLeads < kLeadCount && second - kVowels < kVowelCount)
    return kSyllables + ((first - kLeads) * kVowelCount + (second - kVowels)) * kTailCount;
  if (first - kSyllables < kSyllableCount && (first - kSyllables) % kTailCount == 0 && second > kTails &&
      second < kTails + kTailCount)
    return first + (second - kTails);
  const auto all = tables::compositions();
  const auto it = std::lower_bound(all.begin(), all.end(), std::pair(first, second),
                                   [](const auto& c, const auto& key) { return std::pair(c.first, c.second) < key; });
  return it != all.end() && it->first == first && it->second == second ? it->composite : 0;
}

struct Unit {
  char32_t code_point;
  std::uint8_t combining_class;
};

void decompose(char32_t c, std::vector<Unit>& out) {
  if (c - kSyllables < kSyllableCount) {
    const char32_t s = c - kSyllables, tail = s % kTailCount;
    out.push_back({kLeads + s / (kVowelCount * kTailCount), 0});
    out.push_back({kVowels + s / kTailCount % kVowelCount, 0});
    if (tail != 0) out.push_back({kTails + tail, 0});
    return;
  }
  const auto all = tables::decompositions();
  const auto it =
      std::lower_bound(all.begin(), all.end(), c, [](const auto& d, char32_t v) { return d.code_point < v; });
  if (it == all.end() || it->code_point != c) {
    out.push_back({c, combining_class(c)});
    return;
  }
  for (const char32_t part : tables::decomposition_pool().subspan(it->offset, it->length))
    out.push_back({part, combining_class(part)});
}

// Each run of marks sorted by combining class; equal classes keep their order.
void reorder(std::vector<Unit>& units) {
  const auto is_starter = [](const Unit& u) { return u.combining_class == 0; };
  for (auto it = units.begin(); it != units.end();) {
    it = std::find_if_not(it, units.end(), is_starter);
    const auto end = std::find_if(it, units.end(), is_starter);
    std::stable_sort(it, end, [](const Unit& a, const Unit& b) { return a.combining_class < b.combining_class; });
    it = end;
  }
}

// Joins each code point to the last starter, unless something of its class or higher stands between them.
void recompose(std::vector<Unit>& units) {
  constexpr auto kNone = static_cast<std::size_t>(-1);
  std::size_t kept = 0, starter = kNone;
  for (const Unit u : units) {
    const bool blocked =
        starter == kNone || (kept > starter + 1 && units[kept - 1].combining_class >= u.combining_class);
    if (!blocked) {
      if (const char32_t composite = compose(units[starter].code_point, u.code_point)) {
        units[starter].code_point = composite;
        continue;
      }
    }
    if (u.combining_class == 0) starter = kept;
    units[kept++] = u;
  }
  units.resize(kept);
}

std::size_t find_careful(std::string_view text, std::size_t at) {
  const std::uint8_t* properties = unicode::properties();
  while (at < text.size()) {
    if (static_cast<unsigned char>(text[at]) < 0xcc) {  // below U+0300 everything is its own NFC
      ++at;
      continue;
    }
    const unicode::CodePoint c = unicode::decode_valid(text, at);
    if (properties[c.value] & unicode::kNfcCareful) return at;
    at += c.length;
  }
  return text.size();
}

// One past the last of the careful code points that begin at `at`.
std::size_t end_of_careful(std::string_view text, std::size_t at) {
  const std::uint8_t* properties = unicode::properties();
  while (at < text.size()) {
    const unicode::CodePoint c = unicode::decode_valid(text, at);
    if (!(properties[c.value] & unicode::kNfcCareful)) break;
    at += c.length;
  }
  return at;
}

}  // namespace

std::optional<std::string> to_nfc(std::string_view text) {
  std::size_t careful = find_careful(text, 0);
  if (careful == text.size()) return std::nullopt;

  std::string out;
  out.reserve(text.size() + text.size() / 16);
  std::vector<Unit> units;
  for (std::size_t done = 0; done < text.size(); careful = find_careful(text, done)) {
    // A careful code point may join the one before it, never one further back or the one after the run.
    const std::size_t begin = careful > done && careful < text.size() ? unicode::start_of_last(text, careful) : careful;
    out.append(text, done, begin - done);
    const std::size_t end = end_of_careful(text, careful);
    units.clear();
    for (std::size_t at = begin; at < end;) {
      const unicode::CodePoint c = unicode::decode_valid(text, at);
      decompose(c.value, units);
      at += c.length;
    }
    reorder(units);
    recompose(units);
    for (const Unit& u : units) append_utf8(out, u.code_point);
    done = end;
  }
  return out;
}

}  // namespace cajal
