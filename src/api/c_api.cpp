// The C interface: every function turns C values into those of the C++ interface, calls it, and turns exceptions into
// error objects.
#include "cajal/c_api.h"

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "api/c_support.h"

namespace api = cajal::v1;
using namespace cajal::c;  // NOLINT(google-build-using-namespace): what every function here is made of

struct cajal_tokens {
  explicit cajal_tokens(std::vector<std::int32_t> from) : ids(std::move(from)) {}
  std::vector<std::int32_t> ids;
};
struct cajal_text {
  explicit cajal_text(std::string from) : text(std::move(from)) {}
  std::string text;
};
namespace {

// Log-probabilities as C reads them: one array for the chosen tokens and one for the likeliest.
struct FlatLogprobs {
  std::vector<double> chosen;
  std::vector<cajal_token_logprob> top;
  std::size_t num_top = 0;

  void add(const std::vector<api::TokenLogprob>& tokens) {
    num_top = tokens.size();
    for (const api::TokenLogprob& token : tokens) top.push_back({token.token_id, token.logprob});
  }
  explicit FlatLogprobs(const std::vector<api::LogprobsOfToken>& logprobs = {}) {
    for (const api::LogprobsOfToken& token : logprobs) {
      chosen.push_back(token.chosen.logprob);
      add(token.top);
    }
  }
  const double* chosen_or_null() const { return chosen.empty() ? nullptr : chosen.data(); }
  const cajal_token_logprob* top_or_null() const { return top.empty() ? nullptr : top.data(); }
};

}  // namespace

struct cajal_results {
  std::vector<api::GenerationResult> prompts;
  std::vector<std::vector<FlatLogprobs>> logprobs;
};
struct cajal_score_result {
  api::ScoreResult score;
  FlatLogprobs top;
};

