#include "engine/structured_output/grammar_compiler.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "engine/structured_output/grammar_backend.h"
#include "engine/structured_output/json_schema.h"
#include "engine/structured_output/structural_tag.h"
#include "text/tokenizer.h"

namespace cajal {
namespace {

constexpr std::size_t kMaxGrammarBytes = 64 << 10, kMaxChoices = 1024;
constexpr int kMaxNesting = 64;

// What is compiled in the end.
struct GrammarText {
  GrammarKind kind;
  std::string text;
};

void check_size(const char* name, std::size_t bytes) {
  if (bytes > kMaxGrammarBytes)
    fail(ErrorCode::invalid_argument, name, " has ", bytes, " bytes, expected at most ", kMaxGrammarBytes);
}

// A literal of the grammar language.
std::string quoted(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string result = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (byte < 0x20) {
      result += std::string("\\x") + kDigits[byte >> 4] + kDigits[byte & 15];
    } else {
      result += c;
    }
  }
  return result += '"';
}

std::string choice_grammar(const std::vector<std::string>& choices) {
  if (choices.size() > kMaxChoices)
    fail(ErrorCode::invalid_argument, "choice has ", choices.size(), " texts, expected at most ", kMaxChoices);
  std::string grammar = "root ::= ";
  for (const std::string& text : choices) {
    if (text.empty()) fail(ErrorCode::invalid_argument, "choice has an empty text");
    grammar += (grammar.ends_with(' ') ? "" : " | ") + quoted(text);
    check_size("choice", grammar.size());
  }
  return grammar;
}

GrammarText text_of(const StructuredOutputs& what) {
  const int wanted = !what.json.empty() + !what.regex.empty() + !what.choice.empty() + !what.grammar.empty() +
                     what.json_object + !what.structural_tag.empty();
  if (wanted != 1)
    fail(ErrorCode::invalid_argument, "structured outputs are asked for in ", wanted,
         " ways, expected one of json, regex, choice, grammar, json_object and structural_tag");
  if (!what.json.empty()) {
    check_size("json", what.json.size());
    return {GrammarKind::json_schema, to_json(lower_json_schema(parse_json(what.json, "json")))};
  }
  if (!what.regex.empty()) {
    check_regex(what.regex);
    return {GrammarKind::regex, what.regex};
  }
  if (!what.choice.empty()) return {GrammarKind::ebnf, choice_grammar(what.choice)};
  if (!what.grammar.empty()) {
    check_ebnf(what.grammar);
    return {GrammarKind::ebnf, what.grammar};
  }
  if (what.json_object) return {GrammarKind::json_schema, R"({"type":"object","additionalProperties":true})"};
  check_size("structural_tag", what.structural_tag.size());
  return {GrammarKind::structural_tag,
          to_json(lower_structural_tag(parse_json(what.structural_tag, "structural_tag", {.max_depth = kMaxNesting})))};
}

// The words of a library's error: what stands before them is a time and a place in its source.
std::string reason_of(std::string_view message) {
  if (const std::size_t place = message.find(".cc:"); place != std::string_view::npos)
    if (const std::size_t words = message.find(": ", place); words != std::string_view::npos)
      message.remove_prefix(words + 2);
  while (!message.empty() && message.back() == '\n') message.remove_suffix(1);
  if (message.starts_with("Check failed")) return "it is too large, or uses what is not supported";
  return std::string(message);
}

// A grammar that lets no token begin is one that nothing satisfies.
void check_begins(const CompiledGrammar& grammar, std::size_t vocab_size) {
  std::vector<std::int32_t> bitmask(bitmask_words(vocab_size));
  grammar.matcher()->fill_bitmask(bitmask);
  if (std::all_of(bitmask.begin(), bitmask.end(), [](std::int32_t word) { return word == 0; }))
    fail(ErrorCode::invalid_argument, "nothing satisfies the grammar");
}

std::shared_ptr<const CompiledGrammar> compiled(GrammarBackend& backend, const GrammarText& grammar,
                                                std::size_t vocab_size) {
  try {
    auto result = backend.compile(grammar.kind, grammar.text);
    check_begins(*result, vocab_size);
    return result;
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& e) {
    fail(ErrorCode::invalid_argument, "the grammar cannot be compiled: ", reason_of(e.what()));
  }
}

}  // namespace

struct GrammarCompiler::State {
  using Result = std::shared_ptr<const CompiledGrammar>;

  GrammarCompilerOptions options;
  std::size_t vocab_size = 0;
  std::unique_ptr<GrammarBackend> backend;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::packaged_task<Result()>> tasks;
  bool closing = false;
  std::vector<std::thread> threads;

  void loop() {
    while (true) {
      std::unique_lock lock(mutex);
      changed.wait(lock, [this] { return closing || !tasks.empty(); });
      if (closing) return;
      auto task = std::move(tasks.front());
      tasks.pop_front();
      lock.unlock();
      task();
    }
  }
};

bool has_structured_outputs() { return has_grammar_backend(); }

GrammarCompiler::GrammarCompiler(const Tokenizer& tokenizer, std::int64_t vocab_size,
                                 std::span<const std::int32_t> eos_token_ids, const GrammarCompilerOptions& options)
    : state_(std::make_unique<State>()) {
  state_->options = options;
  state_->vocab_size = static_cast<std::size_t>(vocab_size);
  if (!has_grammar_backend()) return;
  // Control tokens are no text; nor are tags of thoughts, which would tear an answer apart.
  std::vector<std::string> vocabulary(state_->vocab_size);
  for (std::size_t i = 0; i < vocabulary.size(); ++i) {
    const auto id = static_cast<std::int32_t>(i);
    if (!tokenizer.is_special(id)) vocabulary[i] = tokenizer.token_bytes(id);
    if (vocabulary[i] == "<think>" || vocabulary[i] == "</think>") vocabulary[i].clear();
  }
  state_->backend =
      make_grammar_backend(vocabulary, {eos_token_ids.begin(), eos_token_ids.end()}, options.max_cache_bytes);
  for (int i = 0; i < options.num_threads; ++i) state_->threads.emplace_back([this] { state_->loop(); });
}

GrammarCompiler::~GrammarCompiler() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->closing = true;
  }
  state_->changed.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
}

std::shared_ptr<const CompiledGrammar> GrammarCompiler::compile(const StructuredOutputs& what) {
  GrammarText text = text_of(what);
  if (!state_->backend)
    fail(ErrorCode::unsupported, "structured outputs are not in this build of cajal: it was built without xgrammar",
         remedy("run make setup, which builds xgrammar, and build again"));
  std::packaged_task<State::Result()> task(
      [state = state_.get(), text = std::move(text)] { return compiled(*state->backend, text, state->vocab_size); });
  std::future<State::Result> result = task.get_future();
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->tasks.size() >= state_->options.max_waiting)
      fail(ErrorCode::unavailable, state_->tasks.size(), " grammars wait to be compiled", remedy("try again later"));
    state_->tasks.push_back(std::move(task));
  }
  state_->changed.notify_one();
  if (result.wait_for(state_->options.timeout) != std::future_status::ready)
    fail(ErrorCode::invalid_argument, "the grammar could not be compiled within ",
         state_->options.timeout.count() / 1000, " s", remedy("make it smaller, or try again when less is asked for"));
  return result.get();
}

std::shared_ptr<const CompiledGrammar> compile_grammar(GrammarBackend& backend, const StructuredOutputs& what,
                                                       std::size_t vocab_size) {
  return compiled(backend, text_of(what), vocab_size);
}

}  // namespace cajal
