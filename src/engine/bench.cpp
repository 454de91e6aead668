#include "engine/bench.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <random>
#include <set>

#include "backends/cpu/isa.h"
#include "backends/cpu/probe.h"
#include "backends/device_rates.h"
#include "base/checked.h"
#include "engine/model_runner.h"
#include "engine/sampler.h"
#include "engine/scheduling/kv_cache_manager.h"

namespace cajal {
namespace {

// Keeps what the probes read, which takes longer to make than to read.
class CeilingProbe {
 public:
  explicit CeilingProbe(Backend& backend) : backend_(backend), pool_(backend.host_threads()) {
    if (backend.name() == "cpu") memory_.emplace();
  }

  Ceilings measure() {
    if (!memory_) {
      const DeviceRates rates = measure_device_rates(backend_);
      return {rates.read_bytes_per_s, rates.f32_flops_per_s, rates.bf16_flops_per_s, 0};
    }
    return {best_of([&] { return memory_->rate(pool_, isa_); }), multiply_rate(cpu::Multiply::f32),
            multiply_rate(cpu::Multiply::bf16), multiply_rate(cpu::Multiply::int8)};
  }

 private:
  template <class Rate>
  static double best_of(const Rate& rate) {
    constexpr int kRuns = 16;  // the best counts: others disturb some
    double best = 0;
    for (int i = 0; i < kRuns; ++i) best = std::max(best, rate());
    return best;
  }
  double multiply_rate(cpu::Multiply type) {
    return best_of([&] { return cpu::multiply_rate(pool_, type, isa_); });
  }

  Backend& backend_;
  ThreadPool& pool_;
  std::uint32_t isa_ = cpu::detect_isa();
  std::optional<cpu::ReadProbe> memory_;
};

// A step that is timed: everything that does not depend on the clock is made beforehand.
struct PlannedStep {
  std::vector<TokenRow> rows;
  StepShape shape;
};

// One case's sequences: their tokens, their blocks of the cache, their steps.
class CaseRunner {
 public:
  CaseRunner(const Model& model, const BenchCase& what, const BenchOptions& options, bool chosen_experts = false)
      : what_(what),
        length_(what.depth + what.n_prompt + what.n_gen),
        chunk_size_(options.chunk_size),
        rng_(options.seed),
        runner_(model, limits(length_, what, options, chosen_experts)),
        kv_({.num_blocks = runner_.limits().num_kv_blocks,
             .max_blocks_per_seq = ceil_div(length_, kKvBlockSize),
             .enable_prefix_caching = false}),
        logits_(static_cast<std::size_t>(runner_.vocab_size())) {
    for (std::int64_t s = 0; s < what.n_batch; ++s) {
      const auto id = static_cast<KVCacheManager::SequenceId>(s);
      CAJAL_CHECK(kv_.add(id, {}) && kv_.reserve(id, 0, length_));
      tables_.push_back(kv_.block_table(id));
    }
    fill_ = prefill_steps(0, what.depth, false);
    steps_ = what.n_prompt > 0 ? prefill_steps(what.depth, what.n_prompt, true) : decode_steps();
  }

