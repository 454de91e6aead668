#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>
#include <utility>

#include "api/engine_access.h"
#include "api/engine_setup.h"
#include "api/errors.h"
#include "api/pooling.h"
#include "api/public.h"
#include "api/requests.h"
#include "api/worker.h"
#include "base/error.h"
#include "base/log.h"
#include "engine/counter_rng.h"
#include "engine/inspect.h"
#include "engine/llm_engine.h"
#include "engine/model.h"
#include "engine/observability/step_trace.h"
#include "engine/scorer.h"
#include "engine/speculation/assistant_drafter.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace cajal {
namespace {

// 32 bits, so that a seed is short to copy.
std::uint64_t draw_short_seed() { return draw_seed() & 0xffffffffu; }

// For templates that write a date.
std::tm local_time() {
  const std::time_t now = std::time(nullptr);
  std::tm result{};
  ::localtime_r(&now, &result);
  return result;
}

struct TaskCancelled {};  // leaves what runs

}  // namespace
}  // namespace cajal

namespace cajal::v1 {

struct CancellationState {
  std::atomic<bool> cancelled = false;
};

Cancellation::Cancellation() : state_(std::make_shared<CancellationState>()) {}
void Cancellation::cancel() noexcept { state_->cancelled = true; }
bool Cancellation::cancelled() const noexcept { return state_->cancelled; }

const char* to_string(FinishReason reason) {
  switch (reason) {
    case FinishReason::none: return "none";
    case FinishReason::stop: return "stop";
    case FinishReason::length: return "length";
    case FinishReason::aborted: return "aborted";
    case FinishReason::error: return "error";
    case FinishReason::timeout: return "timeout";
  }
  return "unknown";
}

const char* version() { return CAJAL_VERSION; }

namespace {
std::atomic<bool> log_level_is_set = false;
}  // namespace

void set_log_level(LogLevel level) {
  log_level_is_set = true;
  cajal::set_log_level(static_cast<cajal::LogLevel>(level));
}

class CAJAL_LOCAL Engine::Impl {
 public:
  // `launched`: ranks that somebody else has started, or null.
  Impl(const EngineConfig& config, RankTeam* launched)
      : config_((check(config), config)),
        folder_(model_folder(config.model)),
        own_ranks_(launched ? nullptr : open_ranks(config, folder_)),
        ranks_(launched ? launched : own_ranks_.get()),
        own_backend_(ranks_ ? nullptr : open_device(config, folder_)),
        bound_(std::in_place, ranks_ ? ranks_->cores() : std::vector<int>()),
        tokenizer_(Tokenizer::is_present(folder_) ? std::optional(Tokenizer::from_folder(folder_)) : std::nullopt),
        chat_template_(ChatTemplate::is_present(folder_) ? std::optional(ChatTemplate::from_folder(folder_))
                                                         : std::nullopt),
        model_(on_ranks(model_options(config, folder_)), backend()),
        options_(setup()),
        constraints_(tokenizer(), model_.config().vocab_size, ending_tokens(model_)),
        worker_([this](EngineObserver& observer) {
          return model_.has_lm_head() ? std::make_unique<LLMEngine>(model_, tokenizer(), options_, observer) : nullptr;
        }) {
    bound_.reset();
    fill_info();
  }

  const ModelInfo& info() const { return info_; }
  const Tokenizer* tokenizer() const { return tokenizer_ ? &*tokenizer_ : nullptr; }
  // The tokenizer, or an error that says which file is missing.
  const Tokenizer& required_tokenizer() const {
    if (!tokenizer_) Tokenizer::from_folder(folder_);
    return tokenizer_.value();
  }

  ChatPrompt apply_chat_template(const Json& variables) const {
    const Tokenizer& tokenizer = required_tokenizer();
    if (!variables.is_object())
      fail(cajal::ErrorCode::invalid_argument, "the variables are ", variables.type_name(), ", expected an object");
    // Where there is no template, loading one says so.
    if (!chat_template_) ChatTemplate::from_folder(folder_);
    RenderedChat chat = chat_template_.value().render(variables, {.now = local_time(), .limits = {}});
    std::vector<std::int32_t> ids = encode_rendered(tokenizer, chat, true);
    return {std::move(chat.text), std::move(ids)};
  }

