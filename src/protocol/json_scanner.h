#pragma once
// Follows one JSON object character by character, so that parts of it can be used before the rest is there.
#include <cstdint>
#include <string>

namespace cajal::protocol {

class JsonScanner {
 public:
  // False if no JSON object continues like that; it stays false then.
  bool push(char c);
  bool done() const { return state_ == State::done; }

  // Of the object's own members, not of what is in them.
  bool in_key() const { return state_ == State::string && is_key_ && depth() == 1; }
  bool at_value() const { return state_ == State::value && depth() == 1; }           // the next one begins one
  bool after_value() const { return state_ == State::after_value && depth() == 1; }  // it is complete
  std::size_t depth() const { return open_.size(); }
  static constexpr std::size_t kMaxDepth = 64;

 private:
  enum class State : std::uint8_t {
    begin,
    key_or_end,
    key,
    colon,
    value,
    value_or_end,
    after_value,
    string,
    escape,
    unicode,
    minus,
    zero,
    integer,
    point,
    fraction,
    exponent,
    exponent_sign,
    exponent_digits,
    literal,
    done,
    bad,
  };
  State next(char c);
  State begin_value(char c);
  State close(char c);
  State in_string(char c);
  State in_number(char c);
  State after_value_of(char c);

  State state_ = State::begin;
  std::string open_;  // the brackets that are
  bool is_key_ = false;
  int hex_digits_ = 0;
  const char* literal_ = nullptr;  // what is left of true, false or null
};

}  // namespace cajal::protocol