namespace {

cajal_engine_config default_config() {
  static const api::EngineConfig defaults;
  cajal_engine_config c{};
  c.struct_size = sizeof c;
  c.device = view(defaults.device);
  c.dtype = view(defaults.dtype);
  c.load_format = view(defaults.load_format);
  c.threads = defaults.threads;
  c.max_model_len = defaults.max_model_len;
  c.max_num_seqs = defaults.max_num_seqs;
  c.max_num_batched_tokens = defaults.max_num_batched_tokens;
  c.kv_cache_memory_bytes = defaults.kv_cache_memory_bytes;
  c.max_num_waiting = defaults.max_num_waiting;
  c.num_assistant_tokens = defaults.num_assistant_tokens;
  c.prompt_lookup_num_tokens = defaults.prompt_lookup_num_tokens;
  c.enable_prefix_caching = defaults.enable_prefix_caching;
  c.kv_cache_dtype = view(defaults.kv_cache_dtype);
  c.quantization = view(defaults.quantization);
  c.quantization_group_size = defaults.quantization_group_size;
  return c;
}

cajal_sampling_params default_params() {
  constexpr double kUnset = std::numeric_limits<double>::quiet_NaN();
  cajal_sampling_params p{};
  p.struct_size = sizeof p;
  p.n = 1;
  p.max_tokens = p.top_k = p.logprobs = p.timeout_ms = p.thinking_token_budget = CAJAL_UNSET_INTEGER;
  p.temperature = p.top_p = p.min_p = p.repetition_penalty = kUnset;
  return p;
}

// 0 stands for none.
std::optional<int> degree(std::int64_t value) {
  if (value == 0) return std::nullopt;
  return static_cast<int>(std::clamp<std::int64_t>(value, -1, 1 << 16));
}

std::optional<double> real(double value) { return std::isnan(value) ? std::nullopt : std::optional(value); }

std::optional<api::StructuredOutputs> structure_of(const cajal_sampling_params& p) {
  api::StructuredOutputs s;
  s.json = text_of(p.json, "params->json");
  s.regex = text_of(p.regex, "params->regex");
  s.grammar = text_of(p.grammar, "params->grammar");
  s.structural_tag = text_of(p.structural_tag, "params->structural_tag");
  s.json_object = p.json_object != 0;
  for (const cajal_string& text : list_of(p.choice, p.num_choice, "params->choice"))
    s.choice.push_back(text_of(text, "params->choice"));
  const bool any = !s.json.empty() || !s.regex.empty() || !s.grammar.empty() || !s.structural_tag.empty() ||
                   s.json_object || !s.choice.empty();
  return any ? std::optional(std::move(s)) : std::nullopt;
}

api::SamplingParams params_of(const cajal_sampling_params* given) {
  if (!given) return {};
  const cajal_sampling_params p = taken(given, default_params(), "params");
  api::SamplingParams params;
  params.n = p.n;
  params.ignore_eos = p.ignore_eos != 0;
  params.max_tokens = integer_if_set(p.max_tokens);
  params.top_k = integer_if_set(p.top_k);
  if (const auto k = integer_if_set(p.logprobs)) {
    if (*k < 0 || *k > std::numeric_limits<int>::max())
      refuse("logprobs is " + std::to_string(*k) + ", expected 0 or more");
    params.logprobs = static_cast<int>(*k);
  }
  params.temperature = real(p.temperature);
  params.top_p = real(p.top_p);
  params.min_p = real(p.min_p);
  params.repetition_penalty = real(p.repetition_penalty);
  params.presence_penalty = p.presence_penalty;
  params.frequency_penalty = p.frequency_penalty;
  if (p.has_seed) params.seed = p.seed;
  for (const cajal_string& stop : list_of(p.stop, p.num_stop, "params->stop"))
    params.stop.push_back(text_of(stop, "params->stop"));
  params.stop_token_ids = list_of(p.stop_token_ids, p.num_stop_token_ids, "params->stop_token_ids");
  if (!std::in_range<std::int32_t>(p.priority))
    refuse("priority is " + std::to_string(p.priority) + ", expected a number of 32 bits");
  params.priority = static_cast<std::int32_t>(p.priority);
  params.timeout_ms = integer_if_set(p.timeout_ms);
  params.cache_salt = text_of(p.cache_salt, "params->cache_salt");
  params.min_tokens = p.min_tokens;
  params.thinking_token_budget = integer_if_set(p.thinking_token_budget);
  params.may_think = p.may_think != 0;
  params.structured_outputs = structure_of(p);
  const auto ids = list_of(p.logit_bias_token_ids, p.num_logit_biases, "params->logit_bias_token_ids");
  const auto biases = list_of(p.logit_biases, p.num_logit_biases, "params->logit_biases");
  for (std::size_t i = 0; i < ids.size(); ++i) params.logit_bias.push_back({ids[i], biases[i]});
  return params;
}

// What an answer cost, into a cajal_delta or a cajal_completion.
template <class Struct>
void put_metrics(Struct& into, const api::RequestMetrics& m) {
  constexpr double kAbsent = std::numeric_limits<double>::quiet_NaN();
  into.cached_tokens = m.cached_tokens;
  into.queue_seconds = m.queue_seconds.value_or(kAbsent);
  into.ttft_seconds = m.ttft_seconds.value_or(kAbsent);
  into.e2e_seconds = m.e2e_seconds.value_or(kAbsent);
}

api::OnDelta callback(cajal_on_delta on_delta, void* user_data) {
  if (!on_delta) return {};
  return [on_delta, user_data](const api::Delta& d) {
    const FlatLogprobs logprobs(d.logprobs);
    cajal_delta delta{};
    delta.struct_size = sizeof delta;
    delta.prompt = d.prompt;
    delta.sequence = d.sequence;
    delta.text = view(d.text);
    delta.token_ids = d.token_ids.data();
    delta.num_token_ids = d.token_ids.size();
    delta.logprobs = logprobs.chosen_or_null();
    delta.top_logprobs = logprobs.top_or_null();
    delta.num_top_logprobs = logprobs.num_top;
    delta.finish_reason = static_cast<cajal_finish_reason>(d.finish_reason);
    put_metrics(delta, d.metrics);
    on_delta(user_data, &delta);
  };
}

}  // namespace

int32_t cajal_api_version(void) { return CAJAL_API_VERSION; }
const char* cajal_version(void) { return api::version(); }

