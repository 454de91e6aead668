#include "engine/structured_output/json_string_pattern.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"

namespace cajal {
namespace {

constexpr char32_t kLast = 0x10FFFF;
// What stands in a string as it is.
const CharacterSet kPlain = {{' ', '!'}, {'#', '['}, {']', 0xD7FF}, {0xE000, kLast}};
const CharacterSet kDigits = {{'0', '9'}}, kWord = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const CharacterSet kSpaces = {{'\t', '\r'}, {' ', ' '}}, kNewline = {{'\n', '\n'}};

CharacterSet complement_of(const CharacterSet& set) {
  CharacterSet result;
  char32_t next = 0;
  for (const CharacterRange& r : set) {
    if (r.first > next) result.push_back({next, r.first - 1});
    next = r.last + 1;
  }
  if (next <= kLast) result.push_back({next, kLast});
  return result;
}

CharacterSet intersection_of(const CharacterSet& a, const CharacterSet& b) {
  CharacterSet result;
  for (const CharacterRange& l : a)
    for (const CharacterRange& r : b)
      if (const CharacterRange both{std::max(l.first, r.first), std::min(l.last, r.last)}; both.first <= both.last)
        result.push_back(both);
  return result;
}

CharacterSet in_order(CharacterSet ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const CharacterRange& a, const CharacterRange& b) { return a.first < b.first; });
  CharacterSet result;
  for (const CharacterRange& r : ranges) {
    if (!result.empty() && r.first <= result.back().last + 1)
      result.back().last = std::max(result.back().last, r.last);
    else
      result.push_back(r);
  }
  return result;
}

void append_character(std::string& out, char32_t c) {
  if (c > 0x7E) {
    char digits[8];
    const auto end = std::to_chars(std::begin(digits), std::end(digits), std::uint32_t{c}, 16).ptr;
    out.append("\\u{").append(digits, end) += '}';
    return;
  }
  if (std::string_view("^$.*+?()[]{}|/-").find(static_cast<char>(c)) != std::string_view::npos) out += '\\';
  out += static_cast<char>(c);
}

// As a pattern that matches one of `set`.
void append_set(std::string& out, CharacterSet set) {
  if (set.size() == 1 && set[0].first == set[0].last) return append_character(out, set[0].first);
  // Escaped or not, the compiler may take a ^ that comes first for the mark of a complement.
  if (set[0].first == '^') {
    if (set[0].last == '^')
      set.erase(set.begin());
    else
      ++set[0].first;
    set.push_back({'^', '^'});
  }
  out += '[';
  for (const CharacterRange& r : set) {
    append_character(out, r.first);
    if (r.last == r.first) continue;
    out += '-';
    append_character(out, r.last);
  }
  out += ']';
}

template <typename... Args>
[[noreturn]] void refuse(const Args&... args) {
  fail(ErrorCode::invalid_argument, args...);
}

class PatternLowering {
 public:
  explicit PatternLowering(std::string_view pattern) : pattern_(pattern) {}

  JsonStringPattern run() {
    while (at_ < pattern_.size()) {
      const std::size_t begin = at_;
      const char c = pattern_[at_];
      if (std::string_view("^$()|*+?{}").find(c) != std::string_view::npos) {
        end_beginning(c);
        copy(1);
      } else if (c == '\\' && at_ + 1 < pattern_.size() && is_for_the_compiler(pattern_[at_ + 1])) {
        beginning_ended_ = true;
        copy(2);
      } else {
        const CharacterSet set = c == '[' ? read_class() : c == '.' ? read_dot() : in_order(read_atom());
        const CharacterSet plain = intersection_of(set, kPlain);
        if (plain.empty())
          refuse("'", pattern_.substr(begin, at_ - begin),
                 "' is not supported in the pattern of a string: JSON has to escape what it matches");
        append_set(result_.text, plain);
        if (!beginning_ended_) result_.beginning.push_back(plain);
      }
    }
    return std::move(result_);
  }

 private:
  // At an operator: what it repeats may be missing, and one of several alternatives is not known.
  void end_beginning(char op) {
    if (op == '^') return;
    const bool may_be_missing = op == '*' || op == '?' || op == '{';
    if (!beginning_ended_ && may_be_missing && !result_.beginning.empty()) result_.beginning.pop_back();
    if (op == '(') ++depth_;
    if (op == ')') --depth_;
    if (op == '|' && depth_ == 0) result_.beginning.clear();
    beginning_ended_ = true;
  }

  void copy(std::size_t n) {
    result_.text += pattern_.substr(at_, n);
    at_ += n;
  }

  // Assertions, references and properties, each of which it refuses in words of its own.
  static bool is_for_the_compiler(char escaped) {
    return std::string_view("bBpPk123456789").find(escaped) != std::string_view::npos;
  }

  CharacterSet read_dot() {
    ++at_;
    return complement_of(kNewline);
  }

