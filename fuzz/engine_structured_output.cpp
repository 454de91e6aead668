// What clients send as a schema, a regular expression, a grammar, choices or a structural tag, and an answer that follows it:
// the first byte says which of them, a zero byte ends it, and what comes after chooses among the tokens that may come.
#include <cstdlib>
#include <iostream>

#include "base/error.h"
#include "base/json.h"
#include "engine/structured_output/grammar_backend.h"
#include "engine/structured_output/grammar_compiler.h"

namespace {

constexpr std::int32_t kEnd = 256;
constexpr std::size_t kVocabSize = 300;

cajal::GrammarBackend& backend() {
  static const auto made = [] {
    std::vector<std::string> vocabulary(kVocabSize);
    for (std::size_t i = 0; i < 256; ++i) vocabulary[i] = std::string(1, static_cast<char>(i));
    for (const char* token : {"\":", "{\"", "\",", "true", "null", "  ", "\n", "12", "abc", "\xC3\xA9", "<tool_call>"})
      vocabulary[257 + static_cast<std::size_t>(token[0]) % 40] = token;
    return cajal::make_grammar_backend(vocabulary, {kEnd}, 16 << 20);
  }();
  return *made;
}

cajal::StructuredOutputs structure_of(std::uint8_t kind, std::string text) {
  cajal::StructuredOutputs s;
  switch (kind % 5) {
    case 0: s.json = std::move(text); break;
    case 1: s.regex = std::move(text); break;
    case 2: s.grammar = std::move(text); break;
    case 3: s.structural_tag = std::move(text); break;
    default: s.choice = {text, "other"};
  }
  return s;
}

void die(const char* what, const std::string& text) {
  std::cerr << what << ": " << text << "\n";
  std::abort();
}

// Takes tokens as `choices` say; the answer, or nothing if it is not complete.
void write_answer(const cajal::CompiledGrammar& grammar, std::string_view choices, bool is_json) {
  const auto matcher = grammar.matcher();
  std::vector<std::int32_t> bitmask(cajal::bitmask_words(kVocabSize));
  std::string answer;
  for (std::size_t i = 0; i < choices.size() && i < 200; ++i) {
    matcher->fill_bitmask(bitmask);
    std::vector<std::int32_t> allowed;
    for (std::size_t t = 0; t < kVocabSize; ++t)
      if ((static_cast<std::uint32_t>(bitmask[t / 32]) >> (t % 32) & 1) != 0)
        allowed.push_back(static_cast<std::int32_t>(t));
    if (allowed.empty()) return;
    const std::int32_t token = allowed[static_cast<unsigned char>(choices[i]) % allowed.size()];
    if (matcher->count_valid(std::span(&token, 1)) != 1 || !matcher->accept(token))
      die("a token that may come is refused", std::to_string(token));
    if (token < 256) answer += static_cast<char>(token);
    if (token > kEnd) return;  // long ones were looked at; their text is not kept here
    if (token != kEnd) continue;
    try {
      if (is_json) cajal::parse_json(answer, "the answer", {.max_depth = 300});
    } catch (const cajal::Error& e) {
      // Bytes that are no text become U+FFFD, and numbers may be larger than any that a program knows.
      const bool allowed =
          e.message().find("UTF-8") != std::string::npos || e.message().find("number") != std::string::npos;
      if (!allowed) die(e.what(), answer);
    }
    return;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2 || !cajal::has_structured_outputs()) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data + 1), size - 1);
  const std::size_t end = std::min(input.find('\0'), input.size());
  try {
    const auto what = structure_of(data[0], std::string(input.substr(0, end)));
    const auto grammar = cajal::compile_grammar(backend(), what, kVocabSize);
    write_answer(*grammar, input.substr(std::min(end + 1, input.size())), !what.json.empty());
  } catch (const cajal::Error&) {
  }
  return 0;
}
