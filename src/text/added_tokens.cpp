#include "text/added_tokens.h"

#include <algorithm>

#include "text/unicode.h"

namespace cajal {
namespace {

bool is_word(std::string_view text, std::size_t at) {
  return unicode::properties_of(unicode::decode_valid(text, at).value) & unicode::kWord;
}

bool is_space(std::string_view text, std::size_t at) {
  return unicode::properties_of(unicode::decode_valid(text, at).value) & unicode::kSpace;
}

bool stands_alone(std::string_view text, std::size_t begin, std::size_t end) {
  const bool word_before = begin > 0 && is_word(text, unicode::start_of_last(text, begin));
  const bool word_after = end < text.size() && is_word(text, end);
  return !word_before && !word_after;
}

std::size_t without_spaces_before(std::string_view text, std::size_t begin, std::size_t least) {
  while (begin > least) {
    const std::size_t last = unicode::start_of_last(text, begin);
    if (!is_space(text, last)) break;
    begin = last;
  }
  return begin;
}

std::size_t without_spaces_after(std::string_view text, std::size_t end) {
  while (end < text.size() && is_space(text, end)) end += unicode::decode_valid(text, end).length;
  return end;
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::stable_sort(tokens_.begin(), tokens_.end(), [](const auto& a, const auto& b) { return a.content < b.content; });
  for (const AddedToken& token : tokens_) ++first_of_[static_cast<unsigned char>(token.content[0]) + std::size_t{1}];
  for (std::size_t byte = 0; byte < 256; ++byte) first_of_[byte + 1] += first_of_[byte];
}

// Narrows the sorted tokens to those that agree with the text, one byte at a time; the first of them is the one that has
// just ended, if any has.
const AddedToken* AddedTokenMatcher::match(std::string_view text, std::size_t at) const {
  const auto byte_at = [](std::string_view s, std::size_t i) { return static_cast<unsigned char>(s[i]); };
  const std::size_t lead = byte_at(text, at);
  auto low = tokens_.begin() + first_of_[lead], high = tokens_.begin() + first_of_[lead + 1];
  const AddedToken* longest = nullptr;
  for (std::size_t depth = 1; low != high; ++depth) {
    if (low->content.size() == depth) {
      longest = &*low;
      while (low != high && low->content.size() == depth) ++low;
    }
    if (at + depth >= text.size()) break;
    const unsigned char next = byte_at(text, at + depth);
    low = std::lower_bound(low, high, next,
                           [&](const AddedToken& t, unsigned char b) { return byte_at(t.content, depth) < b; });
    high = std::upper_bound(low, high, next,
                            [&](unsigned char b, const AddedToken& t) { return b < byte_at(t.content, depth); });
  }
  return longest;
}

void AddedTokenMatcher::split(std::string_view text, const Skip& skip, std::vector<Part>& parts) const {
  std::size_t done = 0, run_begin = 0, run_end = 0;
  auto plain = skip.plain.begin();
  for (std::size_t at = 0; at < text.size();) {
    while (plain != skip.plain.end() && plain->end <= skip.offset + at) ++plain;
    std::string_view open = text;  // up to what must stay plain
    if (plain != skip.plain.end()) {
      if (plain->begin <= skip.offset + at) {
        at = std::min(plain->end - skip.offset, text.size());
        continue;
      }
      open = text.substr(0, plain->begin - skip.offset);
    }
    const std::size_t lead = static_cast<unsigned char>(text[at]);
    const AddedToken* token = first_of_[lead] == first_of_[lead + 1] ? nullptr : match(open, at);
    if (!token) {
      ++at;
      continue;
    }
    std::size_t begin = at, end = at + token->content.size();
    at = end;
    if (token->special && skip.special) continue;
    if (token->single_word && !stands_alone(text, begin, end)) continue;
    if (token->lstrip) begin = std::max(without_spaces_before(text, begin, done), done);
    if (token->rstrip) {
      // A run of spaces is walked once, also if tokens are found inside it.
      if (end < run_begin || end > run_end) run_begin = end, run_end = without_spaces_after(text, end);
      end = run_end;
    }
    // Inside what the token before it stripped, a token counts, unless stripping leaves nothing of it.
    if (begin > end) continue;
    if (done < begin) parts.push_back({text.substr(done, begin - done), nullptr});
    if (begin < end) parts.push_back({text.substr(begin, end - begin), token});
    done = end;
  }
  if (done < text.size()) parts.push_back({text.substr(done), nullptr});
}

}  // namespace cajal
