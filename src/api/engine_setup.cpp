#include "api/engine_setup.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <map>
#include <optional>

#include "base/checked.h"
#include "base/log.h"
#include "engine/demo_model.h"
#include "engine/export/export_limits.h"
#include "engine/hub_cache.h"
#include "engine/inspect.h"

namespace cajal {
namespace {

constexpr std::int64_t kMostGuesses = 64;

std::optional<DType> wanted_dtype(const std::string& word) {
  if (word == "auto") return std::nullopt;
  if (word == "bfloat16") return DType::bf16;
  if (word == "float32" || word == "float") return DType::f32;
  fail(word == "float16" || word == "half" ? ErrorCode::unsupported : ErrorCode::invalid_argument, "dtype is '", word,
       "', expected auto, bfloat16 or float32");
}

LoadFormat wanted_load_format(const std::string& word) {
  if (word == "auto") return LoadFormat::automatic;
  if (word == "dummy") return LoadFormat::dummy;
  fail(ErrorCode::invalid_argument, "load_format is '", word, "', expected auto or dummy");
}

KvCacheDType wanted_kv_cache_dtype(const std::string& word) {
  if (word == "auto") return KvCacheDType::automatic;
  if (word == "int8") return KvCacheDType::int8;
  fail(word.starts_with("fp8") ? ErrorCode::unsupported : ErrorCode::invalid_argument, "kv_cache_dtype is '", word,
       "', expected auto or int8");
}

std::int64_t choose_max_model_len(const api::EngineConfig& config, const Model& model) {
  const std::int64_t tokens_per_step = std::max(config.max_num_batched_tokens, config.max_num_seqs);
  if (config.max_model_len == 0) return fit_max_model_len(model, 1, tokens_per_step);
  if (const std::int64_t most = default_max_model_len(model.config()); config.max_model_len > most)
    log_warning("max_model_len is ", config.max_model_len, ", and the configuration is made for ", most,
                " tokens: what comes after them may make no sense");
  return config.max_model_len;
}

}  // namespace

void check(const api::EngineConfig& config) {
  constexpr std::int64_t kMost = std::int64_t{1} << 30;
  check_range("threads", config.threads, 0, 1 << 16);
  check_range<std::int64_t>("max_model_len", config.max_model_len, 0, kMost);
  check_range<std::int64_t>("max_num_seqs", config.max_num_seqs, 1, 1 << 16);
  check_range<std::int64_t>("max_num_batched_tokens", config.max_num_batched_tokens, 1, 1 << 20);
  check_range<std::int64_t>("max_num_waiting", config.max_num_waiting, 1, kMost);
  check_range<std::int64_t>("num_assistant_tokens", config.num_assistant_tokens, 1, kMostGuesses);
  constexpr int kMostRanks = 1024;
  check_range("tensor_parallel_size", config.tensor_parallel_size.value_or(1), 1, kMostRanks);
  check_range("expert_parallel_size", config.expert_parallel_size.value_or(1), 1, kMostRanks);
  constexpr double kMostCapacity = 1e6;
  if (config.capacity_factor && !(*config.capacity_factor > 0 && *config.capacity_factor <= kMostCapacity))
    fail(ErrorCode::invalid_argument, "capacity_factor is ", *config.capacity_factor,
         ", expected a number above 0 and at most ", kMostCapacity);
  check_range<std::int64_t>("prompt_lookup_num_tokens", config.prompt_lookup_num_tokens, 0, kMostGuesses);
  if (!config.assistant_model.empty() && config.prompt_lookup_num_tokens > 0)
    fail(ErrorCode::invalid_argument, "assistant_model is '", config.assistant_model,
         "' and prompt_lookup_num_tokens is ", config.prompt_lookup_num_tokens, ", and only one of them can guess",
         remedy("leave one of them out"));
  if (config.assistant_model.empty() && config.num_assistant_tokens != api::EngineConfig().num_assistant_tokens)
    fail(ErrorCode::invalid_argument, "num_assistant_tokens is ", config.num_assistant_tokens,
         ", and there is no assistant_model", remedy("name one, or leave num_assistant_tokens out"));
}

std::string model_folder(const std::string& model) {
  std::map<std::string, std::string> environment;
  for (const char* name :
       {"CAJAL_DEMO_MODEL", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"})
    if (const char* value = std::getenv(name)) environment[name] = value;
  if (!model.empty()) return find_model(model, environment);
  std::string demo = find_demo_model(environment);
  if (demo.empty())
    fail(ErrorCode::not_found, "model is empty, and the demo model is not there",
         remedy("name a folder that holds a model as Hugging Face has it, or one in its cache such as "
                "Qwen/Qwen3-0.6B"));
  return demo;
}

std::int64_t kv_bytes_per_token(const Model& model) {
  return kv_bytes_per_token(model.config(), model.dtype(), model.parallel(), model.kv_cache_dtype());
}

std::unique_ptr<RankTeam> open_ranks(const api::EngineConfig& config, const std::string& folder) {
  RankTeamOptions options{.degrees = agreed_degrees(folder, config.tensor_parallel_size, config.expert_parallel_size),
                          .device = config.device,
                          .backend = {.num_threads = config.threads}};
  if (options.degrees.world() == 1) return nullptr;
  if (is_export(folder)) options.backend.target = read_manifest(folder).target;
  return std::make_unique<RankTeam>(options);
}

std::unique_ptr<Backend> open_device(const api::EngineConfig& config, const std::string& folder) {
  BackendOptions options{.num_threads = config.threads};
  if (is_export(folder)) options.target = read_manifest(folder).target;
  return make_backend(config.device, options);
}

ModelOptions model_options(const api::EngineConfig& config, const std::string& folder) {
  ModelOptions options;
  options.folder = folder;
  options.dtype = wanted_dtype(config.dtype);
  options.load_format = wanted_load_format(config.load_format);
  options.quantization =
      quantization_recipe(config.quantization, config.quantization_group_size, config.quantization_overrides);
  options.kv_cache_dtype = wanted_kv_cache_dtype(config.kv_cache_dtype);
  options.capacity_factor = config.capacity_factor;
  if (!config.hf_overrides.empty()) options.config_overrides = parse_json(config.hf_overrides, "hf_overrides");
  return options;
}

ModelOptions assistant_options(const api::EngineConfig& config, const std::string& folder, const Model& target) {
  ModelOptions options;
  options.folder = folder;
  options.dtype = target.dtype();
  options.load_format = wanted_load_format(config.load_format);
  options.kv_cache_dtype = target.kv_cache_dtype();
  return options;
}

namespace {

// How many sequences of which length, and the pool of their keys and values.
void set_pool(LLMEngineOptions& options, const api::EngineConfig& config, const Model& model, const Model* assistant) {
  options.max_num_seqs = config.max_num_seqs;
  options.prefill_chunk_size = config.max_num_batched_tokens;
  options.max_model_len = choose_max_model_len(config, model);
  const std::int64_t one = ceil_div(options.max_model_len, kKvBlockSize);
  // An assistant's pool has as many blocks.
  const std::int64_t token_bytes = kv_bytes_per_token(model) + (assistant ? kv_bytes_per_token(*assistant) : 0);
  const auto block_bytes = static_cast<std::uint64_t>(token_bytes * kKvBlockSize);
  const std::uint64_t allowed = config.kv_cache_memory_bytes ? config.kv_cache_memory_bytes : model.free_bytes() / 2;
  const auto fitting = static_cast<std::int64_t>(std::min<std::uint64_t>(allowed / block_bytes, 1u << 30)) - 1;
  if (config.kv_cache_memory_bytes && fitting < one)
    fail(ErrorCode::invalid_argument, "kv_cache_memory_bytes is ", allowed, ", and one sequence of ",
         options.max_model_len, " tokens needs ", block_bytes * static_cast<std::uint64_t>(one + 1),
         remedy("raise it, or lower max_model_len"));
  options.max_num_kv_blocks = std::clamp(fitting, one, one * config.max_num_seqs);
}

// A setting that has its default may not have been set.
std::int64_t wanted(std::int64_t value, std::int64_t unset) { return value == unset ? 0 : value; }

void limit_to_export(LLMEngineOptions& options, const api::EngineConfig& config, const ExportFolder& exported,
                     std::uint64_t free_bytes) {
  const api::EngineConfig unset;
  WantedLimits limits;
  limits.max_model_len = config.max_model_len;
  limits.max_num_seqs = wanted(config.max_num_seqs, unset.max_num_seqs);
  limits.max_num_batched_tokens = wanted(config.max_num_batched_tokens, unset.max_num_batched_tokens);
  limits.num_guesses = config.assistant_model.empty() ? config.prompt_lookup_num_tokens : config.num_assistant_tokens;
  cajal::limit_to_export(options, exported.neuron_config(), limits);
  check_memory(exported, free_bytes);
}

}  // namespace

LLMEngineOptions engine_options(const api::EngineConfig& config, const Model& model, const Model* assistant) {
  LLMEngineOptions options;
  if (model.exported())
    limit_to_export(options, config, *model.exported(), model.free_bytes());
  else
    set_pool(options, config, model, assistant);
  options.max_num_waiting = std::numeric_limits<std::int64_t>::max();  // counted in front of it
  options.enable_prefix_caching = config.enable_prefix_caching;
  options.assistant_model = assistant;
  options.num_assistant_tokens = config.num_assistant_tokens;
  options.prompt_lookup_num_tokens = config.prompt_lookup_num_tokens;
  options.model_name = config.served_model_name.empty() ? config.model : config.served_model_name;
  return options;
}

}  // namespace cajal