  std::vector<GenerationResult> generate(std::span<const Prompt> prompts, const SamplingParams& params,
                                         const GenerateOptions& options, std::exception_ptr& thrown);
  ScoreResult score(const Prompt& prompt, const ScoreOptions& options, std::optional<Cancellation> cancellation);
  std::vector<Embedding> embed(std::span<const Prompt> prompts, const EmbedOptions& options,
                               std::optional<Cancellation> cancellation);
  RerankResult rerank(std::string_view query, std::span<const std::string> documents, const RerankOptions& options,
                      std::optional<Cancellation> cancellation);
  Admission submit(const Prompt& prompt, const SamplingParams& params, OnDelta on_delta);
  void abort(RequestId id) noexcept { worker_.abort(id); }
  void close() { worker_.close(); }
  std::string metrics_text() const { return worker_.metrics_text(); }
  std::string failure() const {
    const std::string lost = ranks_ ? ranks_->failure() : std::string();
    return lost.empty() ? worker_.failure() : lost;
  }

 private:
  Backend& backend() const { return ranks_ ? ranks_->backend() : *own_backend_; }
  ModelOptions on_ranks(ModelOptions options) const {
    if (ranks_) options.ranks = &ranks_->leader();
    return options;
  }
  void load_assistant();
  LLMEngineOptions setup();
  void fill_info();
  RequestContext context() const { return {model_, tokenizer(), options_.max_model_len}; }
  PoolingContext pooling_context() const {
    return {model_, tokenizer(), folder_, options_.max_model_len, config_.max_num_batched_tokens};
  }
  // A model without a head says so here, before anything runs.
  void need_lm_head() const {
    if (!model_.has_lm_head()) model_.graph(Bucket{}, {.logits = true});
  }
  // Runs `body` on the engine's thread and waits for it; it calls its argument before each step, which leaves it when nobody
  // wants it any more: Error(cancelled) then.
  using Check = std::function<void()>;
  void run_task(const char* what, std::optional<Cancellation> cancellation,
                const std::function<void(const Check&)>& body);
  std::shared_ptr<Job> new_job(std::span<const Prompt> prompts, const SamplingParams& params, std::uint64_t seed);