cajal_code cajal_error_code(const cajal_error* error) { return error ? error->code : CAJAL_OK; }
cajal_string cajal_error_message(const cajal_error* error) { return error ? view(error->message) : cajal_string{}; }
cajal_string cajal_error_remedy(const cajal_error* error) { return error ? view(error->remedy) : cajal_string{}; }
void cajal_error_free(cajal_error* error) {
  if (error != &no_memory) delete error;
}

cajal_code cajal_set_log_level(cajal_string level, cajal_error** error) {
  return call(error, [&] {
    const std::string word = text_of(level, "level");
    const char* words[] = {"debug", "info", "warning", "error"};
    for (int i = 0; i < 4; ++i)
      if (word == words[i]) return api::set_log_level(static_cast<api::LogLevel>(i));
    refuse("level is '" + word + "', expected debug, info, warning or error");
  });
}

cajal_code cajal_engine_config_init(cajal_engine_config* config, size_t struct_size, cajal_error** error) {
  return call(error, [&] { put(config, struct_size, default_config(), "config"); });
}

cajal_code cajal_engine_open(const cajal_engine_config* config, cajal_engine** engine, cajal_error** error) {
  return make(error, engine, "engine", [&] {
    const cajal_engine_config c = taken(config, default_config(), "config");
    api::EngineConfig settings;
    settings.model = text_of(c.model, "config->model");
    settings.device = text_of(c.device, "config->device");
    settings.dtype = text_of(c.dtype, "config->dtype");
    settings.load_format = text_of(c.load_format, "config->load_format");
    settings.hf_overrides = text_of(c.hf_overrides, "config->hf_overrides");
    settings.threads = c.threads;
    settings.max_model_len = c.max_model_len;
    settings.max_num_seqs = c.max_num_seqs;
    settings.max_num_batched_tokens = c.max_num_batched_tokens;
    settings.kv_cache_memory_bytes = c.kv_cache_memory_bytes;
    settings.max_num_waiting = c.max_num_waiting;
    settings.assistant_model = text_of(c.assistant_model, "config->assistant_model");
    settings.num_assistant_tokens = c.num_assistant_tokens;
    settings.prompt_lookup_num_tokens = c.prompt_lookup_num_tokens;
    settings.trace_file = text_of(c.trace_file, "config->trace_file");
    settings.enable_prefix_caching = c.enable_prefix_caching != 0;
    settings.kv_cache_dtype = text_of(c.kv_cache_dtype, "config->kv_cache_dtype");
    settings.quantization = text_of(c.quantization, "config->quantization");
    settings.quantization_overrides = text_of(c.quantization_overrides, "config->quantization_overrides");
    settings.quantization_group_size =
        static_cast<int>(std::clamp<std::int64_t>(c.quantization_group_size, -1, 1 << 16));
    settings.tensor_parallel_size = degree(c.tensor_parallel_size);
    settings.expert_parallel_size = degree(c.expert_parallel_size);
    if (c.capacity_factor != 0) settings.capacity_factor = c.capacity_factor;
    return std::make_unique<cajal_engine>(settings);
  });
}

void cajal_engine_close(cajal_engine* engine) { delete engine; }

cajal_code cajal_engine_info(const cajal_engine* engine, cajal_model_info* info, cajal_error** error) {
  return call(error, [&] {
    const api::ModelInfo& i = engine_of(engine).info();
    cajal_model_info out{};
    out.model = view(i.model);
    out.model_type = view(i.model_type);
    out.dtype = view(i.dtype);
    out.device = view(i.device);
    out.vocab_size = i.vocab_size;
    out.hidden_size = i.hidden_size;
    out.num_hidden_layers = i.num_hidden_layers;
    out.num_attention_heads = i.num_attention_heads;
    out.num_key_value_heads = i.num_key_value_heads;
    out.head_dim = i.head_dim;
    out.num_experts = i.num_experts;
    out.num_experts_per_tok = i.num_experts_per_tok;
    out.max_position_embeddings = i.max_position_embeddings;
    out.max_model_len = i.max_model_len;
    out.max_num_seqs = i.max_num_seqs;
    out.num_parameters = i.num_parameters;
    out.weight_bytes = i.weight_bytes;
    out.kv_cache_bytes = i.kv_cache_bytes;
    out.load_seconds = i.load_seconds;
    out.has_tokenizer = i.has_tokenizer;
    out.has_chat_template = i.has_chat_template;
    out.bos_token_id = i.bos_token_id.value_or(-1);
    out.pad_token_id = i.pad_token_id.value_or(-1);
    out.eos_token_ids = i.eos_token_ids.data();
    out.num_eos_token_ids = i.eos_token_ids.size();
    put(info, out, "info");
  });
}

