#include "protocol/json_scanner.h"

namespace cajal::protocol {
namespace {

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

}  // namespace

bool JsonScanner::push(char c) {
  if (state_ != State::bad) state_ = next(c);
  return state_ != State::bad;
}

JsonScanner::State JsonScanner::next(char c) {
  switch (state_) {
    case State::string:
    case State::escape:
    case State::unicode: return in_string(c);
    case State::minus:
    case State::zero:
    case State::integer:
    case State::point:
    case State::fraction:
    case State::exponent:
    case State::exponent_sign:
    case State::exponent_digits: return in_number(c);
    case State::literal:
      if (c != *literal_) return State::bad;
      return *++literal_ ? State::literal : State::after_value;
    default: break;
  }
  if (is_space(c)) return state_;
  switch (state_) {
    case State::begin: return c == '{' ? begin_value(c) : State::bad;
    case State::key_or_end:
      if (c == '}') return close(c);
      [[fallthrough]];
    case State::key: is_key_ = true; return c == '"' ? State::string : State::bad;
    case State::colon: return c == ':' ? State::value : State::bad;
    case State::value_or_end:
      if (c == ']') return close(c);
      [[fallthrough]];
    case State::value: return begin_value(c);
    case State::after_value: return after_value_of(c);
    default: return State::bad;
  }
}

JsonScanner::State JsonScanner::begin_value(char c) {
  is_key_ = false;
  switch (c) {
    case '{':
    case '[':
      if (open_.size() == kMaxDepth) return State::bad;
      open_ += c;
      return c == '{' ? State::key_or_end : State::value_or_end;
    case '"': return State::string;
    case '-': return State::minus;
    case '0': return State::zero;
    case 't': literal_ = "rue"; return State::literal;
    case 'f': literal_ = "alse"; return State::literal;
    case 'n': literal_ = "ull"; return State::literal;
    default: return is_digit(c) ? State::integer : State::bad;
  }
}

JsonScanner::State JsonScanner::close(char c) {
  if (open_.empty() || (c == '}') != (open_.back() == '{')) return State::bad;
  open_.pop_back();
  return open_.empty() ? State::done : State::after_value;
}

JsonScanner::State JsonScanner::after_value_of(char c) {
  if (c == ',') return open_.back() == '{' ? State::key : State::value;
  return c == '}' || c == ']' ? close(c) : State::bad;
}

JsonScanner::State JsonScanner::in_string(char c) {
  if (state_ == State::unicode) {
    if (!is_hex(c)) return State::bad;
    return --hex_digits_ > 0 ? State::unicode : State::string;
  }
  if (state_ == State::escape) {
    hex_digits_ = 4;
    if (c == 'u') return State::unicode;
    return std::string("\"\\/bfnrt").find(c) != std::string::npos ? State::string : State::bad;
  }
  if (c == '\\') return State::escape;
  if (c == '"') return is_key_ ? State::colon : State::after_value;
  return static_cast<unsigned char>(c) < 0x20 ? State::bad : State::string;
}

JsonScanner::State JsonScanner::in_number(char c) {
  const bool digit = is_digit(c), exponent = c == 'e' || c == 'E';
  switch (state_) {
    case State::minus: return c == '0' ? State::zero : digit ? State::integer : State::bad;
    case State::point: return digit ? State::fraction : State::bad;
    case State::exponent:
      if (c == '+' || c == '-') return State::exponent_sign;
      [[fallthrough]];
    case State::exponent_sign: return digit ? State::exponent_digits : State::bad;
    case State::integer:
      if (digit) return State::integer;
      [[fallthrough]];
    case State::zero:
      if (c == '.') return State::point;
      if (exponent) return State::exponent;
      break;
    case State::fraction:
      if (digit) return State::fraction;
      if (exponent) return State::exponent;
      break;
    default:  // the digits of an exponent
      if (digit) return State::exponent_digits;
  }
  if (is_space(c)) return State::after_value;
  return after_value_of(c);
}

}  // namespace cajal::protocol