  EngineConfig config_;
  std::string folder_;  // where the model lies
  std::unique_ptr<RankTeam> own_ranks_;
  RankTeam* ranks_;  // null: one device
  std::unique_ptr<Backend> own_backend_;
  std::optional<BoundToCores> bound_;  // while this is made, so that its threads are
  std::optional<Tokenizer> tokenizer_;
  std::optional<ChatTemplate> chat_template_;
  cajal::Model model_;
  std::optional<cajal::Model> assistant_;
  std::optional<StepTrace> trace_;
  LLMEngineOptions options_;
  RequestConstraints constraints_;
  ModelInfo info_;
  Worker worker_;  // last: it uses the others
};

void Engine::Impl::load_assistant() {
  with_context("assistant_model", [&] {
    const std::string folder = model_folder(config_.assistant_model);
    if (tokenizer_ && Tokenizer::is_present(folder)) check_same_tokens(*tokenizer_, Tokenizer::from_folder(folder));
    assistant_.emplace(on_ranks(assistant_options(config_, folder, model_)), backend());
  });
}

// Opens what the engine uses beside the model.
LLMEngineOptions Engine::Impl::setup() {
  if (!config_.assistant_model.empty()) load_assistant();
  if (!config_.trace_file.empty()) with_context("trace_file", [&] { trace_.emplace(config_.trace_file); });
  LLMEngineOptions options = engine_options(config_, model_, assistant_ ? &*assistant_ : nullptr);
  options.trace = trace_ ? &*trace_ : nullptr;
  return options;
}

void Engine::Impl::fill_info() {
  const Qwen3Config& c = model_.config();
  ModelInfo& i = info_;
  i.model = config_.model.empty() ? folder_ : config_.model;
  i.model_type = c.model_type;
  i.dtype = model_.dtype() == DType::f32 ? "float32" : "bfloat16";
  i.device = ranks_ ? ranks_->description() : backend().description();
  i.vocab_size = c.vocab_size;
  i.hidden_size = c.hidden_size;
  i.num_hidden_layers = c.num_hidden_layers;
  i.num_attention_heads = c.num_attention_heads;
  i.num_key_value_heads = c.num_key_value_heads;
  i.head_dim = c.head_dim;
  i.num_experts = c.num_experts;
  i.num_experts_per_tok = c.num_experts_per_tok;
  i.max_position_embeddings = c.max_position_embeddings;
  i.max_model_len = options_.max_model_len;
  i.max_num_seqs = options_.max_num_seqs;
  Qwen3GraphOptions whole = model_.recipe().graph;
  whole.parallel = {};
  i.num_parameters = count_parameters(build_qwen3(c, whole)).total;
  i.weight_bytes = model_.weight_bytes();
  i.kv_cache_bytes =
      static_cast<std::uint64_t>(kv_bytes_per_token(model_) * kKvBlockSize * (options_.max_num_kv_blocks + 1));
  i.load_seconds = std::chrono::duration<double>(model_.load_time()).count();
  i.has_tokenizer = tokenizer_.has_value();
  i.has_chat_template = chat_template_.has_value();
  i.eos_token_ids = ending_tokens(model_);
  const GenerationConfig& g = model_.generation_config();
  i.bos_token_id = g.bos_token_id ? g.bos_token_id : c.bos_token_id;
  i.pad_token_id = g.pad_token_id ? g.pad_token_id : c.pad_token_id;
}

std::shared_ptr<Job> Engine::Impl::new_job(std::span<const Prompt> prompts, const SamplingParams& params,
                                           std::uint64_t seed) {
  need_lm_head();
  auto job = std::make_shared<Job>();
  const TokenConstraints constraints = constraints_.make(constraint_wishes(params));
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const auto request = [&] {
      EngineRequest r = make_request(context(), prompt_token_ids(context(), prompts[i]), params, seed);
      r.sequence.constraints = constraints;
      constraints_.begin_after(r.sequence.constraints, r.sequence.prompt);
      check_constraints(r.sequence.constraints, model_.config().vocab_size, r.sequence.max_new_tokens);
      return r;
    };
    job->requests.push_back(prompts.size() == 1 ? request() : with_context(detail::join("prompts[", i, "]"), request));
  }
  job->per_prompt = static_cast<std::size_t>(std::max(params.n, 1));
  job->wants_logprobs = params.logprobs.has_value();
  if (params.timeout_ms) job->timeout = timeout_of(*params.timeout_ms);
  return job;
}

std::vector<GenerationResult> Engine::Impl::generate(std::span<const Prompt> prompts, const SamplingParams& params,
                                                     const GenerateOptions& options, std::exception_ptr& thrown) {
  if (worker_.is_current_thread())
    fail(cajal::ErrorCode::invalid_argument,
         "generate() is called in a callback of the same engine, which would wait for ever",
         remedy("use submit() there"));
  const std::uint64_t seed = params.seed ? *params.seed : draw_short_seed();
  const std::shared_ptr<Job> job = new_job(prompts, params, seed);
  std::vector<GenerationResult> results(prompts.size());
  if (prompts.empty()) return results;
  job->on_delta = options.on_delta;
  job->cancellation = options.cancellation;
  worker_.add(job).get();
  thrown = job->callback_failure;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    GenerationResult& result = results[i];
    const std::size_t first = i * job->per_prompt;
    result.prompt_token_ids = job->requests[i].sequence.prompt;
    result.seed = seed;
    result.usage.prompt_tokens = static_cast<std::int64_t>(result.prompt_token_ids.size());
    for (std::size_t k = 0; k < job->per_prompt; ++k) {
      result.completions.push_back(std::move(job->completions[first + k]));
      result.usage.completion_tokens += static_cast<std::int64_t>(result.completions.back().token_ids.size());
    }
  }
  return results;
}

