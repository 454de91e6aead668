#include "text/detokenizer.h"

#include <utility>

#include "base/utf8.h"

namespace cajal {

std::string Detokenizer::push(std::int32_t id) {
  if (skip_special_tokens_ && tokenizer_.is_special(id)) return {};
  held_ += tokenizer_.token_bytes(id);
  const std::size_t certain = held_.size() - incomplete_utf8_suffix(held_);
  std::string text = replace_invalid_utf8(std::string_view(held_).substr(0, certain));
  held_.erase(0, certain);
  return text;
}

std::string Detokenizer::flush() { return replace_invalid_utf8(std::exchange(held_, {})); }

}  // namespace cajal
