#include "load/statistics.h"

#include <algorithm>
#include <cmath>

namespace cajal::load {
namespace {

double mean_of(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

// Tokens of the second that had most of them, counted from the first request. What comes in one piece is one token here, as
// it is for vLLM.
double best_second(std::span<const RequestOutcome> outcomes, double begin) {
  std::vector<double> seconds;
  const auto count = [&](double time) {
    const auto second = static_cast<std::size_t>(std::max(0.0, time - begin));
    if (seconds.size() <= second) seconds.resize(second + 1);
    ++seconds[second];
  };
  for (const RequestOutcome& o : outcomes) {
    if (!o.success()) continue;
    double at = o.start + o.ttft;
    count(at);
    for (const double gap : o.itl) count(at += gap);
  }
  return seconds.empty() ? 0 : *std::max_element(seconds.begin(), seconds.end());
}

// How many ran at a time at most: one that ends when another begins does not run beside it.
std::int64_t most_at_a_time(std::span<const RequestOutcome> outcomes) {
  std::vector<std::pair<double, int>> events;
  for (const RequestOutcome& o : outcomes) {
    if (!o.success()) continue;
    events.emplace_back(o.start, 1);
    events.emplace_back(o.start + o.latency, -1);
  }
  std::sort(events.begin(), events.end());
  std::int64_t now = 0, most = 0;
  for (const auto& [time, change] : events) most = std::max(most, now += change);
  return most;
}

}  // namespace

double percentile(std::span<const double> sorted, double p) {
  if (sorted.empty()) return 0;
  const double at = p / 100 * static_cast<double>(sorted.size() - 1);
  const auto below = std::min(static_cast<std::size_t>(at), sorted.size() - 1);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (at - static_cast<double>(below));
}

Distribution distribution_of(std::vector<double> values, std::span<const double> percentiles) {
  std::sort(values.begin(), values.end());
  Distribution result;
  result.mean = mean_of(values);
  result.median = percentile(values, 50);
  for (const double value : values) result.std += (value - result.mean) * (value - result.mean);
  if (!values.empty()) result.std = std::sqrt(result.std / static_cast<double>(values.size()));
  for (const double p : percentiles) result.percentiles.emplace_back(p, percentile(values, p));
  return result;
}

double time_per_output_token(const RequestOutcome& o) {
  return o.output_tokens > 1 ? (o.latency - o.ttft) / static_cast<double>(o.output_tokens - 1) : 0;
}

bool is_good(const RequestOutcome& o, const Goodput& goodput) {
  return o.success() && (!goodput.ttft || o.ttft <= *goodput.ttft) &&
         (!goodput.tpot || time_per_output_token(o) <= *goodput.tpot) && (!goodput.e2el || o.latency <= *goodput.e2el);
}

Summary summarize(std::span<const RequestOutcome> outcomes, double duration, std::span<const double> percentiles,
                  const Goodput& goodput) {
  Summary summary;
  summary.duration = duration;
  std::vector<double> ttfts, tpots, itls, e2els, queued, with_queue;
  double begin = 0;
  for (const RequestOutcome& o : outcomes) {
    if (!o.success()) {
      ++summary.failed;
      continue;
    }
    begin = summary.completed == 0 ? o.start : std::min(begin, o.start);
    ++summary.completed;
    summary.good += is_good(o, goodput);
    summary.total_input_tokens += o.prompt_len;
    summary.total_output_tokens += o.output_tokens;
    ttfts.push_back(o.ttft);
    if (o.output_tokens > 1) tpots.push_back(time_per_output_token(o));
    itls.insert(itls.end(), o.itl.begin(), o.itl.end());
    e2els.push_back(o.latency);
    queued.push_back(o.client_queue_time);
    with_queue.push_back(o.latency + o.client_queue_time);
  }
  summary.max_output_tokens_per_s = best_second(outcomes, begin);
  summary.max_concurrent_requests = most_at_a_time(outcomes);
  summary.ttft = distribution_of(std::move(ttfts), percentiles);
  summary.tpot = distribution_of(std::move(tpots), percentiles);
  summary.itl = distribution_of(std::move(itls), percentiles);
  summary.e2el = distribution_of(std::move(e2els), percentiles);
  summary.client_queue_time = distribution_of(std::move(queued), percentiles);
  summary.e2el_including_client_queue = distribution_of(std::move(with_queue), percentiles);
  return summary;
}

}  // namespace cajal::load
