// What the engine adds to the model, as ratios of one run on one machine: `engine_bench [FOLDER [DEMO_FOLDER]]`, by default
// the shape of Qwen3-0.6B with dummy weights, and the demo model for guesses.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/answer.h"
#include "engine/bench.h"
#include "engine/llm_engine.h"
#include "text/tokenizer.h"

namespace cajal {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }
double seconds(std::chrono::nanoseconds time) { return std::chrono::duration<double>(time).count(); }

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.at(values.size() / 2);
}

void row(const char* what, const std::string& figure, const char* asked) {
  std::printf("| %-66s | %12s | %12s |\n", what, figure.c_str(), asked);
  std::fflush(stdout);
}

template <class... Values>
std::string text(const char* format, Values... values) {
  char buffer[160];
  std::snprintf(buffer, sizeof buffer, format, values...);
  return buffer;
}

// Adds up what the engine tells.
struct Tally final : EngineObserver {
  void on_update(const SequenceUpdate& update) noexcept override {
    tokens += update.token != nullptr;
    ended += update.finish_reason.has_value();
    if (update.token && !first_token) first_token = Clock::now();
  }
  void on_step(const StepReport& report) noexcept override {
    steps += report.num_prompt_rows == 0;
    if (report.num_prompt_rows > 0 || report.num_decode_rows != num_streams) return;
    if (!all_decode_since) all_decode_since = report.scheduled;
    all_decode_until = report.sampled;
    decoded += report.num_decode_rows;
    waited += seconds(report.finished - report.launched);
    chose += seconds(report.sampled - report.finished);
  }
  void on_draft(std::int64_t guesses, std::int64_t accepted) noexcept override {
    num_guesses += guesses;
    num_accepted += accepted;
  }

  std::int64_t num_streams = 0;  // what counts are the steps in which so many sequences decode, and nobody has a prompt
  std::int64_t tokens = 0, ended = 0, steps = 0, decoded = 0, num_guesses = 0, num_accepted = 0;
  double waited = 0, chose = 0;
  std::optional<std::chrono::nanoseconds> all_decode_since;
  std::chrono::nanoseconds all_decode_until{};
  std::optional<Clock::time_point> first_token;
};

EngineRequest request(RequestId id, std::size_t prompt_length, std::int64_t max_new_tokens) {
  EngineRequest r{.id = id, .deadline = {}, .cache_salt = {}};
  for (std::size_t i = 0; i < prompt_length; ++i)
    r.sequence.prompt.push_back(static_cast<std::int32_t>((i * 7919 + id * 104729) % 4000));
  r.sequence.sampling.temperature = 0;
  r.sequence.max_new_tokens = max_new_tokens;
  return r;
}

void add(EngineCore& core, EngineRequest r) {
  if (const auto refusal = core.add(std::move(r))) throw Error(refusal->code, refusal->message, refusal->remedy);
}

void run_to_the_end(EngineCore& core) {
  while (core.has_work()) core.step();
  core.settle();
}

// --- streams

struct StreamFigures {
  double tokens_per_s = 0, chose_percent = 0;  // of the time
};

// Distinct prompts of 32 tokens, 64 tokens each; the time in which all of them decode.
StreamFigures run_streams(const Model& model, std::int64_t streams) {
  Tally tally;
  tally.num_streams = streams;
  LLMEngineOptions options;
  options.max_num_seqs = streams;
  options.max_model_len = 128;
  LLMEngine engine(model, nullptr, options, tally);
  engine.runner().executable(streams);
  for (std::int64_t i = 0; i < streams; ++i) add(engine.core(), request(static_cast<RequestId>(i), 32, 64));
  run_to_the_end(engine.core());
  const double took = seconds(tally.all_decode_until - *tally.all_decode_since);
  return {static_cast<double>(tally.decoded) / took, 100 * tally.chose / took};
}

