#pragma once
// Patterns of tokenizer.json that have no scanner of their own, through PCRE2. They are written for Oniguruma; a construct
// that the two read differently is refused, such as \w and \b, which take marks for word characters in one only. What stays:
// \s has U+180E here, and classes know the characters of the Unicode version that PCRE2 was built with.
#include <functional>
#include <memory>
#include <string>
#include <string_view>

struct pcre2_real_code_8;

namespace cajal {

class Regex {
 public:
  // Error(unsupported) says what in the pattern is not understood.
  explicit Regex(std::string_view pattern);

  // Calls `found(begin, end)` for each match in valid UTF-8, left to right. An empty match right after a match is passed
  // over, as Oniguruma's iteration does. Error(unsupported) if a match takes too many steps. Thread-safe.
  void for_each_match(std::string_view text, const std::function<void(std::size_t, std::size_t)>& found) const;

 private:
  struct Free {
    void operator()(pcre2_real_code_8* code) const;
  };
  std::string pattern_;
  std::unique_ptr<pcre2_real_code_8, Free> code_;
};

}  // namespace cajal
