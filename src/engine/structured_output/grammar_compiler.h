#pragma once
// Compiles what answers have to be, away from the engine's steps, within limits.
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "engine/structured_output/grammar.h"

namespace cajal {

class Tokenizer;

struct GrammarCompilerOptions {
  std::chrono::milliseconds timeout{20'000};              // of one compilation
  std::int64_t max_cache_bytes = std::int64_t{64} << 20;  // of compiled grammars that are kept; old ones go first
#ifdef __SANITIZE_THREAD__
  int num_threads = 1;  // the library is not sanitized, and how it initialises itself once is not seen
#else
  int num_threads = 2;
#endif
  std::size_t max_waiting = 64;  // compilations
};

// Whether cajal was built with what structured outputs need.
bool has_structured_outputs();

// Any thread may use it, many at once.
class GrammarCompiler {
 public:
  // For models of `vocab_size` logits. The tokenizer is not used afterwards.
  GrammarCompiler(const Tokenizer& tokenizer, std::int64_t vocab_size, std::span<const std::int32_t> eos_token_ids,
                  const GrammarCompilerOptions& options = {});
  ~GrammarCompiler();  // waits for what is being compiled

  // Waits until it is compiled; what was compiled lately is found. Throws Error: invalid_argument says what is wrong and
  // where, or which limit it is beyond; unavailable, that too many wait; unsupported, that this build has no such thing.
  std::shared_ptr<const CompiledGrammar> compile(const StructuredOutputs& what);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

class GrammarBackend;
// What compile() does when it is its turn: checks, limits and the compilation, for as long as that takes. Throws Error.
std::shared_ptr<const CompiledGrammar> compile_grammar(GrammarBackend& backend, const StructuredOutputs& what,
                                                       std::size_t vocab_size);

}  // namespace cajal
