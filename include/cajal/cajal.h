#pragma once
// The library: values in, values out, and one object that owns the machine.
//
//   cajal::Engine engine({.model = "models/Qwen3-0.6B"});
//   std::cout << engine.generate("Once upon a time", {.max_tokens = 64}).text();
//
// Whatever fails throws cajal::Error. All text is UTF-8. Token ids are those of the model's vocabulary.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cajal/error.h"
#include "cajal/export.h"
#include "cajal/namespace.h"

CAJAL_BEGIN_NAMESPACE

CAJAL_API const char* version();  // "0.1.0"

// What the library says on stderr by itself; from `warning` on unless changed. For the whole process, from any thread.
enum class LogLevel { debug, info, warning, error };
CAJAL_API void set_log_level(LogLevel level);

// How a model is opened. Names are vLLM's.
struct EngineConfig {
  std::string model = {};            // a folder as Hugging Face has it, or a name in its cache; empty: the demo model
  std::string device = "auto";       // "auto", "cpu", "cuda" or "cuda:1"
  std::string dtype = "auto";        // "auto" (what the weights are stored in), "bfloat16" or "float32"
  std::string load_format = "auto";  // "auto", or "dummy": random weights in the shapes of config.json
  std::string hf_overrides = {};     // a JSON object whose keys replace those of config.json; or empty
  // Weights rounded while they are loaded: "none", "int8" or "int4" (embeddings and head in 8 bits), as docs/quantization.md
  // says, or "lossless": bf16 in 12 bits, with AVX512-BF16. `quantization_group_size` (32 or 128) of a row share a scale, and
  // families may have kinds of their own, as in "lm_head=int4,attention=none". An export has them as it was made, and takes
  // "none" alone or the very same.
  std::string quantization = "none";
  int quantization_group_size = 32;
  std::string quantization_overrides = {};
  int threads = 0;                 // that compute; 0: as many as the cores that this process may use
  std::int64_t max_model_len = 0;  // tokens of a prompt and its answer; 0: what the model allows and memory holds
  std::int64_t max_num_seqs = 16;  // sequences that run side by side; further ones wait
  std::int64_t max_num_batched_tokens = 512;  // tokens of one step: long prompts are read in pieces of so many
  // 0: for max_num_seqs sequences of max_model_len, at most half of free memory. An assistant's cache is part of it.
  std::uint64_t kv_cache_memory_bytes = 0;
  std::int64_t max_num_waiting = 1024;  // requests of submit() that wait for their first step
  bool enable_prefix_caching = true;    // what prompts have in common with earlier ones is not computed again
  // Guessing of tokens, at most one way: answers are the same, and come sooner where guesses are right.
  std::string assistant_model = {};           // a smaller model with the same vocabulary, as `model`; or empty
  std::int64_t num_assistant_tokens = 5;      // that it guesses at a time, 1 to 64
  std::int64_t prompt_lookup_num_tokens = 0;  // guessed from what the text said before, at most 64; 0: none
  std::string served_model_name = {};         // what metrics call the model; empty: as `model`
  std::string trace_file = {};  // what the engine does when, for ui.perfetto.dev, complete when that is gone; or empty
  std::string kv_cache_dtype = "auto";  // of keys and values: "auto" (the model's), or "int8" on a CPU
  // Ranks, which are threads: so many share every layer, and so many such groups share the experts, each at most 1024. On
  // CPUs alone; answers stay what they are. Absent: what an export was made for, else 1.
  std::optional<int> tensor_parallel_size = {}, expert_parallel_size = {};
  // Tokens of a prompt that an expert takes in a step, relative to an even share; it drops those that come later. Above 0;
  // absent: takes all, as Hugging Face computes. With it answers depend on what else runs.
  std::optional<double> capacity_factor = {};
};

// What an answer has to be; exactly one of them is given. Names and meanings are vLLM's. A thought that an answer begins with
// is free: the structure is that of what comes after </think>.
struct StructuredOutputs {
  std::string json = {};                 // a JSON schema, as JSON
  std::string regex = {};                // of the whole answer
  std::vector<std::string> choice = {};  // one of these texts
  std::string grammar = {};              // EBNF as GBNF has it, from its rule root on
  bool json_object = false;              // any JSON object
  std::string structural_tag = {};       // text with structures in it, as XGrammar writes that in JSON
};

struct LogitBias {
  std::int32_t token_id = 0;
  double bias = 0;  // added to its logit, in [-100, 100]
};

