// What loads and runs a model, and what every command takes.
#include "cli/flag_tables.h"

#include <array>

#include "backends/backend.h"
#include "cli/usage_error.h"
#include "cli/values.h"
#include "compiler/quantize_weights.h"

namespace cajal::cli {
namespace {

constexpr std::uint32_t kText = kTokenize | kDetokenize;
constexpr int kMostRanks = 1024;

void set_device(Options& o, const Given& g) {
  if (g.text.starts_with("cuda") && !built_with_cuda())
    misuse(g.label, " ", g.text, " is not in this version of cajal yet: ", why_no_cuda(), remedy("use --device cpu"));
  if (g.text.starts_with("cuda") && g.text.find(',') != std::string::npos)
    misuse(g.label, " ", g.text, " is not in this version of cajal yet: one device runs the whole model",
           remedy("name one, as in --device cuda:0"));
  if (g.text.starts_with("cuda:"))
    o.common.device = g.text;
  else
    o.common.device = one_of(g, {"cpu", "cuda", "auto"});
}

void set_dtype(Options& o, const Given& g) {
  const std::string word = one_of(g, {"auto", "bfloat16", "float32", "float16", "half", "float"});
  if (word == "float16" || word == "half")
    misuse(g.label, " ", g.text, " is not there on the CPU", remedy("use --dtype bfloat16 or float32"));
  o.common.dtype = word == "float" ? "float32" : word;
}

void set_quantization(Options& o, const Given& g) {
  o.common.quantization = one_of(g, {"none", "lossless", "int8", "int4"});
}

void set_quantization_group_size(Options& o, const Given& g) {
  o.common.quantization_group_size = one_of(g, {"32", "128"}) == "32" ? 32 : 128;
}

void set_quantization_overrides(Options& o, const Given& g) {
  try {
    quantization_recipe("none", 32, g.text);
  } catch (const Error& error) {
    misuse(g.label, ": ", error.what());
  }
  o.common.quantization_overrides = g.text;
}

void set_kv_cache_dtype(Options& o, const Given& g) {
  if (g.text == "fp8" || g.text.starts_with("fp8_"))
    not_in_this_version(g, "leave it out: the cache has the model's dtype, or take int8");
  o.common.kv_cache_dtype = one_of(g, {"auto", "int8"});
}

void override_config(Options& o, const Given& g, const Json& keys) {
  for (const auto& [key, value] : keys.as_object()) {
    if (o.common.hf_overrides.find(key))
      misuse(g.label, ": another flag replaces '", key, "' of config.json already",
             remedy("give it once: rope_scaling stands in --rope-scaling or in --hf-overrides"));
    o.common.hf_overrides.set(key, value);
  }
}

void set_log_level(Options& o, const Given& g) {
  const std::string word = one_of(g, {"debug", "info", "warning", "error"});
  o.common.log_level = word == "debug"     ? LogLevel::debug
                       : word == "info"    ? LogLevel::info
                       : word == "warning" ? LogLevel::warning
                                           : LogLevel::error;
}

// A flag that means something to a server, in the commands that serve nobody.
void note_no_effect(Options& o, const Given& g) {
  o.notes.push_back(
      detail::join(g.label, " has no effect: a server always tells thoughts and calls of tools from answers"));
}

void note_no_effect_of_switch(Options& o, const Given& g) {
  if (boolean(g)) note_no_effect(o, g);
}

constexpr auto kFlags = std::to_array<Flag>({
    {"model", "", "MODEL", kModelCommands | kText | kRender | kPull | kBenchServe, Group::engine,
     "The same as MODEL without the flag.",
     [](Options& o, const Given& g) {
       if (!o.common.model.empty() && o.common.model != g.text)
         misuse("two models are given, ", o.common.model, " and ", g.text, remedy("give one"));
       o.common.model = g.text;
     },
     OneOf::none, true},
    {"device", "", "DEVICE", kModelCommands, Group::engine,
     "cpu, cuda or cuda:N. Default auto: cuda if there is a device and this build knows it.", set_device},
    {"dtype", "", "DTYPE", kModelCommands, Group::engine, "auto (as the checkpoint says), bfloat16 or float32.",
     set_dtype},
    {"quantization", "", "KIND", kModelCommands, Group::engine,
     "none, or on a CPU int8 or int4: weights are rounded when they are loaded. int4 keeps embeddings and head in "
     "int8. lossless: bfloat16 weights in 12 bits that give every bit of their 16, on CPUs with AVX512-BF16.",
     set_quantization},
    {"quantization-group-size", "", "N", kModelCommands, Group::engine,
     "32 or 128 weights of a row that share a scale. Default 32.", set_quantization_group_size},
    {"quantization-overrides", "", "LIST", kModelCommands, Group::engine,
     "Families of weights with a KIND of their own, as in lm_head=int4,attention=none. Families: embed_tokens, "
     "lm_head, "
     "attention, mlp, experts.",
     set_quantization_overrides},
    {"kv-cache-dtype", "", "DTYPE", kModelCommands, Group::engine,
     "How keys and values are kept: auto, in the model's dtype, or on a CPU int8, with a scale for each vector.",
     set_kv_cache_dtype},
    {"tensor-parallel-size", "-tp", "N", kModelCommands, Group::engine,
     "Ranks that share every layer: threads on CPUs, or what mpirun, srun or torchrun started. Default: 1.",
     [](Options& o, const Given& g) { o.common.tensor_parallel_size = small_integer(g, 1, kMostRanks); }},
    {"expert-parallel-size", "-ep", "N", kModelCommands, Group::engine,
     "Groups of such ranks, each with its share of the experts. Default: 1.",
     [](Options& o, const Given& g) { o.common.expert_parallel_size = small_integer(g, 1, kMostRanks); }},
    {"threads", "", "N", kModelCommands, Group::engine, "Threads that compute. Default: the cores that cajal may use.",
     [](Options& o, const Given& g) { o.common.threads = small_integer(g, 1, 4096); }},
    {"max-model-len", "", "N", kModelCommands, Group::engine,
     "The most tokens of prompt and answer together. Default: what the model allows and memory holds.",
     [](Options& o, const Given& g) { o.common.max_model_len = integer(g, 1); }},
    {"max-num-seqs", "", "N", kGenerate | kServe, Group::engine, "Sequences that run side by side. Default: 64.",
     [](Options& o, const Given& g) { o.engine.max_num_seqs = small_integer(g, 1, 4096); }},
    {"max-num-batched-tokens", "", "N", kGenerate | kServe, Group::engine,
     "Tokens of one step: long prompts are read in pieces of so many. Default: 512.",
     [](Options& o, const Given& g) { o.engine.max_num_batched_tokens = small_integer(g, 1, 65536); }},
    {"kv-cache-memory-bytes", "", "N", kGenerate | kServe, Group::engine,
     "Memory for keys and values. Default: what the requests can use, at most half of what is free.",
     [](Options& o, const Given& g) { o.engine.kv_cache_memory_bytes = static_cast<std::uint64_t>(integer(g, 1)); }},
    {"enable-prefix-caching", "", "", kGenerate | kServe, Group::engine,
     "Compute what prompts have in common once. This is the default.",
     [](Options& o, const Given& g) { o.engine.enable_prefix_caching = boolean(g); }, OneOf::prefix_caching},
    {"no-enable-prefix-caching", "", "", kGenerate | kServe, Group::engine, "Compute every prompt from its beginning.",
     [](Options& o, const Given& g) { o.engine.enable_prefix_caching = !boolean(g); }, OneOf::prefix_caching},
    {"load-format", "", "FORMAT", kModelCommands, Group::engine,
     "auto, or dummy: seeded random weights, no files needed.",
     [](Options& o,
        const Given&
            g) { o.common.load_format = one_of(g, {"auto", "safetensors", "dummy"}) == "dummy" ? "dummy" : "auto"; }},
    {"export-cache", "", "", kModelCommands, Group::engine,
     "Keep the model's weights as this machine reads them in cajal's cache: it loads at once the next time.",
     [](Options& o, const Given& g) { o.common.export_cache = boolean(g); }},
    {"rope-scaling", "", "JSON", kModelCommands, Group::engine, "Replaces rope_scaling of config.json.",
     [](Options& o, const Given& g) {
       override_config(o, g, Json(Json::Object{{"rope_scaling", json_object(g)}}));
     }},
    {"hf-overrides", "", "JSON", kModelCommands, Group::engine, "Replaces keys of config.json.",
     [](Options& o, const Given& g) { override_config(o, g, json_object(g)); }},
    {"download", "", "", kModelCommands | kText | kRender, Group::engine,
     "Fetch a model that the cache lacks, as 'cajal pull' does.",
     [](Options& o, const Given& g) { o.common.download = boolean(g); }},
    {"enable-reasoning", "", "", kServe | kChat, Group::engine, "Has no effect: a server always does it.",
     note_no_effect_of_switch},
    {"reasoning-parser", "", "NAME", kServe | kChat, Group::engine, "Has no effect: a server always does it.",
     note_no_effect},
    {"enable-auto-tool-choice", "", "", kServe | kChat, Group::engine, "Has no effect: a server always does it.",
     note_no_effect_of_switch},
    {"tool-call-parser", "", "NAME", kServe | kChat, Group::engine, "Has no effect: a server always does it.",
     note_no_effect},

    {"revision", "", "REVISION", kPull, Group::general, "A branch, a tag or a commit. Default: main.",
     [](Options& o, const Given& g) { o.revision = g.text; }},
    {"config", "", "FILE", kEveryCommand, Group::general,
     "Flags from a file: a JSON object, or lines `key: value` (as in simple YAML) or `key = value` (as in TOML).",
     nullptr},
    {"log-level", "", "LEVEL", kEveryCommand, Group::general, "debug, info, warning or error. Default: info.",
     set_log_level},
    {"log-format", "", "FORMAT", kEveryCommand, Group::general, "text or json: how remarks on standard error look.",
     [](Options& o, const Given& g) {
       o.common.log_json = one_of(g, {"text", "json"}) == "json";
     }},
    {"help", "-h", "", kEveryCommand, Group::general, "Print this.", nullptr},
});

}  // namespace

std::span<const Flag> engine_flags() { return kFlags; }

}  // namespace cajal::cli
