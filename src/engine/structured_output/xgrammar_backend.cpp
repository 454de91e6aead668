#include "base/error.h"
#include "engine/structured_output/grammar_backend.h"

#ifdef CAJAL_STRUCTURED_OUTPUTS
#include <xgrammar/xgrammar.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <thread>

namespace {

// What the library has warned of since it was asked to compile something: that it passes over some of it.
thread_local std::string warning;

}  // namespace

namespace xgrammar {

// What its messages call, under its names. Errors are thrown, with their words alone. NOLINTBEGIN(readability-identifier-naming)
[[noreturn]] void LogFatalImpl(const std::string& file, int line, const std::string& message);
void LogMessageImpl(const std::string& file, int line, int level, const std::string& message);

void LogFatalImpl(const std::string& /*file*/, int /*line*/, const std::string& message) {
  throw std::runtime_error(message);
}

void LogMessageImpl(const std::string& /*file*/, int /*line*/, int /*level*/, const std::string& message) {
  if (warning.empty()) warning = message;
}
// NOLINTEND(readability-identifier-naming)

}  // namespace xgrammar

namespace cajal {
namespace {

class Matcher final : public GrammarMatcher {
 public:
  explicit Matcher(const xgrammar::CompiledGrammar& grammar)
      : info_(grammar.GetTokenizerInfo()), vocabulary_(info_.GetDecodedVocab()), matcher_(grammar) {}

  void fill_bitmask(std::span<std::int32_t> bitmask) override {
    std::int64_t shape = std::ssize(bitmask);
    DLTensor tensor{};
    tensor.data = bitmask.data();
    tensor.device = {kDLCPU, 0};
    tensor.ndim = 1;
    tensor.dtype = xgrammar::GetBitmaskDLType();
    tensor.shape = &shape;
    matcher_.FillNextTokenBitmask(&tensor);
  }
  // What the library refuses with a line on standard error is not shown to it.
  bool accept(std::int32_t token) override {
    const auto& ends = matcher_.GetStopTokenIds();
    const bool text = !vocabulary_[static_cast<std::size_t>(token)].empty();
    if (!text && std::find(ends.begin(), ends.end(), token) == ends.end()) return false;
    return !matcher_.IsTerminated() && matcher_.AcceptToken(token);
  }

  std::int64_t count_valid(std::span<const std::int32_t> tokens) override {
    int count = 0;
    for (const std::int32_t token : tokens) {
      if (!accept(token)) break;
      ++count;
    }
    if (count > 0) matcher_.Rollback(count);
    return count;
  }

 private:
  xgrammar::TokenizerInfo info_;
  const std::vector<std::string>& vocabulary_;
  xgrammar::GrammarMatcher matcher_;
};

class Grammar final : public CompiledGrammar {
 public:
  explicit Grammar(xgrammar::CompiledGrammar grammar) : grammar_(std::move(grammar)) {}
  std::unique_ptr<GrammarMatcher> matcher() const override { return std::make_unique<Matcher>(grammar_); }

 private:
  xgrammar::CompiledGrammar grammar_;
};

// Of one compilation: some of a large machine, the caller's own of a small one.
int num_threads() { return static_cast<int>(std::clamp(std::thread::hardware_concurrency() / 4, 1u, 4u)); }

class Backend final : public GrammarBackend {
 public:
  Backend(const std::vector<std::string>& vocabulary, const std::vector<std::int32_t>& eos,
          std::int64_t max_cache_bytes)
      : compiler_(
            xgrammar::TokenizerInfo(vocabulary, xgrammar::VocabType::RAW, static_cast<int>(vocabulary.size()), eos),
            num_threads(), /*cache_enabled=*/true, max_cache_bytes) {}

  std::shared_ptr<const CompiledGrammar> compile(GrammarKind kind, const std::string& text) override {
    warning.clear();
    auto result = std::make_shared<Grammar>(run(kind, text));
    if (warning.empty()) return result;
    compiler_.ClearCache();  // which would find it, and not warn again
    throw std::runtime_error(warning);
  }

 private:
  xgrammar::CompiledGrammar run(GrammarKind kind, const std::string& text) {
    switch (kind) {
      case GrammarKind::json_schema:
        return compiler_.CompileJSONSchema(text, true, std::nullopt, std::nullopt, true, kMostWhitespace);
      case GrammarKind::regex: return compiler_.CompileRegex(text);
      case GrammarKind::ebnf: return compiler_.CompileGrammar(text, "root");
      case GrammarKind::structural_tag: return compiler_.CompileStructuralTag(text);
    }
    CAJAL_CHECK(false, "a kind of grammar that there is not");
  }

  xgrammar::GrammarCompiler compiler_;
};

}  // namespace

bool has_grammar_backend() { return true; }

std::unique_ptr<GrammarBackend> make_grammar_backend(const std::vector<std::string>& vocabulary,
                                                     const std::vector<std::int32_t>& eos_token_ids,
                                                     std::int64_t max_cache_bytes) {
  return std::make_unique<Backend>(vocabulary, eos_token_ids, max_cache_bytes);
}

}  // namespace cajal

#else

namespace cajal {

bool has_grammar_backend() { return false; }

std::unique_ptr<GrammarBackend> make_grammar_backend(const std::vector<std::string>&, const std::vector<std::int32_t>&,
                                                     std::int64_t) {
  return nullptr;
}

}  // namespace cajal
#endif
