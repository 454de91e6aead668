#include "text/jinja/lexer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>

#include "base/utf8.h"
#include "text/jinja/case.h"
#include "text/jinja/failure.h"
#include "text/jinja/limits.h"
#include "text/unicode.h"

namespace cajal::jinja {
namespace {

// Line ends become "\n", and one at the end of the template is dropped.
std::string normalize_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Longer ones first, so that the first that fits is the longest.
constexpr std::array<std::string_view, 27> kOperators = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                         "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                         ">",  "<",  "=",  ".",  ":",  "|",  ",", ";", ""};

class Lexer {
 public:
  Lexer(std::string source, std::string_view what) : source_(std::move(source)), what_(what) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) read_data();
    push(TokenKind::end, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(std::string_view reason) const {
    throw TemplateError(ErrorKind::syntax, line_, what_, reason);
  }

  char peek(std::size_t ahead = 0) const { return at_ + ahead < source_.size() ? source_[at_ + ahead] : '\0'; }
  bool starts(std::string_view text, std::size_t at) const { return source_.compare(at, text.size(), text) == 0; }
  void push(TokenKind kind, std::string text) { tokens_.push_back({kind, line_, std::move(text)}); }
  std::size_t after_spaces(std::size_t at) const {
    while (at < source_.size()) {
      const auto c = unicode::decode_valid(source_, at);
      if (!is_space(c.value)) break;
      at += c.length;
    }
    return at;
  }
  // Goes on to `end` and counts the lines passed.
  void advance(std::size_t end) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(end), '\n'));
    at_line_start_ = end > at_ ? source_[end - 1] == '\n' : at_line_start_;
    at_ = end;
  }
  static bool is_sign(char c) { return c == '-' || c == '+'; }

  // The end of "%}" (or "#}") with its signs and what it strips, if that stands at `at`; else 0.
  std::size_t tag_end(std::size_t at, std::string_view close) const {
    if (at < source_.size() && is_sign(source_[at]) && starts(close, at + 1)) {
      const std::size_t end = at + 1 + close.size();
      return source_[at] == '-' ? after_spaces(end) : end;
    }
    if (!starts(close, at)) return 0;
    const std::size_t end = at + close.size();
    return end < source_.size() && source_[end] == '\n' ? end + 1 : end;
  }

  // If "{%", a sign or none, and `word` stand at `at`: where what follows the word and its spaces begins; else 0.
  std::size_t after_tag_word(std::size_t at, std::string_view word) const {
    if (!starts("{%", at)) return 0;
    at += 2;
    if (at < source_.size() && is_sign(source_[at])) ++at;
    at = after_spaces(at);
    return starts(word, at) ? after_spaces(at + word.size()) : 0;
  }

  // What of the text [begin, end) before a tag is left, given the tag's sign.
  std::size_t stripped_end(std::size_t begin, std::size_t end, char sign, bool is_variable) const {
    if (sign == '-') {
      while (end > begin) {
        const std::size_t last = unicode::start_of_last(source_, end);
        if (!is_space(unicode::decode_valid(source_, last).value)) break;
        end = last;
      }
    } else if (sign != '+' && !is_variable) {
      const std::size_t newline = std::string_view(source_).substr(begin, end - begin).rfind('\n');
      const std::size_t line = newline == std::string_view::npos ? begin : begin + newline + 1;
      if ((line > begin || at_line_start_) && line < end && after_spaces(line) >= end) return line;
    }
    return end;
  }

  void read_data() {
    std::size_t tag = source_.find('{', at_);
    while (tag != std::string::npos &&
           !(tag + 1 < source_.size() && std::string_view("{%#").find(source_[tag + 1]) != std::string_view::npos))
      tag = source_.find('{', tag + 1);
    if (tag == std::string::npos) {
      push(TokenKind::data, source_.substr(at_));
      return advance(source_.size());
    }
    const char kind = source_[tag + 1], sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    const std::size_t end = stripped_end(at_, tag, sign, kind == '{');
    if (end > at_) push(TokenKind::data, source_.substr(at_, end - at_));
    if (kind == '%' && read_raw(tag)) return;
    advance(tag + 2 + (is_sign(sign) ? 1 : 0));
    if (kind == '#') return read_comment();
    push(kind == '{' ? TokenKind::variable_begin : TokenKind::block_begin, "");
    read_tag(kind == '{');
  }

  void read_comment() {
    const std::size_t close = source_.find("#}", at_);
    if (close == std::string::npos) fail("Missing end of comment tag");
    const bool has_sign = close > at_ && is_sign(source_[close - 1]);
    advance(tag_end(has_sign ? close - 1 : close, "#}"));
  }

  bool read_raw(std::size_t tag) {
    const std::size_t word_end = after_tag_word(tag, "raw");
    if (!word_end) return false;
    if (starts("-%}", word_end))
      advance(after_spaces(word_end + 3));
    else if (starts("%}", word_end))
      advance(word_end + 2);
    else
      return false;
    for (std::size_t end = source_.find("{%", at_); end != std::string::npos; end = source_.find("{%", end + 1)) {
      const std::size_t close = after_tag_word(end, "endraw");
      const std::size_t next = close ? tag_end(close, "%}") : 0;
      if (!next) continue;
      const std::size_t text_end = stripped_end(at_, end, source_[end + 2], false);
      if (text_end > at_) push(TokenKind::data, source_.substr(at_, text_end - at_));
      advance(next);
      return true;
    }
    fail("Missing end of raw directive");
  }

  void read_tag(bool is_variable) {
    brackets_.clear();
    while (at_ < source_.size()) {
      if (brackets_.empty()) {
        std::size_t end = 0;
        if (!is_variable)
          end = tag_end(at_, "%}");
        else if (starts("-}}", at_))
          end = after_spaces(at_ + 3);
        else if (starts("}}", at_))
          end = at_ + 2;
        if (end) {
          push(is_variable ? TokenKind::variable_end : TokenKind::block_end, "");
          return advance(end);
        }
      }
      read_token();
    }
  }

  void read_token() {
    const std::size_t after = after_spaces(at_);
    if (after > at_) return advance(after);
    const auto c = unicode::decode_valid(source_, at_);
    if (c.value >= '0' && c.value <= '9') return read_number();
    if (is_identifier_start(c.value)) return read_name();
    if (c.value == '\'' || c.value == '"') return read_string(static_cast<char>(c.value));
    for (const std::string_view op : kOperators)
      if (!op.empty() && starts(op, at_)) return read_operator(op);
    fail("unexpected char '" + source_.substr(at_, c.length) + "'");
  }

  void read_name() {
    std::size_t end = at_;
    while (end < source_.size()) {
      const auto c = unicode::decode_valid(source_, end);
      if (!is_identifier_part(c.value)) break;
      end += c.length;
    }
    push(TokenKind::name, source_.substr(at_, end - at_));
    advance(end);
  }

  void read_operator(std::string_view op) {
    constexpr std::string_view kOpen = "([{", kClose = ")]}";
    if (kOpen.find(op[0]) != std::string_view::npos) {
      brackets_ += kClose[kOpen.find(op[0])];
    } else if (kClose.find(op[0]) != std::string_view::npos) {
      if (brackets_.empty()) fail("unexpected '" + std::string(op) + "'");
      if (brackets_.back() != op[0]) fail("unexpected '" + std::string(op) + "', expected '" + brackets_.back() + "'");
      brackets_.pop_back();
    }
    push(TokenKind::op, std::string(op));
    advance(at_ + op.size());
  }

  // Digits with single underscores between them, from `at`; the end, or `at` if there are none.
  std::size_t digits_from(std::size_t at, int base) const {
    std::size_t end = at;
    while (end < source_.size()) {
      const std::size_t digit = source_[end] == '_' ? end + 1 : end;
      const int v = digit < source_.size() ? hex_value(source_[digit]) : -1;
      if (v < 0 || v >= base || (end == at && digit != end)) break;
      end = digit + 1;
    }
    return end;
  }

  void read_number() {
    std::size_t end = digits_from(at_, 10);
    bool is_float = false;
    // A number after a dot is an index, as in x.0.1.
    if (at_ == 0 || source_[at_ - 1] != '.') {
      const auto after_dot = [&](std::size_t dot) { return digits_from(dot + 1, 10); };
      if (end < source_.size() && source_[end] == '.' && after_dot(end) > end + 1) {
        end = after_dot(end);
        is_float = true;
      }
      if (end < source_.size() && (source_[end] | 0x20) == 'e') {
        const std::size_t sign = end + 1 < source_.size() && is_sign(source_[end + 1]) ? 1 : 0;
        const std::size_t exponent = end + 1 + sign;
        if (digits_from(exponent, 10) > exponent) {
          end = digits_from(exponent, 10);
          is_float = true;
        }
      }
    }
    std::string digits = source_.substr(at_, end - at_);
    if (is_float) {
      std::erase(digits, '_');
      push(TokenKind::floating, digits);
      tokens_.back().floating = std::strtod(digits.c_str(), nullptr);
      return advance(end);
    }
    read_integer();
  }

  void read_integer() {
    int base = 10;
    std::size_t begin = at_, end = 0;
    if (peek() == '0') {
      const char letter = static_cast<char>(peek(1) | 0x20);
      base = letter == 'b' ? 2 : letter == 'o' ? 8 : letter == 'x' ? 16 : 1;  // without a letter only zeros may follow
      if (base > 1) begin += 2;
      const std::size_t first = base > 1 && begin < source_.size() && source_[begin] == '_' ? begin + 1 : begin;
      end = digits_from(first, base);
      if (end == first) {  // "0x" is the number 0 and a name
        base = 1;
        begin = at_;
        end = digits_from(at_, 1);
      }
    } else {
      end = digits_from(at_, 10);
    }
    std::string digits = source_.substr(begin, end - begin);
    std::erase(digits, '_');
    std::int64_t value = 0;
    if (base > 1 && std::from_chars(digits.data(), digits.data() + digits.size(), value, base).ec != std::errc{})
      fail("the integer " + digits.substr(0, 40) + " has more than 64 bits");
    push(TokenKind::integer, digits);
    tokens_.back().integer = value;
    advance(end);
  }

  void read_string(char quote) {
    std::size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) fail(std::string("unexpected char ") + (quote == '"' ? "'\"'" : "\"'\""));
    push(TokenKind::string, unescape(std::string_view(source_).substr(at_ + 1, end - at_ - 1)));
    advance(end + 1);
  }

  std::string unescape(std::string_view text) const {
    std::string out;
    for (std::size_t i = 0; i < text.size();) {
      if (text[i] != '\\') {
        out += text[i++];
        continue;
      }
      const char c = text[++i];  // a string never ends in a single backslash
      if (c >= '0' && c <= '7') {
        char32_t value = 0;
        for (int n = 0; n < 3 && i < text.size() && text[i] >= '0' && text[i] <= '7'; ++n)
          value = value * 8 + static_cast<char32_t>(text[i++] - '0');
        append_utf8(out, value);
        continue;
      }
      if (static_cast<unsigned char>(c) >=
          0x80) {  // Python turns the character into an escape, whose backslash is escaped
        const auto wide = unicode::decode_valid(text, i);
        std::array<char, 16> buffer{};
        const char* form = wide.value < 0x100 ? "\\x%02x" : wide.value < 0x10000 ? "\\u%04x" : "\\U%08x";
        std::snprintf(buffer.data(), buffer.size(), form, static_cast<unsigned>(wide.value));
        out += buffer.data();
        i += wide.length;
        continue;
      }
      ++i;
      constexpr std::string_view kPlain = "\\'\"abfnrtv", kMeaning = "\\'\"\a\b\f\n\r\t\v";
      if (const std::size_t k = kPlain.find(c); k != std::string_view::npos) {
        out += kMeaning[k];
      } else if (c == 'x' || c == 'u' || c == 'U') {
        i = unescape_hex(text, i, c, out);
      } else if (c == 'N') {
        fail("\\N{...} escapes are not known here; write the character itself");
      } else if (c != '\n') {
        out += '\\';
        out += c;
      }
    }
    return out;
  }

  std::size_t unescape_hex(std::string_view text, std::size_t i, char kind, std::string& out) const {
    const std::size_t count = kind == 'x' ? 2 : kind == 'u' ? 4 : 8;
    char32_t value = 0;
    for (std::size_t n = 0; n < count; ++n, ++i) {
      const int digit = i < text.size() ? hex_value(text[i]) : -1;
      if (digit < 0) fail(std::string("truncated \\") + kind + " escape");
      value = value * 16 + static_cast<char32_t>(digit);
    }
    if (value > 0x10ffff) fail("illegal Unicode character");
    if (value >= 0xd800 && value < 0xe000) fail("an escape names half of a surrogate pair, which is no character");
    append_utf8(out, value);
    return i;
  }

  std::string source_;
  std::string_view what_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool at_line_start_ = true;  // what was read last ended a line
  std::string brackets_;       // the closing ones that are due
  std::vector<Token> tokens_;
};

}  // namespace

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::data: return "template data / text";
    case TokenKind::variable_begin: return "begin of print statement";
    case TokenKind::variable_end: return "end of print statement";
    case TokenKind::block_begin: return "begin of statement block";
    case TokenKind::block_end: return "end of statement block";
    case TokenKind::end: return "end of template";
    case TokenKind::string: return "string";
    case TokenKind::integer: return "integer";
    case TokenKind::floating: return "float";
    default: return token.text;
  }
}

std::vector<Token> tokenize(std::string_view source, std::string_view what) {
  if (source.size() > kMaxTemplateBytes)
    throw TemplateError(ErrorKind::limit, 1, what,
                        ::cajal::detail::join(source.size(), " bytes, at most ", kMaxTemplateBytes, " are read"));
  if (!is_valid_utf8(source)) throw TemplateError(ErrorKind::syntax, 1, what, "the template is not UTF-8");
  return Lexer(normalize_newlines(source), what).run();
}

}  // namespace cajal::jinja