  void fill_cache() { run(fill_); }
  // What the steps turned out to read, once they have run.
  void learn_choosing_bytes() {
    for (PlannedStep& step : steps_)
      step.shape.choosing_bytes =
          runner_.executable(static_cast<std::int64_t>(step.rows.size())).choosing_bytes(step.shape.num_logits);
  }
  double timed_run() {
    const auto start = std::chrono::steady_clock::now();
    run(steps_);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  const std::vector<PlannedStep>& steps() const { return steps_; }
  ModelRunner& runner() { return runner_; }

  // Of the first step of generation: how many experts of each layer some sequence chose.
  std::vector<double> distinct_experts(const Qwen3Config& config) {
    fill_cache();
    run(std::span(steps_).first(1));
    std::vector<double> counts;
    for (const bool sparse : config.sparse_layer) {
      if (!sparse) continue;
      std::set<std::int32_t> chosen;
      for (std::int64_t row = 0; row < what_.n_batch; ++row)
        for (const std::int32_t id : runner_.chosen_experts(static_cast<std::int64_t>(counts.size()), row))
          if (id >= 0) chosen.insert(id);
      counts.push_back(static_cast<double>(chosen.size()));
    }
    return counts;
  }

  static RunnerLimits limits(std::int64_t length, const BenchCase& what, const BenchOptions& options,
                             bool chosen_experts = false) {
    RunnerLimits l;
    l.outputs.chosen_experts = chosen_experts;
    l.max_num_seqs = l.max_num_logits = what.n_batch;
    l.max_model_len = length;
    const std::int64_t prefill_rows = what.n_batch * std::max(what.n_prompt, what.depth);
    l.max_num_batched_tokens = std::max(std::min(options.chunk_size, prefill_rows), what.n_gen > 0 ? what.n_batch : 1);
    l.num_kv_blocks = 1 + what.n_batch * ceil_div(length, kKvBlockSize);
    return l;
  }

 private:
  void add_row(PlannedStep& step, std::int64_t sequence, std::int64_t position, bool wants_logits) {
    const auto id = static_cast<std::int32_t>(rng_() % static_cast<std::uint64_t>(runner_.vocab_size()));
    step.rows.push_back({id, static_cast<std::int32_t>(position), static_cast<std::int32_t>(sequence),
                         kv_.slot(static_cast<std::uint64_t>(sequence), position), static_cast<std::int32_t>(length_),
                         wants_logits});
    step.shape.num_logits += wants_logits;
  }

  // Tokens begin .. begin + count of every sequence, one sequence after the other; a step may hold rows of several.
  std::vector<PlannedStep> prefill_steps(std::int64_t begin, std::int64_t count, bool last_wants_logits) {
    std::vector<PlannedStep> steps;
    for (std::int64_t s = 0; s < what_.n_batch; ++s) {
      for (std::int64_t done = 0; done < count;) {
        if (steps.empty() || static_cast<std::int64_t>(steps.back().rows.size()) == chunk_size_) steps.emplace_back();
        PlannedStep& step = steps.back();
        const std::int64_t rows = std::min(chunk_size_ - static_cast<std::int64_t>(step.rows.size()), count - done);
        step.shape.sequences.push_back({begin + done, rows});
        for (std::int64_t i = 0; i < rows; ++i, ++done)
          add_row(step, s, begin + done, last_wants_logits && done + 1 == count);
      }
    }
    return steps;
  }

  std::vector<PlannedStep> decode_steps() {
    std::vector<PlannedStep> steps(static_cast<std::size_t>(what_.n_gen));
    std::int64_t position = what_.depth;
    for (PlannedStep& step : steps) {
      step.shape = uniform_step(what_.n_batch, {position, 1}, 0);
      for (std::int64_t s = 0; s < what_.n_batch; ++s) add_row(step, s, position, true);
      ++position;
    }
    return steps;
  }

  void run(std::span<const PlannedStep> steps) {
    StepInput input;
    input.block_tables = tables_;
    RowSampling greedy;
    greedy.how = ChooseHow::greedy;
    for (const PlannedStep& step : steps) {
      input.rows = step.rows;
      input.sampling.assign(static_cast<std::size_t>(step.shape.num_logits), greedy);
      runner_.run(input);
      for (std::int64_t i = 0; i < step.shape.num_logits; ++i) {
        if (const RowChoice* choice = runner_.choice(i)) {
          last_token_ = choice->token_id;
          continue;
        }
        runner_.read_logits(i, logits_);
        last_token_ = argmax(logits_);
      }
    }
  }

  BenchCase what_;
  std::int64_t length_, chunk_size_;
  std::mt19937_64 rng_;
  ModelRunner runner_;
  KVCacheManager kv_;
  std::vector<std::span<const std::int32_t>> tables_;
  std::vector<PlannedStep> fill_, steps_;
  std::vector<float> logits_;
  volatile std::int32_t last_token_ = 0;  // so that argmax is computed
};

void check_case(const Model& model, const BenchCase& c, const BenchOptions& options) {
  if ((c.n_prompt > 0) == (c.n_gen > 0) || c.n_prompt < 0 || c.n_gen < 0 || c.n_batch < 1 || c.depth < 0)
    fail(ErrorCode::invalid_argument, "a benchmark of ", c.n_prompt, " prompt tokens, ", c.n_gen,
         " generated tokens, batch ", c.n_batch, ", depth ", c.depth,
         ": expected either prompt or generated tokens, a batch of at least 1, a depth of at least 0");
  const std::int64_t length = c.depth + c.n_prompt + c.n_gen, longest = default_max_model_len(model.config());
  if (length > longest)
    fail(ErrorCode::invalid_argument, "a benchmark of sequences of ", length, " tokens, and the model takes at most ",
         longest, remedy("lower -p, -n or -d"));
  const RunnerLimits limits = CaseRunner::limits(length, c, options);
  const auto bytes = static_cast<std::uint64_t>(
      limits.num_kv_blocks * kKvBlockSize *
      kv_bytes_per_token(model.config(), model.dtype(), model.parallel(), model.kv_cache_dtype()));
  if (const std::uint64_t free = model.free_bytes(); bytes > free)
    fail(ErrorCode::out_of_memory, "the cache of ", c.n_batch, " sequences of ", length, " tokens takes ", bytes,
         " bytes, and ", free, " are free", remedy("lower the batch (-b) or the length (-p, -n, -d)"));
}

Spread spread_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  return {n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2, values.front(), values.back()};
}

// The type of the matrices that a node multiplies by.
std::string weight_of(const Graph& graph, const Node& node) {
  if (std::holds_alternative<ops::Linear>(node.op)) return to_string(graph.type(node.inputs[1]));
  if (const int experts = expert_weights_input(node.op); experts >= 0) {
    const auto at = static_cast<std::size_t>(experts);
    return to_string(graph.type(node.inputs[at])) + ", " + to_string(graph.type(node.inputs[at + 1]));
  }
  return {};
}

// What the profile sums up for one kernel and type of weight.
struct KernelSum {
  std::uint64_t calls = 0;
  double seconds = 0, floor = 0;
  Cost cost;
};

KernelProfile profile_of(const std::string& kernel, const std::string& weight, const KernelSum& sum,
                         double all_seconds) {
  const double bytes = sum.cost.bytes() > 0 ? sum.cost.bytes() : sum.cost.activation_bytes;
  const double per_second = sum.seconds > 0 ? 1 / sum.seconds : 0;
  return {.kernel = kernel,
          .weight = weight,
          .calls = sum.calls,
          .seconds = sum.seconds,
          .percent_of_run = all_seconds > 0 ? 100 * sum.seconds / all_seconds : 0,
          .bytes_per_s = bytes * per_second,
          .flops_per_s = sum.cost.flops() * per_second,
          .percent_of_floor = 100 * sum.floor * per_second};
}

std::vector<KernelProfile> profile(CaseRunner& runner, const Ceilings& ceilings, DType dtype) {
  std::set<Executable*> executables;
  for (const PlannedStep& step : runner.steps())
    executables.insert(&runner.runner().executable(static_cast<std::int64_t>(step.rows.size())));
  for (Executable* e : executables) e->set_profiling(true);
  runner.timed_run();
  for (Executable* e : executables) e->set_profiling(false);

  std::map<std::pair<std::string, std::string>, KernelSum> sums;
  double all_seconds = 0;
  for (const Executable* e : executables) {
    const auto names = e->kernel_names();
    for (const NodeTiming& t : e->timings()) {
      KernelSum& sum = sums[{names[t.node], weight_of(e->graph(), e->graph().node(t.node))}];
      sum.calls += t.calls, sum.seconds += t.seconds, all_seconds += t.seconds;
    }
  }
  for (const PlannedStep& step : runner.steps()) {
    const Executable& e = runner.runner().executable(static_cast<std::int64_t>(step.rows.size()));
    const auto names = e.kernel_names();
    const auto costs = node_costs(e.graph(), step.shape);
    for (std::uint32_t n = 0; n < costs.size(); ++n) {
      const auto sum = sums.find({names[n], weight_of(e.graph(), e.graph().node(n))});
      if (names[n].empty() || sum == sums.end()) continue;
      sum->second.cost += costs[n];
      sum->second.floor += floor_seconds(costs[n], ceilings, dtype);
    }
  }
  std::vector<KernelProfile> kernels;
  kernels.reserve(sums.size());
  for (const auto& [key, sum] : sums) kernels.push_back(profile_of(key.first, key.second, sum, all_seconds));
  std::sort(kernels.begin(), kernels.end(), [](const auto& a, const auto& b) { return a.seconds > b.seconds; });
  return kernels;
}

// Cost and floor of a run are those of its steps, one by one: each has its own context.
void add_floor(BenchResult& result, const Graph& graph, const std::vector<PlannedStep>& steps, DType dtype) {
  for (const PlannedStep& step : steps) {
    const Cost cost = step_cost(graph, step.shape);
    result.cost += cost;
    result.floor_seconds += floor_seconds(cost, result.ceilings, dtype);
  }
  result.percent_of_ceiling = 100 * result.floor_seconds / result.seconds.median;
}

bool has_experts(const Qwen3Config& c) {
  return c.num_experts > 0 && std::ranges::find(c.sparse_layer, true) != c.sparse_layer.end();
}

// Nothing if on_progress wants the benchmark to end.
std::optional<BenchResult> run_case(const Model& model, const BenchCase& what, const BenchOptions& options,
                                    CeilingProbe& probe, BenchProgress at) {
  BenchResult result;
  if (what.n_gen > 0 && has_experts(model.config()))
    result.distinct_experts = spread_of(CaseRunner(model, what, options, true).distinct_experts(model.config()));
  CaseRunner runner(model, what, options);
  result.what = what;
  std::vector<double> seconds;
  for (at.repeat = 0; at.repeat <= at.num_repeats; ++at.repeat) {
    if (options.on_progress && !options.on_progress(at)) return std::nullopt;
    if (at.repeat == 0) {
      runner.fill_cache();
      // The warm-up: of generation enough that whatever a device makes for steps to come, once they pay for it, is made.
      constexpr std::int64_t kStepsOfWarmUp = 64;
      for (std::int64_t steps = 0; steps < (what.n_gen > 0 ? kStepsOfWarmUp : 1);
           steps += std::max<std::int64_t>(what.n_gen, 1))
        runner.timed_run();
      result.ceilings = probe.measure();
    } else {
      seconds.push_back(runner.timed_run());
    }
  }
  result.ceilings = max(result.ceilings, probe.measure());
  result.seconds = spread_of(seconds);
  const auto tokens = static_cast<double>(what.n_batch * (what.n_prompt + what.n_gen));
  runner.learn_choosing_bytes();
  result.tokens_per_s = {tokens / result.seconds.median, tokens / result.seconds.max, tokens / result.seconds.min};
  add_floor(result, model.graph(Bucket{}), runner.steps(), model.dtype());
  if (options.profile) result.profile = profile(runner, result.ceilings, model.dtype());
  return result;
}

}  // namespace

std::vector<BenchCase> bench_cases(std::span<const std::int64_t> n_prompt, std::span<const std::int64_t> n_gen,
                                   std::span<const std::int64_t> n_batch, std::span<const std::int64_t> depth) {
  std::vector<BenchCase> cases;
  const auto add = [&](std::int64_t prompt, std::int64_t gen) {
    if (prompt == 0 && gen == 0) return;  // "-p 0" leaves prefill out
    for (const auto b : n_batch)
      for (const auto d : depth) cases.push_back({prompt, gen, b, d});
  };
  for (const auto n : n_prompt) add(n, 0);
  for (const auto n : n_gen) add(0, n);
  return cases;
}

Ceilings measure_ceilings(Backend& backend) { return CeilingProbe(backend).measure(); }

BenchReport run_bench(const Model& model, std::span<const BenchCase> cases, const BenchOptions& options) {
  if (options.repeats < 1 || options.chunk_size < 1)
    fail(ErrorCode::invalid_argument, "a benchmark of ", options.repeats, " repeats in chunks of ", options.chunk_size,
         ", expected at least 1 of each");
  for (const BenchCase& c : cases) check_case(model, c, options);
  Backend& backend = model.backend();
  CeilingProbe probe(backend);
  BenchReport report{.device = backend.description(),
                     .model = model.name(),
                     .dtype = to_string(model.dtype()),
                     .threads = backend.host_threads().size(),
                     .ceilings = {},
                     .results = {}};
  for (std::size_t i = 0; i < cases.size(); ++i) {
    auto result = run_case(model, cases[i], options, probe, {i, cases.size(), 0, options.repeats});
    if (!result) break;
    report.ceilings = max(report.ceilings, result->ceilings);
    report.results.push_back(std::move(*result));
  }
  return report;
}

}  // namespace cajal
