#pragma once
// What the user asked for. Every flag is declared once, in flag_tables/; this is what the flags mean once they are read.
#include <chrono>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/log.h"
#include "engine/structured_output/grammar.h"

namespace cajal::cli {

struct CommonFlags {
  std::string model;  // a folder or a hub name; empty: the demo model
  std::string device = "auto";
  std::string dtype = "auto";                                 // auto, bfloat16 or float32
  std::string quantization = "none", quantization_overrides;  // as quantization_recipe reads them
  int quantization_group_size = 32;
  std::string kv_cache_dtype = "auto";  // auto or int8
  std::string load_format = "auto";     // auto or dummy
  std::optional<int> threads;
  std::optional<int> tensor_parallel_size, expert_parallel_size;  // absent: what an export has, else 1
  std::optional<std::int64_t> max_model_len;
  std::optional<double> capacity_factor;
  bool download = false;      // fetch a model that the cache lacks
  bool export_cache = false;  // keep packed weights, see export_cache.h
  Json hf_overrides;          // keys that replace those of config.json; null: none
  LogLevel log_level = LogLevel::info;
  bool log_json = false;
};

// At most one of them is set.
struct PromptFlags {
  std::optional<std::string> prompt, prompt_file, token_ids_file;
  std::optional<std::vector<std::int32_t>> token_ids;
};

struct ChatFlags {
  bool chat = false;  // of generate: put the prompt into the chat template
  std::optional<std::string> system;
  std::optional<bool> enable_thinking;  // absent: the template decides
};

// What is not given comes from the model's generation_config.json, and then from the engine's defaults.
struct GenerateFlags {
  std::optional<std::int64_t> max_new_tokens;
  std::optional<double> temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<int> top_k;  // 0 and -1: off
  std::optional<std::uint64_t> seed;
  std::vector<std::string> stop;
  bool ignore_eos = false;
  std::optional<int> logprobs;
  int num_return_sequences = 1;
  StructuredOutputs structured_outputs;  // empty: none
  std::int64_t min_tokens = 0;
  std::optional<std::int64_t> thinking_token_budget;
};

// How the engine runs what `generate` asks of it.
struct EngineFlags {
  std::optional<std::int64_t> max_num_seqs, max_num_batched_tokens, num_assistant_tokens, prompt_lookup_num_tokens;
  std::optional<std::uint64_t> kv_cache_memory_bytes;
  bool enable_prefix_caching = true;
  std::string assistant_model, trace, metrics;  // empty: not asked for
};

struct ScoreFlags {
  std::optional<int> top_logprobs;
  std::string dump_logits, against, against_quantization;  // empty: not asked for
};

struct BenchFlags {
  std::optional<std::vector<int>> n_prompt, n_gen, n_batch, depth;
  std::optional<int> repeats;
  bool profile = false;
};

struct InspectFlags {
  std::string graph;  // empty: not asked for
  bool plan = false;
  std::optional<std::uint64_t> memory_bytes;
};

// Of export, and of inspect what both have.
struct ExportFlags {
  std::string output, target;  // empty: not given
  std::optional<std::int64_t> batch_size, sequence_length, max_context_length, prefill_chunk_size, speculation_length;
  std::optional<std::int64_t> max_topk;
  std::optional<bool> on_device_sampling, output_logits;
  std::string task = "auto";  // auto, text-generation or feature-extraction
};

struct ServeFlags {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8000;
  std::vector<std::string> api_keys, allowed_origins, served_model_names;
  std::string api_key_file;  // empty: none
  std::string ssl_certfile, ssl_keyfile, ssl_keyfile_password, ssl_ca_certs;
  int ssl_cert_reqs = 0;  // as Python's ssl has it
  std::uint64_t max_request_bytes = std::uint64_t{16} << 20;
  std::optional<std::int64_t> max_num_waiting, request_timeout_ms;
  std::chrono::seconds shutdown_timeout{30};
  std::string reasoning_field = "both";  // or reasoning or reasoning_content
  bool strict_fields = false, access_log = true, insecure = false, print_config = false;
};

// Of bench serve: the names and meanings of vLLM's benchmark.
struct LoadFlags {
  std::string base_url, endpoint, backend = "openai", tokenizer, dataset_name = "random",
                                  dataset_path;         // empty: absent
  std::vector<std::string> headers, metadata, goodput;  // "KEY=VALUE", "KEY=VALUE", "ttft:100"
  std::int64_t num_prompts = 1000, num_warmups = 0;
  std::int64_t input_len = 1024, output_len = 128, prefix_len = 0, custom_output_len = 256;
  double range_ratio = 0, request_rate = std::numeric_limits<double>::infinity(), burstiness = 1;
  std::optional<std::int64_t> max_concurrency;
  Json extra_body;  // null: none
  std::string percentile_metrics = "ttft,tpot,itl", metric_percentiles = "99";
  bool save_result = false, save_detailed = false;
  std::string result_dir, result_filename, label;  // empty: absent
};

struct RenderFlags {
  std::string template_file;  // empty: not given
};

// Of embed and rerank.
struct TextFlags {
  std::optional<std::string> prompt_name, instruction, query;
  std::vector<std::string> documents;
  std::optional<std::int64_t> dimensions, top_n;
  bool truncate = false, base64 = false;
};

struct Options {
  CommonFlags common;
  PromptFlags prompt;
  ChatFlags chat;
  GenerateFlags generate;
  EngineFlags engine;
  ScoreFlags score;
  BenchFlags bench;
  InspectFlags inspect;
  ExportFlags exports;
  RenderFlags render;
  std::string action;    // of cache: list or clean
  std::string revision;  // of pull; empty: main
  TextFlags texts;
  ServeFlags serve;
  LoadFlags load;
  std::string input;  // a file: of render one request, of embed and rerank texts, one a line; empty: not given
  bool json = false, jsonl = false, skip_special_tokens = false;

  bool help = false;
  std::map<std::string, std::string>
      sources;                     // of the flags that are given: "environment", "command line" or the file's line
  std::vector<std::string> notes;  // what the user should know about flags that do less than they say
};

using Environment = std::map<std::string, std::string>;

// Reads the arguments that follow a subcommand's name, then the environment, then the file of --config: the first that
// gives a flag wins. Throws UsageError. After --help nothing else is looked at.
Options read_options(std::string_view command, std::span<const std::string> arguments, const Environment& environment);

}  // namespace cajal::cli
