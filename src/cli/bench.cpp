// cajal bench: how fast a model runs here, beside what the machine could do.
#include "engine/bench.h"

#include <unistd.h>

#include <iostream>

#include "cli/session.h"
#include "cli/tables.h"
#include "cli/usage_error.h"
#include "engine/ranks/rank_team.h"

namespace cajal::cli {
namespace {

// 0 stands for "none", as in llama-bench: -n 0 leaves decoding out.
std::vector<std::int64_t> lengths(const std::optional<std::vector<int>>& given, int absent) {
  std::vector<std::int64_t> result;
  for (const int n : given.value_or(std::vector<int>{absent}))
    if (n > 0) result.push_back(n);
  return result;
}

std::vector<std::int64_t> counts(const std::optional<std::vector<int>>& given, int absent) {
  const std::vector<int> values = given.value_or(std::vector<int>{absent});
  return {values.begin(), values.end()};
}

std::vector<BenchCase> cases_of(const BenchFlags& flags) {
  auto cases = bench_cases(lengths(flags.n_prompt, 512), lengths(flags.n_gen, 128), counts(flags.n_batch, 1),
                           counts(flags.depth, 0));
  if (cases.empty()) misuse("-p and -n leave nothing to measure", remedy("give one of them a length above 0"));
  return cases;
}

void check_lengths(const std::vector<BenchCase>& cases, std::int64_t max_model_len) {
  for (const BenchCase& c : cases)
    if (c.depth + c.n_prompt + c.n_gen > max_model_len)
      fail(ErrorCode::invalid_argument, "a case of ", c.depth + c.n_prompt + c.n_gen, " tokens (depth ", c.depth,
           ") is longer than the ", max_model_len, " that the model takes", remedy("lower -p, -n or -d"));
}

// One line that is written over, on a terminal only.
bool show_progress(const BenchProgress& p) {
  if (isatty(STDERR_FILENO))
    std::cerr << "\rcase " << p.case_index + 1 << " of " << p.num_cases << ", run " << p.repeat << " of "
              << p.num_repeats << "\033[K\r" << std::flush;
  return true;
}

std::string label(const BenchCase& c) {
  std::string text = c.n_prompt > 0 ? "prefill " + std::to_string(c.n_prompt) : "decode " + std::to_string(c.n_gen);
  if (c.depth > 0) text += " at depth " + std::to_string(c.depth);
  return text;
}

Json spread_json(const Spread& s) { return Json::Object{{"median", s.median}, {"min", s.min}, {"max", s.max}}; }

Json ceilings_json(const Ceilings& c) {
  return Json::Object{{"read_gb_per_s", c.read_bytes_per_s / 1e9},
                      {"f32_tflops", c.f32_flops_per_s / 1e12},
                      {"bf16_tflops", c.bf16_flops_per_s / 1e12},
                      {"int8_tops", c.int8_ops_per_s / 1e12}};
}

Json profile_json(const std::vector<KernelProfile>& profile) {
  Json::Array list;
  for (const KernelProfile& k : profile)
    list.emplace_back(Json::Object{{"kernel", k.kernel},
                                   {"calls", k.calls},
                                   {"seconds", k.seconds},
                                   {"percent_of_run", k.percent_of_run},
                                   {"gb_per_s", k.bytes_per_s / 1e9},
                                   {"tflops", k.flops_per_s / 1e12},
                                   {"percent_of_floor", k.percent_of_floor}});
  return list;
}

Json result_json(const BenchResult& r, bool profile) {
  Json json = Json::Object{{"n_prompt", r.what.n_prompt},
                           {"n_gen", r.what.n_gen},
                           {"n_batch", r.what.n_batch},
                           {"depth", r.what.depth},
                           {"tokens_per_s", spread_json(r.tokens_per_s)},
                           {"percent_of_ceiling", r.percent_of_ceiling},
                           {"seconds", spread_json(r.seconds)},
                           {"floor_seconds", r.floor_seconds}};
  if (r.distinct_experts.max > 0) json.set("distinct_experts", spread_json(r.distinct_experts));
  if (profile) json.set("profile", profile_json(r.profile));
  return json;
}

Json report_json(const BenchReport& report, const Session& session, bool profile) {
  Json::Array results;
  for (const BenchResult& r : report.results) results.push_back(result_json(r, profile));
  return Json::Object{{"device", report.device},
                      {"model", session.name},
                      {"dtype", flag_word(session.model->dtype())},
                      {"quantization", to_string(session.model->quantization())},
                      {"kv_cache_dtype", to_string(session.model->kv_cache_dtype())},
                      {"threads", report.threads},
                      {"ceilings", ceilings_json(report.ceilings)},
                      {"results", std::move(results)}};
}

std::string profile_text(const BenchResult& r) {
  Table table({label(r.what), "calls", "time", "% of run", "GB/s", "TFLOP/s", "% of ceiling"});
  for (const KernelProfile& k : r.profile)
    table.add({k.kernel, std::to_string(k.calls), human_seconds(k.seconds), fixed(k.percent_of_run, 1),
               fixed(k.bytes_per_s / 1e9, 1), fixed(k.flops_per_s / 1e12, 3), fixed(k.percent_of_floor, 0)});
  return "\n" + table.text();
}

std::string experts_text(const BenchResult& r) {
  return detail::join(label(r.what), ", batch ", r.what.n_batch, ": a step reads ", fixed(r.distinct_experts.median, 1),
                      " distinct experts a layer (", fixed(r.distinct_experts.min, 0), " to ",
                      fixed(r.distinct_experts.max, 0), ")\n");
}

std::string report_text(const BenchReport& report, const Session& session, bool profile) {
  Table table({"test", "batch", "tokens/s", "min", "max", "% of ceiling"});
  for (const BenchResult& r : report.results)
    table.add({label(r.what), std::to_string(r.what.n_batch), fixed(r.tokens_per_s.median, 2),
               fixed(r.tokens_per_s.min, 2), fixed(r.tokens_per_s.max, 2), fixed(r.percent_of_ceiling, 1)});
  const Ceilings& c = report.ceilings;
  std::string text =
      detail::join(session.name, ", ", flag_word(session.model->dtype()), ", ", report.device, "\nreads ",
                   fixed(c.read_bytes_per_s / 1e9, 1), " GB/s, multiplies ", fixed(c.f32_flops_per_s / 1e12, 2),
                   " TFLOP/s in f32, ", fixed(c.bf16_flops_per_s / 1e12, 2), " in bf16, ",
                   fixed(c.int8_ops_per_s / 1e12, 2), " TOP/s in int8\n\n", table.text());
  for (const BenchResult& r : report.results)
    if (r.distinct_experts.max > 0) text += experts_text(r);
  if (profile)
    for (const BenchResult& r : report.results) text += profile_text(r);
  return text;
}

void check_batches(const std::vector<BenchCase>& cases, const NeuronConfig& limits) {
  for (const BenchCase& c : cases)
    if (c.n_batch > limits.batch_size)
      fail(ErrorCode::invalid_argument, "The specified batch_size (", c.n_batch,
           ") exceeds the model static batch size (", limits.batch_size, ")",
           remedy("lower -b, or export the model with --batch-size ", c.n_batch));
}

}  // namespace

void run_bench(CommandContext& context) {
  const Options& o = context.options;
  const std::vector<BenchCase> cases = cases_of(o.bench);
  SessionBuilder builder(o.common, o.common.model, context.environment, context.ranks);
  const Session session = std::move(builder).load();
  check_lengths(cases, session.max_model_len);
  if (session.limits) check_batches(cases, *session.limits);
  cajal::BenchOptions options;
  options.repeats = o.bench.repeats.value_or(options.repeats);
  options.profile = o.bench.profile;
  if (session.backend->name() == "cuda") options.chunk_size = 8192;  // a GPU wants more rows than fit a CPU's caches
  options.on_progress = show_progress;
  BenchReport report = cajal::run_bench(*session.model, cases, options);
  if (context.ranks) report.device = context.ranks->description();
  if (isatty(STDERR_FILENO)) std::cerr << "\033[K" << std::flush;
  context.out.write(o.json ? to_json(report_json(report, session, o.bench.profile)) + "\n"
                           : report_text(report, session, o.bench.profile));
}

}  // namespace cajal::cli