cajal_code cajal_tokenize(const cajal_engine* engine, cajal_string text, cajal_tokens** tokens, cajal_error** error) {
  return make(error, tokens, "tokens",
              [&] { return std::make_unique<cajal_tokens>(engine_of(engine).tokenize(text_of(text, "text"))); });
}
const int32_t* cajal_tokens_data(const cajal_tokens* tokens) { return tokens ? tokens->ids.data() : nullptr; }
size_t cajal_tokens_size(const cajal_tokens* tokens) { return tokens ? tokens->ids.size() : 0; }
void cajal_tokens_free(cajal_tokens* tokens) { delete tokens; }

cajal_code cajal_detokenize(const cajal_engine* engine, const int32_t* token_ids, size_t num_token_ids,
                            int32_t skip_special_tokens, cajal_text** text, cajal_error** error) {
  return make(error, text, "text", [&] {
    const std::vector<std::int32_t> ids = list_of(token_ids, num_token_ids, "token_ids");
    return std::make_unique<cajal_text>(engine_of(engine).detokenize(ids, skip_special_tokens != 0));
  });
}
cajal_string cajal_text_view(const cajal_text* text) { return text ? view(text->text) : cajal_string{}; }
void cajal_text_free(cajal_text* text) { delete text; }

cajal_code cajal_apply_chat_template(const cajal_engine* engine, cajal_string variables, cajal_text** text,
                                     cajal_tokens** tokens, cajal_error** error) {
  return call(error, [&] {
    if (text) *text = nullptr;
    if (tokens) *tokens = nullptr;
    api::ChatPrompt prompt = engine_of(engine).apply_chat_template(text_of(variables, "variables"));
    auto ids = std::make_unique<cajal_tokens>(std::move(prompt.token_ids));
    if (text) *text = new cajal_text(std::move(prompt.text));
    if (tokens) *tokens = ids.release();
  });
}

cajal_code cajal_cancellation_new(cajal_cancellation** cancellation, cajal_error** error) {
  return make(error, cancellation, "cancellation", [] { return std::make_unique<cajal_cancellation>(); });
}
void cajal_cancel(cajal_cancellation* cancellation) {
  if (cancellation) cancellation->cancellation.cancel();
}
void cajal_cancellation_free(cajal_cancellation* cancellation) { delete cancellation; }

cajal_code cajal_generate(cajal_engine* engine, const cajal_prompt* prompts, size_t num_prompts,
                          const cajal_sampling_params* params, cajal_on_delta on_delta, void* user_data,
                          cajal_cancellation* cancellation, cajal_results** results, cajal_error** error) {
  return make(error, results, "results", [&] {
    std::vector<api::Prompt> all;
    for (const cajal_prompt& prompt : list_of(prompts, num_prompts, "prompts")) all.push_back(prompt_of(prompt));
    api::GenerateOptions options;
    options.on_delta = callback(on_delta, user_data);
    options.cancellation = cancellation_of(cancellation);
    auto answer = std::make_unique<cajal_results>();
    answer->prompts = engine_of(engine).generate(all, params_of(params), options);
    for (const api::GenerationResult& result : answer->prompts) {
      auto& logprobs = answer->logprobs.emplace_back();
      for (const api::Completion& completion : result.completions) logprobs.emplace_back(completion.logprobs);
    }
    return answer;
  });
}

cajal_code cajal_sampling_params_init(cajal_sampling_params* params, size_t struct_size, cajal_error** error) {
  return call(error, [&] { put(params, struct_size, default_params(), "params"); });
}