Engine::Admission Engine::Impl::submit(const Prompt& prompt, const SamplingParams& params, OnDelta on_delta) {
  Admission admission;
  try {
    admission.seed = params.seed ? *params.seed : draw_short_seed();
    const std::shared_ptr<Job> job = new_job(std::span(&prompt, 1), params, admission.seed);
    job->on_delta = std::move(on_delta);
    admission.prompt_tokens = static_cast<std::int64_t>(job->requests[0].sequence.prompt.size());
    admission.id = worker_.add_named(job, config_.max_num_waiting);
    if (admission.id == 0)
      fail(cajal::ErrorCode::unavailable, "the queue is full: ", config_.max_num_waiting, " requests wait",
           remedy("try again later, or raise max_num_waiting"));
  } catch (const cajal::Error&) {
    const api::Error e = current_error();
    admission.refusal = Refusal{e.code(), e.message(), e.remedy()};
  }
  return admission;
}

ScoreResult Engine::Impl::score(const Prompt& prompt, const ScoreOptions& options,
                                std::optional<Cancellation> cancellation) {
  check_range("top_logprobs", options.top_logprobs, 0, 1 << 30);
  need_lm_head();
  ScoreResult result;
  result.token_ids = prompt_token_ids(context(), prompt);
  check_token_ids(result.token_ids, model_.config().vocab_size, options_.max_model_len);
  Score score;
  run_task("score", std::move(cancellation), [&](const Check& check_wanted) {
    cajal::ScoreOptions how;
    how.num_top_logprobs = options.top_logprobs;
    how.on_logits = [&](std::int64_t position, std::span<const float>) {
      if (position % how.chunk_size == 0) check_wanted();
    };
    score = cajal::score(model_, result.token_ids, options_.max_model_len, how);
  });
  result.perplexity = score.perplexity();
  result.logprobs = std::move(score.logprobs);
  for (const auto& position : score.top_logprobs) {
    auto& top = result.top_logprobs.emplace_back();
    for (const auto& token : position) top.push_back({token.token_id, token.logprob});
  }
  return result;
}

void Engine::Impl::run_task(const char* what, std::optional<Cancellation> cancellation,
                            const std::function<void(const Check&)>& body) {
  if (worker_.is_current_thread())
    fail(cajal::ErrorCode::invalid_argument, what,
         "() is called in a callback of the same engine, which would wait for ever");
  auto job = std::make_shared<Job>();
  job->cancellation = std::move(cancellation);
  bool done = false;
  job->task = [&, this] {
    try {
      body([&] {
        worker_.step_others();
        if (worker_.closing() || !job->wanted()) throw TaskCancelled();
      });
      done = true;
    } catch (const TaskCancelled&) {
    }
  };
  worker_.add(job).get();
  if (!done) throw api::Error(ErrorCode::cancelled, std::string(what) + "() was cancelled");
}

std::vector<Embedding> Engine::Impl::embed(std::span<const Prompt> prompts, const EmbedOptions& options,
                                           std::optional<Cancellation> cancellation) {
  EmbedRequest request = make_embed_request(pooling_context(), prompts, options);
  std::vector<Embedding> embeddings(prompts.size());
  run_task("embed", std::move(cancellation), [&](const Check& check_wanted) {
    request.options.steps.before_step = check_wanted;
    cajal::embed(model_, request.texts, request.options, [&](std::size_t i, std::span<const float> values) {
      embeddings[i].values.assign(values.begin(), values.end());
    });
  });
  for (std::size_t i = 0; i < embeddings.size(); ++i) embeddings[i].token_ids = std::move(request.texts[i]);
  return embeddings;
}