// What is absent comes from the model's generation_config.json, and then from the default that stands here. Without
// do_sample there, and without temperature, top_k, top_p and min_p here, the likeliest token is taken.
struct SamplingParams {
  int n = 1;                                    // answers to each prompt
  std::optional<std::int64_t> max_tokens = {};  // at most so many new ones; 256
  std::optional<double> temperature = {};       // divides the logits; 0 takes the likeliest token; 1
  std::optional<std::int64_t> top_k = {};       // draw from the k likeliest; 0 and -1: all
  std::optional<double> top_p = {};             // draw from the likeliest that make up this probability, in (0, 1]; 1
  std::optional<double> min_p = {};  // draw from those at least min_p times as likely as the likeliest, in [0, 1]; 0
  std::optional<double> repetition_penalty = {};  // above 0; of tokens in prompt or answer; 1
  double presence_penalty = 0;                    // taken once from the logit of each token of the answer, in [-2, 2]
  double frequency_penalty = 0;                   // as often as it stands there, in [-2, 2]
  std::optional<std::uint64_t> seed = {};         // absent: drawn, and reported in the result
  std::vector<std::string> stop = {};             // the text ends before the first of them; needs a tokenizer
  std::vector<std::int32_t> stop_token_ids = {};  // end a sequence, beside those that the model names
  bool ignore_eos = false;                        // the tokens that the model names do not end a sequence
  std::optional<int> logprobs = {};               // report each token's log-probability and those of the k likeliest
  std::int32_t priority = 0;                      // who waits: the lower, the sooner; among equals who came first
  // From the call on; what is not over by then ends with FinishReason::timeout and what it has. Absent: none.
  std::optional<std::int64_t> timeout_ms = {};
  std::string cache_salt = {};      // prompts share computed prefixes only with those of the same salt
  bool skip_special_tokens = true;  // control tokens leave no text; the ending token leaves none in any case
  std::int64_t min_tokens = 0;      // no ending token before so many, unless a structure leaves nothing else
  std::vector<LogitBias> logit_bias = {};
  std::optional<StructuredOutputs> structured_outputs = {};  // needs a tokenizer; compiled before the call returns
  std::optional<std::int64_t> thinking_token_budget = {};    // tokens of a thought; then it is made to end
  bool may_think = false;  // the answer may begin with a thought where the prompt has not begun one already
};

// Text, or token ids.
class Prompt {
 public:
  // Implicit, so that a text or a list is a prompt. NOLINTBEGIN(google-explicit-constructor)
  Prompt(std::string text) : text_(std::move(text)), is_text_(true) {}
  Prompt(std::string_view text) : Prompt(std::string(text)) {}
  Prompt(const char* text) : Prompt(std::string(text)) {}
  Prompt(std::vector<std::int32_t> token_ids) : token_ids_(std::move(token_ids)) {}
  // NOLINTEND(google-explicit-constructor)

  bool is_text() const { return is_text_; }
  const std::string& text() const { return text_; }
  const std::vector<std::int32_t>& token_ids() const { return token_ids_; }

 private:
  std::string text_;
  std::vector<std::int32_t> token_ids_;
  bool is_text_ = false;
};

struct ChatMessage {
  std::string role = {}, content = {};  // "system", "user" or "assistant", and what they say
};

// A conversation as the model was trained to read it.
struct ChatPrompt {
  std::string text = {};
  std::vector<std::int32_t> token_ids = {};
};

enum class FinishReason {
  none,     // not over yet
  stop,     // an ending token or a stop string
  length,   // max_tokens or max_model_len
  aborted,  // cancelled
  error,    // the model's numbers were not finite
  timeout,  // SamplingParams::timeout_ms
};
CAJAL_API const char* to_string(FinishReason reason);  // "stop"

// Of the model's own distribution, before temperature and penalties.
struct TokenLogprob {
  std::int32_t token_id = 0;
  double logprob = 0;  // natural logarithm
  bool operator==(const TokenLogprob&) const = default;
};

struct LogprobsOfToken {
  TokenLogprob chosen = {};
  std::vector<TokenLogprob> top = {};  // the likeliest first, as many as SamplingParams::logprobs
  bool operator==(const LogprobsOfToken&) const = default;
};

// What an answer cost. Seconds are from the call of generate() or submit() on; absent where it did not come that far.
struct RequestMetrics {
  std::int64_t cached_tokens = 0;            // of the prompt, that were found in the prefix cache
  std::optional<double> queue_seconds = {};  // until it first ran, or ended without that
  std::optional<double> ttft_seconds = {};   // until its first token
  std::optional<double> e2e_seconds = {};    // until its end
};

