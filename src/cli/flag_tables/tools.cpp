// Of export, inspect and bench.
#include "cli/flag_tables.h"

#include <array>

#include "cli/values.h"

namespace cajal::cli {
namespace {

constexpr std::int64_t kLongest = std::int64_t{1} << 30;  // of any sequence
constexpr double kLarge = 1e6;                            // beyond it no parameter makes a difference

constexpr auto kFlags = std::to_array<Flag>({
    {"output", "-o", "DIR", kExport, Group::exports, "The folder to write; it must not be there yet.",
     [](Options& o, const Given& g) { o.exports.output = g.text; }},
    {"target", "", "TARGET", kExport | kInspect, Group::exports,
     "cpu (this machine's), cpu-baseline, cpu-avx2, cpu-avx512, cpu-avx512_vnni, cpu-avx512_bf16, cpu-amx, or a GPU "
     "such as sm_90. The machine "
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
    {"capacity-factor", "", "F", kExport | kGenerate | kScore | kChat | kServe | kBench, Group::exports,
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
});

}  // namespace

std::span<const Flag> tool_flags() { return kFlags; }

}  // namespace cajal::cli
