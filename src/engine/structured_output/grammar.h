#pragma once
// What an answer has to be, and which tokens may come next for it to become that.
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace cajal {

// Exactly one of them is set; names and meanings are vLLM's.
struct StructuredOutputs {
  std::string json = {};                 // a JSON schema
  std::string regex = {};                // of the whole answer
  std::vector<std::string> choice = {};  // one of these texts
  std::string grammar = {};              // EBNF as GBNF has it, from its rule root on
  bool json_object = false;              // any JSON object
  std::string structural_tag = {};       // text with structures in it, as xgrammar writes that in JSON
  bool operator==(const StructuredOutputs&) const = default;
};

// How far one answer has come. Not for several threads at once.
class GrammarMatcher {
 public:
  virtual ~GrammarMatcher() = default;
  // Sets bit i % 32 of word i / 32 where token i may come next, and clears all others. Tokens that end an answer may come
  // where it is complete.
  virtual void fill_bitmask(std::span<std::int32_t> bitmask) = 0;
  // False, and nothing happens, if the token may not come next.
  [[nodiscard]] virtual bool accept(std::int32_t token) = 0;
  // How many of the tokens may follow one another; nothing happens.
  virtual std::int64_t count_valid(std::span<const std::int32_t> tokens) = 0;
};

// Immutable; may be used from many threads at once.
class CompiledGrammar {
 public:
  virtual ~CompiledGrammar() = default;
  virtual std::unique_ptr<GrammarMatcher> matcher() const = 0;
};

constexpr std::size_t bitmask_words(std::size_t vocab_size) { return (vocab_size + 31) / 32; }

}  // namespace cajal