// `cajal bench -b streams`, at the depth that the engine's streams have in the middle.
double bench_streams(const Model& model, std::int64_t streams) {
  const BenchCase what{.n_prompt = 0, .n_gen = 16, .n_batch = streams, .depth = 56};
  return run_bench(model, std::span(&what, 1), {.repeats = 1, .on_progress = {}}).results.at(0).tokens_per_s.median;
}

void compare_streams(const Model& model) {
  for (const std::int64_t streams : {1, 16, 64}) {
    std::vector<double> ratios;
    std::vector<double> rates;
    std::vector<double> chose;
    for (int i = 0; i < 3; ++i) {  // in turn, because the machine may change
      const double before = bench_streams(model, streams);
      const StreamFigures engine = run_streams(model, streams);
      const double after = bench_streams(model, streams);
      ratios.push_back(engine.tokens_per_s / ((before + after) / 2));
      rates.push_back(engine.tokens_per_s);
      chose.push_back(engine.chose_percent);
    }
    const std::string what = text("%2d decode streams, of cajal bench -b %d (%.0f tokens/s; choosing %.1f %%)",
                                  static_cast<int>(streams), static_cast<int>(streams), median(rates), median(chose));
    row(what.c_str(), text("%.2f", median(ratios)), streams == 64 ? ">= 0.85" : "");
  }
}

// --- the engine's own work

// A device that takes no time and always says the same.
class NullExecutor final : public Executor {
 public:
  static constexpr std::int64_t kVocabSize = 8;
  std::int64_t vocab_size() const override { return kVocabSize; }
  void launch(const StepInput&) override {}
  [[nodiscard]] bool wait(std::chrono::nanoseconds) override { return true; }
  void read_logits(std::int64_t, std::span<float> into) const override {
    for (std::size_t i = 0; i < into.size(); ++i) into[i] = static_cast<float>(i % 5);
  }
};

constexpr std::int64_t kNumRunning = 256;

double micros_of_sampling() {
  const NullExecutor executor;
  const SequenceRequest r = request(0, 32, 1).sequence;
  std::vector<Answer> answers;
  for (std::int64_t i = 0; i < kNumRunning; ++i) answers.emplace_back(r, nullptr);
  std::vector<float> logits(NullExecutor::kVocabSize), scratch;
  std::vector<double> micros;
  std::int64_t sum = 0;
  for (std::int64_t step = 0; step < 500; ++step) {
    const auto start = Clock::now();
    for (Answer& answer : answers) {
      executor.read_logits(0, logits);
      sum += all_finite(logits);
      sum += answer.choose(logits, step, scratch).chosen.token_id;
    }
    micros.push_back(1e6 * seconds_since(start));
  }
  CAJAL_CHECK(sum > 0);  // so that nothing is left out
  return median(micros);
}

double micros_of_step() {
  NullExecutor executor;
  SteadyClock clock;
  Tally tally;
  EngineCoreOptions options;
  options.max_num_seqs = kNumRunning;
  options.max_model_len = 4096;
  options.num_kv_blocks = 1 + kNumRunning * 64;
  EngineCore core(options, {.executor = executor, .clock = clock, .observer = tally});
  for (std::int64_t i = 0; i < kNumRunning; ++i) {
    EngineRequest r = request(static_cast<RequestId>(i), static_cast<std::size_t>(32 + i * 4), 4096);
    for (std::int32_t& id : r.sequence.prompt) id %= NullExecutor::kVocabSize;
    for (int digit = 0; digit < 3; ++digit)  // so that no two begin alike
      r.sequence.prompt[static_cast<std::size_t>(digit)] = static_cast<std::int32_t>(i >> 3 * digit) % 8;
    add(core, std::move(r));
  }
  while (tally.steps < 20) core.step();
  std::vector<double> micros;
  for (int step = 0; step < 1000; ++step) {
    const auto start = Clock::now();
    core.step();
    micros.push_back(1e6 * seconds_since(start));
  }
  core.abort_all();
  return median(micros);
}

