#pragma once
// How fast a model runs here, and how much of what the machine could do that is. The cases are llama-bench's: prefill
// alone and decode alone, for batches of sequences, with or without tokens in the cache before.
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/cost.h"
#include "engine/model.h"

namespace cajal {

// Either n_prompt or n_gen is 0.
struct BenchCase {
  std::int64_t n_prompt = 0;  // tokens of each sequence that are prefilled, in chunks of up to chunk_size rows
  std::int64_t n_gen = 0;     // steps of one token a sequence
  std::int64_t n_batch = 1;   // sequences
  std::int64_t depth = 0;     // tokens of each sequence in the cache before; put there by a prefill that is not timed
  bool operator==(const BenchCase&) const = default;
};
// A row for each n_prompt and then one for each n_gen, each for every batch and depth (the innermost).
std::vector<BenchCase> bench_cases(std::span<const std::int64_t> n_prompt, std::span<const std::int64_t> n_gen,
                                   std::span<const std::int64_t> n_batch, std::span<const std::int64_t> depth);

struct BenchProgress {
  std::size_t case_index = 0, num_cases = 0;
  int repeat = 0, num_repeats = 0;  // repeat 0 is the warm-up
};

struct BenchOptions {
  int repeats = 5;                // beside the warm-up, which is not counted: a run, of generation at least 64 steps
  std::int64_t chunk_size = 512;  // rows of one prefill step, over all sequences
  std::uint64_t seed = 0;         // of the random tokens
  bool profile = false;           // time each kernel in one further run, which does not count
  std::function<bool(const BenchProgress&)>
      on_progress;  // before each run; false ends the benchmark with what there is
};

struct Spread {
  double median = 0, min = 0, max = 0;
};

// One kernel's share of a run.
struct KernelProfile {
  std::string kernel;
  std::string weight;  // type of the weights that it multiplies by: "bf16[4096,1024]{tile 16x2}"; else empty
  std::uint64_t calls = 0;
  double seconds = 0;
  double percent_of_run = 0;  // of the time of all kernels
  double bytes_per_s = 0;     // weights and KV; of kernels that read neither, activations
  double flops_per_s = 0;
  double percent_of_floor = 0;  // its own floor over its time; 0 where the ceilings are unknown
};

struct BenchResult {
  BenchCase what;
  Spread tokens_per_s;                 // all sequences of the batch together
  Spread seconds;                      // of a run
  double floor_seconds = 0;            // of a run: the sum of its steps' floors; see cost.h
  double percent_of_ceiling = 0;       // floor over median; 0 where the ceilings are unknown
  Cost cost;                           // of a run
  Ceilings ceilings;                   // measured just before and just after; of each the larger
  Spread distinct_experts;             // that a step of generation reads, over layers; only of mixtures of experts
  std::vector<KernelProfile> profile;  // slowest first; only if asked for
};

struct BenchReport {
  std::string device, model, dtype;  // "cpu (avx512_bf16, 2 threads)", the folder, "bf16"
  int threads = 0;
  Ceilings ceilings;  // of each the largest of all results
  std::vector<BenchResult> results;
};

// Times every case. A step is timed as users see it: filling its inputs, running it, and the likeliest token, chosen where the
// engine would choose it: on the device, or by argmax over the logits. The tokens are random, not those that argmax gives, so that runs repeat and experts are used evenly. Throws
// Error(invalid_argument) for a case that the model cannot run, Error(out_of_memory) if the cache would not fit.
BenchReport run_bench(const Model& model, std::span<const BenchCase> cases, const BenchOptions& options = {});

// What this device does at best, measured now, in some tenths of a second. All zero for a device without probes.
Ceilings measure_ceilings(Backend& backend);

}  // namespace cajal