// What became certain since the last delta of the same sequence. A token's text may come with a later token, so pieces of
// text may be empty; put together they are Completion::text.
struct Delta {
  std::size_t prompt = 0;    // its index among the prompts
  std::size_t sequence = 0;  // which of its n answers
  std::string text = {};
  std::vector<std::int32_t> token_ids = {};
  std::vector<LogprobsOfToken> logprobs = {};       // as long as token_ids, if they were asked for
  FinishReason finish_reason = FinishReason::none;  // of the last delta of a sequence
  std::string stopped_by = {};                      // the stop string that has ended it; empty: none did
  RequestMetrics metrics = {};                      // likewise
};

struct Completion {
  std::string text = {};  // without the ending token, cut before a stop string; empty without a tokenizer
  std::vector<std::int32_t> token_ids = {};    // the ending token included
  std::vector<LogprobsOfToken> logprobs = {};  // as long as token_ids, if they were asked for
  FinishReason finish_reason = FinishReason::none;
  std::string stopped_by = {};  // the stop string that has ended it; empty: none did
  RequestMetrics metrics = {};
};

struct Usage {
  std::int64_t prompt_tokens = 0, completion_tokens = 0;
  std::int64_t total_tokens() const { return prompt_tokens + completion_tokens; }
};

struct GenerationResult {
  std::vector<std::int32_t> prompt_token_ids = {};
  std::vector<Completion> completions = {};  // as many as SamplingParams::n
  std::uint64_t seed = 0;                    // completion i drew with (seed, i)
  Usage usage = {};
  const std::string& text() const { return completions.at(0).text; }
};

// Called on the engine's own thread, while a step of the model runs: it should return before that does, and must not call
// another function of the same engine that waits (generate, score, embed, rerank) or destroy it. An exception that it
// throws ends its request and no other: it is not called again, and generate() throws that exception.
using OnDelta = std::function<void(const Delta&)>;

// Ends what it was given to, from any thread, within a step. Copies are one and the same; never un-cancelled.
class CAJAL_API Cancellation {
 public:
  Cancellation();
  void cancel() noexcept;
  bool cancelled() const noexcept;

 private:
  friend class Engine;
  std::shared_ptr<struct CancellationState> state_;
};

struct GenerateOptions {
  OnDelta on_delta = {};  // may be empty
  // Sequences that it meets unfinished end as aborted, with what they have.
  std::optional<Cancellation> cancellation = {};
};

struct ScoreOptions {
  int top_logprobs = 0;  // of each position the k likeliest tokens
};

struct ScoreResult {
  std::vector<std::int32_t> token_ids = {};
  std::vector<double> logprobs = {};                         // [T - 1]: of tokens 1 … T - 1, natural logarithms
  std::vector<std::vector<TokenLogprob>> top_logprobs = {};  // [T - 1], if they were asked for
  double perplexity = 1;  // exp(-mean(logprobs)); 1 where there is nothing to predict
};

struct EmbedOptions {
  std::optional<std::int64_t> dimensions = {};  // only the first so many numbers of each vector (Matryoshka)
  // What stands in front of every text: a prompt of the model's config_sentence_transformers.json ("query", "document"), or
  // what a query is for, in a sentence. At most one of them; neither: the model's default, if it has one.
  std::optional<std::string> prompt_name = {}, instruction = {};
  bool truncate = false;  // cut the end of texts that are longer than the model takes, which are refused otherwise
};

struct Embedding {
  std::vector<float> values = {};  // [dimensions or hidden_size]
  std::vector<std::int32_t> token_ids = {};
};

struct RerankOptions {
  std::optional<std::string> instruction = {};  // what the query is for; absent: what the model card takes
  std::optional<std::int64_t> top_n = {};       // only the best so many documents
  bool truncate = false;                        // cut the end of documents that are too long
};

struct RankedDocument {
  std::size_t index = 0;       // among the documents
  double relevance_score = 0;  // the probability of "yes" against "no", in [0, 1]
  bool operator==(const RankedDocument&) const = default;
};

struct RerankResult {
  std::vector<RankedDocument> documents = {};  // the best first, the lower index first among equals
  Usage usage = {};
};

// What a model is and what an engine made of it.
struct ModelInfo {
  std::string model = {};       // as EngineConfig named it
  std::string model_type = {};  // "qwen3", "qwen3_moe" or "qwen2_moe"
  std::string dtype = {};       // "bfloat16" or "float32": what it computes in
  std::string device = {};      // for people: "cpu (avx512_bf16, 2 threads)"
  std::int64_t vocab_size = 0, hidden_size = 0, num_hidden_layers = 0;
  std::int64_t num_attention_heads = 0, num_key_value_heads = 0, head_dim = 0;
  std::int64_t num_experts = 0, num_experts_per_tok = 0;  // 0: a dense model
  std::int64_t max_position_embeddings = 0;               // as config.json says
  std::int64_t max_model_len = 0, max_num_seqs = 0;       // as this engine has them
  std::int64_t num_parameters = 0;
  std::uint64_t weight_bytes = 0, kv_cache_bytes = 0;  // on the device
  double load_seconds = 0;
  bool has_tokenizer = false, has_chat_template = false;
  std::vector<std::int32_t> eos_token_ids = {};  // those that end a sequence
  std::optional<std::int32_t> bos_token_id = {}, pad_token_id = {};
};