void time_the_books() {
  const double step = micros_of_step(), sampling = micros_of_sampling();
  row("whole step() at 256 sequences, on a device that takes no time", text("%.1f us", step), "");
  row("of that scheduler, cache and reports, without choosing tokens", text("%.1f us", step - sampling), "< 50 us");
}

// --- prefixes and guesses

void time_a_prefix_hit(const Model& model) {
  Tally tally;
  LLMEngineOptions options;
  options.max_num_seqs = 1;
  options.max_model_len = 4200;
  LLMEngine engine(model, nullptr, options, tally);
  engine.runner().executable(1);
  engine.runner().executable(512);
  const auto first_token = [&] {
    tally.first_token.reset();
    const auto start = Clock::now();
    add(engine.core(), request(1, 4096, 1));
    run_to_the_end(engine.core());
    return std::chrono::duration<double>(*tally.first_token - start).count();
  };
  const double cold = first_token();
  std::vector<double> hits(5);
  for (double& hit : hits) hit = first_token();
  const std::string what = text("first token of 4,096 cold (%.2f s), of the same found (%.3f s)", cold, median(hits));
  row(what.c_str(), text("%.0fx", cold / median(hits)), ">= 10x");
}

Tally run_with_guesses(const Model& model, const LLMEngineOptions& options, std::span<const EngineRequest> requests) {
  Tally tally;
  LLMEngine engine(model, nullptr, options, tally);
  for (const EngineRequest& r : requests) add(engine.core(), r);
  run_to_the_end(engine.core());
  return tally;
}

void count_guesses(const Model& demo, const Tokenizer& tokenizer) {
  LLMEngineOptions options;
  options.max_num_seqs = 8;
  options.max_model_len = 512;
  std::vector<EngineRequest> requests;
  for (RequestId id = 0; id < 8; ++id) {
    requests.push_back(request(id, 20 + 10 * id, 100));
    if (id % 2) requests.back().sequence.sampling = {.temperature = 0.9f, .top_p = 0.9f, .seed = id};
  }
  options.assistant_model = &demo;
  const Tally itself = run_with_guesses(demo, options, requests);
  row("the model as its own assistant: right guesses of all",
      text("%.3f", static_cast<double>(itself.num_accepted) / static_cast<double>(itself.num_guesses)), "1.0");

  EngineRequest repeat = request(0, 0, 100);
  repeat.sequence.prompt = tokenizer.encode(
      "<|im_start|>user\nRepeat after me: zilopar menuvak trisodel brakimon felunda gostrepi wivarol pendakis omtrezul"
      "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
  repeat.sequence.eos_token_ids = tokenizer.encode("<|im_end|>");
  options.assistant_model = nullptr;
  options.prompt_lookup_num_tokens = 10;
  const Tally lookup = run_with_guesses(demo, options, std::span(&repeat, 1));
  row("prompt lookup where the answer repeats its prompt: tokens a step",
      text("%.1f", static_cast<double>(lookup.tokens - 1) / static_cast<double>(lookup.steps)), "");
}

int run(int argc, char** argv) {
  const std::string folder = argc > 1 ? argv[1] : "bench/shapes/Qwen3-0.6B";
  const std::string demo_folder = argc > 2 ? argv[2] : "share/demo-model";
  const auto backend = make_backend("auto");
  std::printf("%s, %s\n\n", folder.c_str(), backend->description().c_str());
  row("", "figure", "asked for");
  std::printf("|%s|%s|%s|\n", std::string(68, '-').c_str(), (std::string(13, '-') + ":").c_str(),
              (std::string(13, '-') + ":").c_str());
  time_the_books();
  const Model demo({.folder = demo_folder}, *backend);
  count_guesses(demo, Tokenizer::from_folder(demo_folder));
  const Model model({.folder = folder, .load_format = LoadFormat::dummy}, *backend);
  time_a_prefix_hit(model);
  compare_streams(model);
  return 0;
}

}  // namespace
}  // namespace cajal

int main(int argc, char** argv) {
  try {
    return cajal::run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "engine_bench: %s\n", e.what());
    return 1;
  }
}
