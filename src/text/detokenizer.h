#pragma once
// Text of tokens as they come, never half a code point.
#include <cstdint>
#include <string>

#include "text/tokenizer.h"

namespace cajal {

// For every sequence of ids, the results of push and then flush, one after another, are Tokenizer::decode of the whole.
// At most three bytes are held back, and only while more bytes could complete them: what can no longer become a code
// point is U+FFFD at once.
class Detokenizer {
 public:
  // The tokenizer must outlive this.
  explicit Detokenizer(const Tokenizer& tokenizer, bool skip_special_tokens = false)
      : tokenizer_(tokenizer), skip_special_tokens_(skip_special_tokens) {}

  // The text that has become certain with this token; may be empty.
  std::string push(std::int32_t id);
  // What was held back, at the end of a sequence; another may begin after it.
  std::string flush();

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_tokens_;
  std::string held_;  // the beginning of a code point
};

}  // namespace cajal