struct Refusal {
  ErrorCode code = ErrorCode::invalid_argument;  // unavailable: the queue is full
  std::string message = {}, remedy = {};
};

// An open model. Every member function may be called from many threads at once. Requests join those that run at the next
// step, up to max_num_seqs sequences at a time, and leave when they are over (continuous batching); who has to wait does so
// by priority, then in order of arrival. score(), embed() and rerank() run one after another, between steps, and let
// requests come on meanwhile. Results do not depend on what else runs.
class CAJAL_API Engine {
 public:
  // Reads and loads everything: what can be wrong with a model is found here. Throws Error.
  explicit Engine(const EngineConfig& config = {});
  // Cancels what still runs and waits for it. No other call may be under way.
  ~Engine();
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;

  const ModelInfo& info() const;

  // Needs the tokenizer's files: Error(not_found) says which one is missing.
  std::vector<std::int32_t> tokenize(std::string_view text) const;
  std::string detokenize(std::span<const std::int32_t> token_ids, bool skip_special_tokens = false) const;
  // The bytes of one token, which may be a part of a character; none of an id that no token has.
  std::string token_bytes(std::int32_t token_id) const;

  // Fills in the model's chat template; generate() goes on from its token_ids. Needs the tokenizer's files and a template.
  // In token_ids the name of a control token that stands in a message is text, so that nobody who writes one can end it.
  // Throws Error for what the template refuses, with its line.
  ChatPrompt apply_chat_template(std::span<const ChatMessage> messages) const;  // an answer is to follow
  // With every variable that the template knows, as a JSON object: messages, tools, add_generation_prompt, …
  ChatPrompt apply_chat_template(std::string_view variables) const;

  // Waits for the answer, or for all of them, which come in the order of the prompts. Throws Error for a prompt or
  // parameters that make no sense, before anything runs.
  GenerationResult generate(const Prompt& prompt, const SamplingParams& params = {},
                            const GenerateOptions& options = {});
  std::vector<GenerationResult> generate(std::span<const Prompt> prompts, const SamplingParams& params = {},
                                         const GenerateOptions& options = {});

  // What the model says of a text: log-probabilities of each token after those before it. Throws Error.
  ScoreResult score(const Prompt& prompt, const ScoreOptions& options = {},
                    std::optional<Cancellation> cancellation = {});

  // The vectors of texts, in their order: what sentence-transformers computes with a Qwen3-Embedding model, and with any other
  // the last token's hidden state, normalised. Token ids are taken as they are, with nothing put around them. Throws Error.
  std::vector<Embedding> embed(std::span<const Prompt> prompts, const EmbedOptions& options = {},
                               std::optional<Cancellation> cancellation = {});

  // How well documents answer a query, as a Qwen3-Reranker says. What query and documents say is text, also where it spells a
  // control token. Throws Error, also if the vocabulary has no "yes" and "no".
  RerankResult rerank(std::string_view query, std::span<const std::string> documents, const RerankOptions& options = {},
                      std::optional<Cancellation> cancellation = {});

  // Puts a request into the queue and returns. Refusing one is ordinary and throws nothing. After the delta with the
  // finish reason of its last sequence a request is over.
  using RequestId = std::uint64_t;
  struct Admission {
    RequestId id = 0;                // above 0 if admitted
    std::optional<Refusal> refusal;  // why not
    std::int64_t prompt_tokens = 0;
    std::uint64_t seed = 0;  // that it draws with
    explicit operator bool() const { return !refusal; }
  };
  Admission submit(const Prompt& prompt, const SamplingParams& params, OnDelta on_delta);
  void abort(RequestId id) noexcept;  // its sequences end as aborted within a step; of a request that is over: nothing

  // What the engine counts, in Prometheus' text format (text/plain; version=0.0.4), under vLLM's names; docs/engine.md lists
  // them. Never waits for the engine. Empty for a model that has no head to generate with.
  std::string metrics_text() const;

 private:
  class Impl;
  friend struct EngineAccess;  // of the program, whose ranks may be processes
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

CAJAL_END_NAMESPACE