RerankResult Engine::Impl::rerank(std::string_view query, std::span<const std::string> documents,
                                  const RerankOptions& options, std::optional<Cancellation> cancellation) {
  const RerankRequest request = make_rerank_request(pooling_context(), query, documents, options);
  std::vector<double> scores;
  run_task("rerank", std::move(cancellation), [&](const Check& check_wanted) {
    scores = cajal::rerank(model_, request.prompts, request.words,
                           {.max_num_batched_tokens = config_.max_num_batched_tokens, .before_step = check_wanted});
  });
  RerankResult result;
  for (const std::size_t i : by_score(scores, static_cast<std::size_t>(options.top_n.value_or(1 << 30))))
    result.documents.push_back({i, scores[i]});
  result.usage.prompt_tokens = count_tokens(request.prompts);
  return result;
}

Engine::Engine(const EngineConfig& config) {
  if (!log_level_is_set) set_log_level(LogLevel::warning);
  impl_ = guarded([&] { return std::make_unique<Impl>(config, nullptr); });
}
Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
// What the last answers call may itself call the engine, which has to be whole until then.
Engine::~Engine() {
  if (impl_) impl_->close();
}
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;

std::unique_ptr<Engine> EngineAccess::open(const EngineConfig& config, RankTeam& ranks) {
  return guarded([&] { return std::unique_ptr<Engine>(new Engine(std::make_unique<Engine::Impl>(config, &ranks))); });
}
std::string EngineAccess::failure(const Engine& engine) { return engine.impl_->failure(); }

const ModelInfo& Engine::info() const { return impl_->info(); }

std::vector<std::int32_t> Engine::tokenize(std::string_view text) const {
  return guarded([&] { return impl_->required_tokenizer().encode(text); });
}

std::string Engine::detokenize(std::span<const std::int32_t> token_ids, bool skip_special_tokens) const {
  return guarded([&] { return impl_->required_tokenizer().decode(token_ids, skip_special_tokens); });
}

std::string Engine::token_bytes(std::int32_t token_id) const {
  return guarded([&] { return std::string(impl_->required_tokenizer().token_bytes(token_id)); });
}

ChatPrompt Engine::apply_chat_template(std::span<const ChatMessage> messages) const {
  return guarded([&] {
    Json::Array list;
    for (const ChatMessage& m : messages) list.emplace_back(Json::Object{{"role", m.role}, {"content", m.content}});
    return impl_->apply_chat_template(
        Json::Object{{"messages", std::move(list)}, {"add_generation_prompt", Json(true)}});
  });
}

ChatPrompt Engine::apply_chat_template(std::string_view variables) const {
  return guarded([&] { return impl_->apply_chat_template(parse_json(variables, "the variables")); });
}

GenerationResult Engine::generate(const Prompt& prompt, const SamplingParams& params, const GenerateOptions& options) {
  return std::move(generate(std::span(&prompt, 1), params, options)[0]);
}

std::vector<GenerationResult> Engine::generate(std::span<const Prompt> prompts, const SamplingParams& params,
                                               const GenerateOptions& options) {
  std::exception_ptr thrown;  // by the callback: the caller's own, and so given back as it is
  auto results = guarded([&] { return impl_->generate(prompts, params, options, thrown); });
  if (thrown) std::rethrow_exception(thrown);
  return results;
}

ScoreResult Engine::score(const Prompt& prompt, const ScoreOptions& options, std::optional<Cancellation> cancellation) {
  return guarded([&] { return impl_->score(prompt, options, std::move(cancellation)); });
}

std::vector<Embedding> Engine::embed(std::span<const Prompt> prompts, const EmbedOptions& options,
                                     std::optional<Cancellation> cancellation) {
  return guarded([&] { return impl_->embed(prompts, options, std::move(cancellation)); });
}

RerankResult Engine::rerank(std::string_view query, std::span<const std::string> documents,
                            const RerankOptions& options, std::optional<Cancellation> cancellation) {
  return guarded([&] { return impl_->rerank(query, documents, options, std::move(cancellation)); });
}

Engine::Admission Engine::submit(const Prompt& prompt, const SamplingParams& params, OnDelta on_delta) {
  return guarded([&] { return impl_->submit(prompt, params, std::move(on_delta)); });
}

void Engine::abort(RequestId id) noexcept { impl_->abort(id); }

std::string Engine::metrics_text() const {
  return guarded([&] { return impl_->metrics_text(); });
}

}  // namespace cajal::v1