  CharacterSet read_class() {
    const std::size_t begin = at_++;
    const bool negated = at_ < pattern_.size() && pattern_[at_] == '^';
    if (negated) ++at_;
    CharacterSet ranges;
    while (at_ < pattern_.size() && pattern_[at_] != ']') {
      const CharacterSet first = read_atom();
      ranges.insert(ranges.end(), first.begin(), first.end());
      const bool is_range =
          pattern_.substr(at_).starts_with('-') && at_ + 1 < pattern_.size() && pattern_[at_ + 1] != ']';
      if (!is_range || !is_single(first)) continue;
      ++at_;
      const CharacterSet last = read_atom();
      if (!is_single(last) || last[0].first < first[0].first)
        refuse("the class at byte ", begin, " of the pattern has a range that is none, '",
               pattern_.substr(begin, at_ - begin), "…'");
      ranges.push_back({first[0].first, last[0].first});
    }
    if (at_ == pattern_.size()) refuse("the pattern has a '[' without a ']' at byte ", begin);
    ++at_;
    // Others take [^] for any character, or its bracket for one of the class.
    if (ranges.empty())
      refuse("the class '", pattern_.substr(begin, at_ - begin),
             "' of the pattern names nothing, expected characters in it: ']' is '\\]' there");
    return negated ? complement_of(in_order(std::move(ranges))) : in_order(std::move(ranges));
  }

  static bool is_single(const CharacterSet& set) { return set.size() == 1 && set[0].first == set[0].last; }

  // A character, or those that an escape names.
  CharacterSet read_atom() {
    if (pattern_[at_] == '\\') return read_escape();
    const Utf8Step step = decode_utf8(pattern_, at_);
    at_ += step.length;
    return {{step.code_point, step.code_point}};
  }

  CharacterSet read_escape() {
    if (at_ + 1 == pattern_.size()) refuse("the pattern ends with a backslash");
    const char c = pattern_[at_ + 1];
    at_ += 2;
    const auto one = [](char32_t code_point) { return CharacterSet{{code_point, code_point}}; };
    switch (c) {
      case 'd': return kDigits;
      case 'D': return complement_of(kDigits);
      case 'w': return kWord;
      case 'W': return complement_of(kWord);
      case 's': return kSpaces;
      case 'S': return complement_of(kSpaces);
      case 'n': return one('\n');
      case 'r': return one('\r');
      case 't': return one('\t');
      case 'f': return one('\f');
      case 'v': return one('\v');
      case 'b': return one('\b');
      case '0': return one(0);
      case 'x': return one(read_hexadecimal(2, 2));
      case 'u': return one(read_code_point());
      case 'c': {
        const char letter = at_ < pattern_.size() ? pattern_[at_++] : '\0';
        if ((letter | 0x20) < 'a' || (letter | 0x20) > 'z') refuse("the pattern has '\\c' without a letter after it");
        return one(static_cast<char32_t>(letter & 31));
      }
      default: break;
    }
    if (c != '_' && !intersection_of(one(static_cast<unsigned char>(c)), kWord).empty())
      refuse("the escape '\\", c, "' of the pattern is not supported");
    --at_;
    const Utf8Step step = decode_utf8(pattern_, at_);
    at_ += step.length;
    return one(step.code_point);
  }

  // After \u: four digits, twice for a pair of surrogates, or up to six in braces.
  char32_t read_code_point() {
    if (!pattern_.substr(at_).starts_with('{')) {
      const char32_t first = read_hexadecimal(4, 4);
      if (first < 0xD800 || first > 0xDBFF || !pattern_.substr(at_).starts_with("\\u")) return first;
      at_ += 2;
      const char32_t second = read_hexadecimal(4, 4);
      if (second < 0xDC00 || second > 0xDFFF) refuse("the pattern has half a pair of surrogates before byte ", at_);
      return 0x10000 + (first - 0xD800) * 0x400 + (second - 0xDC00);
    }
    ++at_;
    const char32_t result = read_hexadecimal(1, 6);
    if (!pattern_.substr(at_).starts_with('}') || result > kLast)
      refuse("the pattern has '\\u{' without a code point and '}' after it");
    ++at_;
    return result;
  }

  char32_t read_hexadecimal(std::size_t least_digits, std::size_t most_digits) {
    const std::string_view rest = pattern_.substr(at_, most_digits);
    std::uint32_t value = 0;
    const std::size_t n =
        static_cast<std::size_t>(std::from_chars(rest.data(), rest.data() + rest.size(), value, 16).ptr - rest.data());
    at_ += n;
    if (n < least_digits)
      refuse("the pattern has an escape at byte ", at_, " with ", n, " hexadecimal digits, expected ", least_digits);
    return value;
  }

  std::string_view pattern_;
  std::size_t at_ = 0;
  JsonStringPattern result_;
  bool beginning_ended_ = false;
  int depth_ = 0;
};

}  // namespace

JsonStringPattern lower_json_string_pattern(std::string_view pattern) { return PatternLowering(pattern).run(); }

bool are_disjoint_patterns(const JsonStringPattern& a, const JsonStringPattern& b) {
  const std::size_t both = std::min(a.beginning.size(), b.beginning.size());
  for (std::size_t i = 0; i < both; ++i)
    if (intersection_of(a.beginning[i], b.beginning[i]).empty()) return true;
  return false;
}

}  // namespace cajal