size_t cajal_results_num_prompts(const cajal_results* results) { return results ? results->prompts.size() : 0; }
size_t cajal_results_num_sequences(const cajal_results* results) {
  return results && !results->prompts.empty() ? results->prompts[0].completions.size() : 0;
}
uint64_t cajal_results_seed(const cajal_results* results) {
  return results && !results->prompts.empty() ? results->prompts[0].seed : 0;
}

cajal_code cajal_results_prompt_token_ids(const cajal_results* results, size_t prompt, const int32_t** token_ids,
                                          size_t* num_token_ids, cajal_error** error) {
  return call(error, [&] {
    need(results, "results");
    need(token_ids, "token_ids");
    need(num_token_ids, "num_token_ids");
    const std::vector<std::int32_t>& ids = item(results->prompts, prompt, "prompt").prompt_token_ids;
    *token_ids = ids.data();
    *num_token_ids = ids.size();
  });
}

cajal_code cajal_results_get(const cajal_results* results, size_t prompt, size_t sequence, cajal_completion* completion,
                             cajal_error** error) {
  return call(error, [&] {
    need(results, "results");
    const api::Completion& from = item(item(results->prompts, prompt, "prompt").completions, sequence, "sequence");
    const FlatLogprobs& logprobs = results->logprobs[prompt][sequence];
    cajal_completion out{};
    out.text = view(from.text);
    out.token_ids = from.token_ids.data();
    out.num_token_ids = from.token_ids.size();
    out.logprobs = logprobs.chosen_or_null();
    out.top_logprobs = logprobs.top_or_null();
    out.num_top_logprobs = logprobs.num_top;
    out.finish_reason = static_cast<cajal_finish_reason>(from.finish_reason);
    put_metrics(out, from.metrics);
    put(completion, out, "completion");
  });
}
void cajal_results_free(cajal_results* results) { delete results; }

cajal_code cajal_submit(cajal_engine* engine, const cajal_prompt* prompt, const cajal_sampling_params* params,
                        cajal_on_delta on_delta, void* user_data, uint64_t* request_id, cajal_error** error) {
  return call(error, [&] {
    need(prompt, "prompt");
    need(request_id, "request_id");
    *request_id = 0;
    const auto admission =
        engine_of(engine).submit(prompt_of(*prompt), params_of(params), callback(on_delta, user_data));
    if (const auto& refusal = admission.refusal) throw api::Error(refusal->code, refusal->message, refusal->remedy);
    *request_id = admission.id;
  });
}
void cajal_abort(cajal_engine* engine, uint64_t request_id) {
  if (engine) engine->engine.abort(request_id);
}

cajal_code cajal_metrics_text(const cajal_engine* engine, cajal_text** text, cajal_error** error) {
  return make(error, text, "text", [&] { return std::make_unique<cajal_text>(engine_of(engine).metrics_text()); });
}

cajal_code cajal_score(cajal_engine* engine, const cajal_prompt* prompt, int32_t num_top_logprobs,
                       cajal_cancellation* cancellation, cajal_score_result** result, cajal_error** error) {
  return make(error, result, "result", [&] {
    need(prompt, "prompt");
    auto answer = std::make_unique<cajal_score_result>();
    answer->score =
        engine_of(engine).score(prompt_of(*prompt), {.top_logprobs = num_top_logprobs}, cancellation_of(cancellation));
    for (const auto& position : answer->score.top_logprobs) answer->top.add(position);
    return answer;
  });
}

cajal_code cajal_score_result_view(const cajal_score_result* result, cajal_score_view* view, cajal_error** error) {
  return call(error, [&] {
    need(result, "result");
    cajal_score_view out{};
    out.token_ids = result->score.token_ids.data();
    out.num_token_ids = result->score.token_ids.size();
    out.logprobs = result->score.logprobs.data();
    out.top_logprobs = result->top.top_or_null();
    out.num_top_logprobs = result->top.num_top;
    out.perplexity = result->score.perplexity;
    put(view, out, "view");
  });
}
void cajal_score_result_free(cajal_score_result* result) { delete result; }
