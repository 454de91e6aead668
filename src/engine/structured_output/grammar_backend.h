#pragma once
// The library that compiles grammars, known to xgrammar_backend.cpp alone.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/structured_output/grammar.h"

namespace cajal {

constexpr int kMostWhitespace = 10;  // between two tokens of JSON, so that a weak model comes to an end

enum class GrammarKind : std::uint8_t { json_schema, regex, ebnf, structural_tag };

class GrammarBackend {
 public:
  virtual ~GrammarBackend() = default;
  // Any thread. Takes as long and as much memory as it takes: what comes here has been looked at. Throws std::exception.
  virtual std::shared_ptr<const CompiledGrammar> compile(GrammarKind kind, const std::string& text) = 0;
};

// `vocabulary`: the bytes of each token, none for those that are not text. Null where cajal was built without the library.
std::unique_ptr<GrammarBackend> make_grammar_backend(const std::vector<std::string>& vocabulary,
                                                     const std::vector<std::int32_t>& eos_token_ids,
                                                     std::int64_t max_cache_bytes);
bool has_grammar_backend();

}  // namespace cajal
