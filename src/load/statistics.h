#pragma once
// What a load has shown: of each request when its answer came, and of all of them the figures that vLLM's benchmark gives.
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace cajal::load {

// One request, in seconds of the run's clock.
struct RequestOutcome {
  std::string error;             // empty: the answer is complete
  double start = 0;              // when it was sent
  double client_queue_time = 0;  // how long it waited for its turn here, under --max-concurrency
  double ttft = 0;               // from start to the first token
  double latency = 0;            // and to the last
  std::vector<double> itl;       // between what came and what came next
  std::int64_t prompt_len = 0;   // that was meant
  std::int64_t output_tokens = 0;
  std::string generated_text;

  bool success() const { return error.empty(); }
};

// The p-th percentile (0 to 100), linear between neighbours as NumPy's; 0 of nothing. `sorted` ascends.
double percentile(std::span<const double> sorted, double p);

struct Distribution {
  double mean = 0, median = 0, std = 0;  // std of the whole population
  std::vector<std::pair<double, double>> percentiles;
};
Distribution distribution_of(std::vector<double> values, std::span<const double> percentiles);

// What makes a request a good one, in seconds; what is absent is not asked for.
struct Goodput {
  std::optional<double> ttft, tpot, e2el;
  bool asked() const { return ttft || tpot || e2el; }
};
bool is_good(const RequestOutcome& outcome, const Goodput& goodput);
// Seconds a token after the first; 0 where there is only one.
double time_per_output_token(const RequestOutcome& outcome);

struct Summary {
  double duration = 0;  // of the run, seconds
  std::int64_t completed = 0, failed = 0, good = 0, total_input_tokens = 0, total_output_tokens = 0;
  double max_output_tokens_per_s = 0;  // in the best second
  std::int64_t max_concurrent_requests = 0;
  // In seconds, of requests that were answered. The last two are of use under --max-concurrency only.
  Distribution ttft, tpot, itl, e2el, client_queue_time, e2el_including_client_queue;

  double request_throughput() const { return per_second(completed); }
  double request_goodput() const { return per_second(good); }
  double output_throughput() const { return per_second(total_output_tokens); }
  double total_token_throughput() const { return per_second(total_input_tokens + total_output_tokens); }

 private:
  double per_second(std::int64_t count) const { return duration > 0 ? static_cast<double>(count) / duration : 0; }
};
Summary summarize(std::span<const RequestOutcome> outcomes, double duration, std::span<const double> percentiles,
                  const Goodput& goodput);

}  // namespace cajal::load
