#include "cli/flags.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <numeric>
#include <utility>

#include "backends/backend.h"
#include "cli/commands.h"
#include "cli/usage_error.h"
#include "cli/values.h"
#include "compiler/quantize_weights.h"

namespace cajal::cli {
namespace {

constexpr std::uint32_t kPromptCommands = kGenerate | kScore;
constexpr std::uint32_t kSampling = kGenerate | kChat;
constexpr std::uint32_t kText = kTokenize | kDetokenize;
constexpr std::int64_t kLongest = std::int64_t{1} << 30;  // of any sequence
constexpr double kLarge = 1e6;                            // beyond it no parameter makes a difference

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

void set_quantization(Options& o, const Given& g) { o.common.quantization = one_of(g, {"none", "int8", "int4"}); }

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

constexpr int kMostRanks = 1024;

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

void set_token_ids(Options& o, const Given& g) {
  try {
    o.prompt.token_ids = parse_token_ids(g.text, g.label);
  } catch (const Error& e) {
    misuse(e.message(), remedy(e.remedy()));
  }
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
    {"prompt", "", "TEXT", kPromptCommands | kEmbed, Group::prompt, "The text, used as it is.",
     [](Options& o, const Given& g) { o.prompt.prompt = g.text; }, OneOf::prompt},
    {"prompt-file", "", "FILE", kPromptCommands, Group::prompt,
     "A file with that text; - is standard input. Of generate also requests, one a line, as JSON (docs/recipes).",
     [](Options& o, const Given& g) { o.prompt.prompt_file = g.text; }, OneOf::prompt},
    {"token-ids", "", "IDS", kPromptCommands, Group::prompt, "Token ids instead of text: 1,2,3.", set_token_ids,
     OneOf::prompt},
    {"token-ids-file", "", "FILE", kPromptCommands, Group::prompt,
     "A file with token ids as a JSON list, [1,2,3]; - is standard input.",
     [](Options& o, const Given& g) { o.prompt.token_ids_file = g.text; }, OneOf::prompt},
    {"chat", "", "", kGenerate, Group::chat, "Make the prompt a user's message in the model's chat template.",
     [](Options& o, const Given& g) { o.chat.chat = boolean(g); }},
    {"system", "", "TEXT", kChat, Group::chat, "The system message: how the model is to behave.",
     [](Options& o, const Given& g) { o.chat.system = g.text; }},
    {"enable-thinking", "", "", kGenerate | kChat, Group::chat, "Let the model think before it answers.",
     [](Options& o, const Given& g) { o.chat.enable_thinking = boolean(g); }, OneOf::thinking},
    {"no-enable-thinking", "", "", kGenerate | kChat, Group::chat, "Let it answer at once.",
     [](Options& o, const Given& g) { o.chat.enable_thinking = !boolean(g); }, OneOf::thinking},

    {"input", "", "FILE", kRender | kEmbed | kRerank, Group::prompt,
     "Of render the request, a JSON object. Of others texts, one a line: a JSON string, or an object with the member "
     "text "
     "and perhaps id. - is standard input.",
     [](Options& o, const Given& g) { o.input = g.text; }, OneOf::prompt},
    {"document", "", "TEXT", kRerank, Group::prompt, "A text that may answer the query; may be given several times.",
     [](Options& o, const Given& g) { o.texts.documents.push_back(g.text); }, OneOf::prompt, true},
    {"query", "", "TEXT", kRerank, Group::texts, "What is looked for.",
     [](Options& o, const Given& g) { o.texts.query = g.text; }},
    {"prompt-name", "", "NAME", kEmbed, Group::texts,
     "Put a prompt of the model's config_sentence_transformers.json in front: query or document.",
     [](Options& o, const Given& g) { o.texts.prompt_name = g.text; }, OneOf::text_prompt},
    {"instruction", "", "TASK", kEmbed | kRerank, Group::texts, "What a query is for, in a sentence.",
     [](Options& o, const Given& g) { o.texts.instruction = g.text; }, OneOf::text_prompt},
    {"truncate", "", "", kEmbed | kRerank, Group::texts, "Cut the end of a text that is longer than the model takes.",
     [](Options& o, const Given& g) { o.texts.truncate = boolean(g); }},
    {"template", "", "FILE", kRender, Group::prompt, "A template of its own instead of a model's.",
     [](Options& o, const Given& g) { o.render.template_file = g.text; }},

    {"max-new-tokens", "", "N", kSampling, Group::sampling,
     "The most tokens to generate. Default: 256; in a chat what there is room for.",
     [](Options& o, const Given& g) { o.generate.max_new_tokens = integer(g, 1); }},
    {"temperature", "", "T", kSampling, Group::sampling, "Divides the logits; 0 takes the likeliest token.",
     [](Options& o, const Given& g) { o.generate.temperature = decimal(g, {.min = 0, .max = kLarge}); }},
    {"top-k", "", "K", kSampling, Group::sampling, "Draw from the K likeliest tokens; 0 and -1 are all.",
     [](Options& o, const Given& g) { o.generate.top_k = small_integer(g, -1); }},
    {"top-p", "", "P", kSampling, Group::sampling, "Draw from the likeliest tokens that make up probability P.",
     [](Options& o, const Given& g) { o.generate.top_p = decimal(g, {.min = 0, .max = 1, .above_min = true}); }},
    {"min-p", "", "P", kSampling, Group::sampling, "Draw from tokens at least P times as likely as the likeliest.",
     [](Options& o, const Given& g) { o.generate.min_p = decimal(g, {.min = 0, .max = 1}); }},
    {"repetition-penalty", "", "R", kSampling, Group::sampling,
     "Above 1 makes tokens of the prompt and of the answer less likely.",
     [](Options& o,
        const Given& g) { o.generate.repetition_penalty = decimal(g, {.min = 0, .max = kLarge, .above_min = true}); }},
    {"presence-penalty", "", "R", kSampling, Group::sampling, "Taken from the logit of each token of the answer.",
     [](Options& o, const Given& g) { o.generate.presence_penalty = decimal(g, {.min = -2, .max = 2}); }},
    {"frequency-penalty", "", "R", kSampling, Group::sampling, "The same, times how often the token stands there.",
     [](Options& o, const Given& g) { o.generate.frequency_penalty = decimal(g, {.min = -2, .max = 2}); }},
    {"seed", "", "S", kSampling, Group::sampling, "Makes drawing repeatable. Default: drawn, and printed.",
     [](Options& o, const Given& g) { o.generate.seed = static_cast<std::uint64_t>(integer(g, 0)); }},
    {"stop", "", "STR", kSampling, Group::sampling, "End before this text; may be given several times.",
     [](Options& o, const Given& g) {
       if (g.text.empty()) misuse(g.label, " is empty, expected the text to stop at");
       o.generate.stop.push_back(g.text);
     },
     OneOf::none, true},
    {"ignore-eos", "", "", kGenerate, Group::sampling, "Go on after the tokens that end a text.",
     [](Options& o, const Given& g) { o.generate.ignore_eos = boolean(g); }},
    {"num-return-sequences", "", "N", kGenerate, Group::sampling, "Answers to generate. Default: 1.",
     [](Options& o, const Given& g) { o.generate.num_return_sequences = small_integer(g, 1); }},
    {"assistant-model", "", "MODEL", kGenerate | kServe, Group::speculation,
     "A small model that guesses ahead; the answer is the same, only sooner.",
     [](Options& o, const Given& g) { o.engine.assistant_model = g.text; }, OneOf::drafter},
    {"num-assistant-tokens", "", "K", kGenerate | kServe, Group::speculation,
     "Tokens that it guesses at a time. Default: 5.",
     [](Options& o, const Given& g) { o.engine.num_assistant_tokens = small_integer(g, 1, 64); }},
    {"prompt-lookup-num-tokens", "", "K", kGenerate | kServe, Group::speculation,
     "Guess K tokens ahead from the text so far, without another model.",
     [](Options& o, const Given& g) { o.engine.prompt_lookup_num_tokens = small_integer(g, 1, 64); }, OneOf::drafter},

    {"logprobs", "", "K", kGenerate, Group::output, "With --json: log-probabilities of each token and the K likeliest.",
     [](Options& o, const Given& g) { o.generate.logprobs = small_integer(g, 0); }},
    {"trace", "", "FILE", kGenerate, Group::output,
     "Write what every step did to FILE, for chrome://tracing and ui.perfetto.dev.",
     [](Options& o, const Given& g) { o.engine.trace = g.text; }},
    {"metrics", "", "FILE", kGenerate, Group::output, "Write the engine's counters to FILE in Prometheus' format.",
     [](Options& o, const Given& g) { o.engine.metrics = g.text; }},
    {"top-logprobs", "", "K", kScore, Group::output, "With --json: the K likeliest tokens at each position too.",
     [](Options& o, const Given& g) { o.score.top_logprobs = small_integer(g, 0); }},
    {"dump-logits", "", "FILE", kScore, Group::output,
     "Write all logits to a .safetensors file, float32 [T, vocab_size].",
     [](Options& o, const Given& g) { o.score.dump_logits = g.text; }},
    {"against", "", "MODEL", kScore, Group::output, "Compare with what another model says of the same tokens.",
     [](Options& o, const Given& g) { o.score.against = g.text; }},
    {"against-quantization", "", "KIND", kScore, Group::output,
     "none, int8 or int4: the KIND of the other model, which without --against is the same one. Default none.",
     [](Options& o, const Given& g) {
       o.score.against_quantization = one_of(g, {"none", "int8", "int4"});
     }},
    {"graph", "", "KIND", kInspect, Group::output,
     "Print one graph: context_encoding, chunked_prefill, token_generation or speculation.",
     [](Options& o, const Given& g) { o.inspect.graph = g.text; }},
    {"plan", "", "", kInspect, Group::output, "Print where values live in memory and which kernels run.",
     [](Options& o, const Given& g) { o.inspect.plan = boolean(g); }},
    {"skip-special-tokens", "", "", kDetokenize, Group::output, "Leave control tokens such as <|im_end|> out.",
     [](Options& o, const Given& g) { o.skip_special_tokens = boolean(g); }},
    {"dimensions", "", "D", kEmbed, Group::output,
     "Only the first D numbers of a vector, then normalised (Matryoshka).",
     [](Options& o, const Given& g) { o.texts.dimensions = integer(g, 1); }},
    {"encoding-format", "", "FORMAT", kEmbed, Group::output,
     "With --json: float, or base64 of little-endian float32, as in OpenAI's API.",
     [](Options& o, const Given& g) { o.texts.base64 = one_of(g, {"float", "base64"}) == "base64"; }},
    {"top-n", "", "N", kRerank, Group::output, "Only the N best documents.",
     [](Options& o, const Given& g) { o.texts.top_n = integer(g, 1); }},
    {"json", "", "", kGenerate | kScore | kEmbed | kRerank | kTokenize | kBench | kInspect | kDoctor | kExport | kCache | kPull,
     Group::output, "Print one JSON object.", [](Options& o, const Given& g) { o.json = boolean(g); },
     OneOf::output_form},
    {"jsonl", "", "", kTokenize, Group::output, "Read one JSON string a line and answer each with one object.",
     [](Options& o, const Given& g) { o.jsonl = boolean(g); }, OneOf::output_form},

    {"output", "-o", "DIR", kExport, Group::exports, "The folder to write; it must not be there yet.",
     [](Options& o, const Given& g) { o.exports.output = g.text; }},
    {"target", "", "TARGET", kExport | kInspect, Group::exports,
     "cpu (this machine's), cpu-baseline, cpu-avx2, cpu-avx512, cpu-avx512_bf16, or a GPU such as sm_90. The machine "
     "need not be here.",
     [](Options& o, const Given& g) { o.exports.target = g.text; }},
    {"batch-size", "", "B", kExport | kInspect, Group::exports, "Sequences that run side by side. Default: 1.",
     [](Options& o, const Given& g) { o.exports.batch_size = integer(g, 1, 1 << 16); }},
    {"sequence-length", "", "S", kExport | kInspect, Group::exports,
     "Tokens of a sequence, prompt and answer. Default of an export: what the model allows, at most 4096.",
     [](Options& o, const Given& g) { o.exports.sequence_length = integer(g, 1, kLongest); }},
    {"max-context-length", "", "C", kExport | kInspect, Group::exports,
     "Tokens of a prompt, where prompts are encoded whole. Default: the sequence length.",
     [](Options& o, const Given& g) { o.exports.max_context_length = integer(g, 1, kLongest); }},
    {"prefill-chunk-size", "", "P", kExport | kInspect, Group::exports,
     "Prompts are read in pieces of P tokens; 0: whole. Default: 1024 where sequences are longer than that.",
     [](Options& o, const Given& g) { o.exports.prefill_chunk_size = integer(g, 0, 1 << 20); }},
    {"speculation-length", "", "K", kExport | kInspect, Group::exports,
     "Rows that one pass validates: a token and K - 1 guesses. Default: 0, no speculation.",
     [](Options& o, const Given& g) { o.exports.speculation_length = integer(g, 0, 1024); }},
    {"capacity-factor", "", "F", kExport | kGenerate | kScore | kChat | kBench, Group::exports,
     "Tokens of a prompt that an expert takes in a step, relative to an even share; it drops those that come later. "
     "Default: all. With it answers depend on how a prompt is cut into steps.",
     [](Options& o, const Given& g) { o.common.capacity_factor = decimal(g, {.min = 0, .max = kLarge}); }},
    {"task", "", "TASK", kExport | kInspect, Group::exports,
     "text-generation, or feature-extraction: vectors of texts, and no output head. Default auto: the latter for "
     "embedding models.",
     [](Options& o, const Given& g) {
       o.exports.task = one_of(g, {"auto", "text-generation", "feature-extraction"});
     }},
    {"on-device-sampling", "", "", kExport, Group::exports,
     "Let a device that can choose tokens choose them. This is the default, but with speculation.",
     [](Options& o, const Given& g) { o.exports.on_device_sampling = boolean(g); }, OneOf::on_device_sampling},
    {"no-on-device-sampling", "", "", kExport, Group::exports, "Let the host choose; it chooses the same tokens.",
     [](Options& o, const Given& g) { o.exports.on_device_sampling = !boolean(g); }, OneOf::on_device_sampling},
    {"max-topk", "", "K", kExport, Group::exports,
     "The largest --top-k that an export takes where the device chooses; 0: any. Default: 256.",
     [](Options& o, const Given& g) { o.exports.max_topk = integer(g, 0, 1 << 20); }},
    {"output-logits", "", "", kExport, Group::exports,
     "Give logits beside chosen tokens, for log-probabilities and scores. This is the default.",
     [](Options& o, const Given& g) { o.exports.output_logits = boolean(g); }, OneOf::output_logits},
    {"no-output-logits", "", "", kExport, Group::exports, "Give chosen tokens alone.",
     [](Options& o, const Given& g) { o.exports.output_logits = !boolean(g); }, OneOf::output_logits},
    {"memory-bytes", "", "N", kInspect, Group::exports, "Memory to fit the model in. Default: what is free here.",
     [](Options& o, const Given& g) { o.inspect.memory_bytes = static_cast<std::uint64_t>(integer(g, 1)); }},

    {"n-prompt", "-p", "N,…", kBench, Group::bench, "Prompt lengths to prefill; 0 is none. Default: 512.",
     [](Options& o, const Given& g) { o.bench.n_prompt = integer_list(g, 0); }},
    {"n-gen", "-n", "N,…", kBench, Group::bench, "Tokens to decode; 0 is none. Default: 128.",
     [](Options& o, const Given& g) { o.bench.n_gen = integer_list(g, 0); }},
    {"n-batch", "-b", "N,…", kBench, Group::bench, "Sequences at a time. Default: 1.",
     [](Options& o, const Given& g) { o.bench.n_batch = integer_list(g, 1); }},
    {"depth", "-d", "N,…", kBench, Group::bench, "Tokens in the cache before. Default: 0.",
     [](Options& o, const Given& g) { o.bench.depth = integer_list(g, 0); }},
    {"repeats", "-r", "N", kBench, Group::bench, "Times to measure each. Default: 5.",
     [](Options& o, const Given& g) { o.bench.repeats = small_integer(g, 1); }},
    {"profile", "", "", kBench, Group::bench, "Print which operations take the time.",
     [](Options& o, const Given& g) { o.bench.profile = boolean(g); }},

    {"host", "", "HOST", kServe, Group::serving, "The address to listen on. Default: 127.0.0.1, this machine only.",
     [](Options& o, const Given& g) { o.serve.host = g.text; }},
    {"port", "", "PORT", kServe, Group::serving, "The port; 0: one that is free. Default: 8000.",
     [](Options& o, const Given& g) { o.serve.port = static_cast<std::uint16_t>(integer(g, 0, 65535)); }},
    {"api-key", "", "KEY", kServe, Group::serving, "A key that requests must have; may be given several times.",
     [](Options& o, const Given& g) {
       if (g.text.empty()) misuse(g.label, " is empty, expected a key");
       o.serve.api_keys.push_back(g.text);
     },
     OneOf::none, true},
    {"api-key-file", "", "FILE", kServe, Group::serving, "A file with such keys, one a line.",
     [](Options& o, const Given& g) { o.serve.api_key_file = g.text; }},
    {"served-model-name", "", "NAME", kServe, Group::serving,
     "What requests call the model; may be given several times. Default: MODEL.",
     [](Options& o, const Given& g) { o.serve.served_model_names.push_back(g.text); }, OneOf::none, true},
    {"allowed-origins", "", "ORIGIN", kServe, Group::serving,
     "A web origin whose pages may use the server, or *; may be given several times.",
     [](Options& o, const Given& g) { o.serve.allowed_origins.push_back(g.text); }, OneOf::none, true},
    {"max-num-waiting", "", "N", kServe, Group::serving, "Requests that wait; further ones get 429. Default: 1024.",
     [](Options& o, const Given& g) { o.serve.max_num_waiting = integer(g, 1, kLongest); }},
    {"max-request-bytes", "", "N", kServe, Group::serving, "Of the body of a request. Default: 16777216.",
     [](Options& o, const Given& g) {
       o.serve.max_request_bytes = static_cast<std::uint64_t>(integer(g, 1, kLongest));
     }},
    {"request-timeout-ms", "", "MS", kServe, Group::serving, "Time for an answer. Default: as long as it takes.",
     [](Options& o, const Given& g) { o.serve.request_timeout_ms = integer(g, 1); }},
    {"shutdown-timeout", "", "S", kServe, Group::serving, "Seconds for requests under way at the end. Default: 30.",
     [](Options& o, const Given& g) { o.serve.shutdown_timeout = std::chrono::seconds(integer(g, 0, 86400)); }},
    {"reasoning-field", "", "NAME", kServe, Group::serving,
     "What holds the model's thoughts: reasoning, reasoning_content or both. Default: both.",
     [](Options& o, const Given& g) {
       o.serve.reasoning_field = one_of(g, {"both", "reasoning", "reasoning_content"});
     }},
    {"strict-fields", "", "", kServe, Group::serving, "Refuse requests with fields that nobody knows.",
     [](Options& o, const Given& g) { o.serve.strict_fields = boolean(g); }},
    {"disable-access-log", "", "", kServe, Group::serving, "No line for each request.",
     [](Options& o, const Given& g) { o.serve.access_log = !boolean(g); }},
    {"insecure", "", "", kServe, Group::serving, "No warning where everybody may ask.",
     [](Options& o, const Given& g) { o.serve.insecure = boolean(g); }},
    {"print-config", "", "", kServe, Group::serving, "Print what is in force and where it came from, and end.",
     [](Options& o, const Given& g) { o.serve.print_config = boolean(g); }},

    {"model", "", "MODEL", kModelCommands | kText | kRender | kPull, Group::engine, "The same as MODEL without the flag.",
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
     "int8.",
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

// What other programs call these flags.
constexpr std::pair<std::string_view, std::string_view> kForeignNames[] = {
    {"max-tokens", "max-new-tokens"},
    {"max-length", "max-new-tokens"},
    {"n-predict", "max-new-tokens"},
    {"temp", "temperature"},
    {"top-n-sigma", "min-p"},
    {"tp", "tensor-parallel-size"},
    {"tp-size", "tensor-parallel-size"},
    {"ep", "expert-parallel-size"},
    {"ep-size", "expert-parallel-size"},
    {"ctx-size", "max-model-len"},
    {"context-length", "max-model-len"},
    {"max-seq-len", "max-model-len"},
    {"model-path", "model"},
    {"model-id", "model"},
    {"n", "num-return-sequences"},
    {"best-of", "num-return-sequences"},
    {"repeat-penalty", "repetition-penalty"},
    {"file", "prompt-file"},
    {"num-threads", "threads"},
    {"t", "threads"},
    {"repetitions", "repeats"},
    {"stop-strings", "stop"},
    {"verbose", "log-level"},
};

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replace = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replace, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

std::string commands_with(const Flag& flag) {
  std::string list;
  for (const CommandInfo& command : commands())
    if (flag.commands & command.bit) list += (list.empty() ? "cajal " : ", cajal ") + std::string(command.name);
  return list;
}

std::string suggestion(std::string_view name, std::uint32_t command) {
  std::vector<std::string_view> names;
  for (const Flag& flag : flags())
    if (flag.accepted_by(command)) names.push_back(flag.name);
  for (const auto& [foreign, ours] : kForeignNames)
    if (find_flag(ours, command)) names.push_back(foreign);
  const std::string_view near = nearest(name, names, std::max<std::size_t>(3, name.size() / 2));
  for (const auto& [foreign, ours] : kForeignNames)
    if (foreign == near && !find_flag(near, command)) return std::string(ours);
  return std::string(near);
}

}  // namespace

std::span<const Flag> flags() { return kFlags; }

// What loads and runs a model is common: every command takes it, so that one set of flags fits all.
bool Flag::accepted_by(std::uint32_t command) const {
  const bool common = group == Group::engine && set != nullptr;
  return common || (commands & command) != 0;
}

std::string normalized_name(std::string_view name) {
  name.remove_prefix(std::min(name.find_first_not_of('-'), name.size()));
  std::string result(name);
  std::replace(result.begin(), result.end(), '_', '-');
  return result;
}

const Flag* find_flag(std::string_view normalized, std::uint32_t command) {
  const auto found = std::find_if(kFlags.begin(), kFlags.end(), [&](const Flag& flag) {
    return flag.name == normalized && flag.accepted_by(command);
  });
  return found == kFlags.end() ? nullptr : &*found;
}

const Flag* find_short_flag(std::string_view name, std::uint32_t command) {
  const auto found = std::find_if(kFlags.begin(), kFlags.end(), [&](const Flag& flag) {
    return !flag.short_name.empty() && flag.short_name == name && flag.accepted_by(command);
  });
  return found == kFlags.end() ? nullptr : &*found;
}

std::string environment_name(const Flag& flag) {
  std::string name = "CAJAL_" + std::string(flag.name);
  for (char& c : name) c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

std::string_view nearest(std::string_view name, std::span<const std::string_view> names, std::size_t at_most) {
  std::string_view best;
  std::size_t best_distance = at_most + 1;
  for (const std::string_view candidate : names) {
    // The beginning of a name is as near as one slip.
    const bool begins = name.size() >= 3 && candidate.starts_with(name);
    const std::size_t distance = begins ? 1 : edit_distance(name, candidate);
    if (distance < best_distance && distance < candidate.size()) best = candidate, best_distance = distance;
  }
  return best;
}

void refuse_unknown_flag(std::string_view spelled, std::uint32_t command) {
  const bool is_short = spelled.starts_with('-') && !spelled.starts_with("--");
  const std::string name = normalized_name(spelled);
  const std::string own = detail::join("cajal ", command_of(command).name);
  for (const Flag& flag : kFlags)
    if (is_short ? flag.short_name == spelled : flag.name == name)
      misuse(spelled, " is a flag of ", commands_with(flag), ", not of ", own,
             remedy("leave it out, or see '", own, " --help'"));
  const std::string near = suggestion(name, command);
  misuse(spelled, " is no flag of ", own,
         near.empty() ? remedy("see '", own, " --help'") : remedy("did you mean --", near, "?"));
}

}  // namespace cajal::cli
