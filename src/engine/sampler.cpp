#include "engine/sampler.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "engine/counter_rng.h"
#include "tensor/sampling_math.h"

namespace cajal {
namespace {

constexpr float kRemoved = -std::numeric_limits<float>::infinity();
// Inner loops of so many rounds become vector instructions also where the compiler is not told to try hard.
constexpr std::ptrdiff_t kLanes = 16;

void check_range(const char* name, float value, bool ok, const char* range) {
  if (!ok) fail(ErrorCode::invalid_argument, name, " is ", value, ", expected ", range);
}

// Of tokens beside one of `largest`; integers, so that whoever adds them gets the same.
std::uint64_t sum_of_weights(std::span<const float> logits, float largest) {
  CAJAL_CHECK(std::ssize(logits) <= kMostWeights, "a vocabulary of ", logits.size());
  std::uint64_t sum = 0;
  for (const float logit : logits) sum += exp_weight(static_cast<double>(logit) - static_cast<double>(largest));
  return sum;
}

bool more_likely(const TokenLogprob& a, const TokenLogprob& b) {
  return a.logprob > b.logprob || (a.logprob == b.logprob && a.token_id < b.token_id);
}

}  // namespace

void check_sampling_params(const SamplingParams& p) {
  check_range("temperature", p.temperature, std::isfinite(p.temperature) && p.temperature >= 0, "0 (greedy) or more");
  check_range("top_p", p.top_p, p.top_p >= 0 && p.top_p <= 1, "0 to 1");
  check_range("min_p", p.min_p, p.min_p >= 0 && p.min_p <= 1, "0 to 1");
  check_range("repetition_penalty", p.repetition_penalty,
              std::isfinite(p.repetition_penalty) && p.repetition_penalty > 0, "above 0");
  check_range("presence_penalty", p.presence_penalty, p.presence_penalty >= -2 && p.presence_penalty <= 2, "-2 to 2");
  check_range("frequency_penalty", p.frequency_penalty, p.frequency_penalty >= -2 && p.frequency_penalty <= 2,
              "-2 to 2");
  if (p.top_k < 0) fail(ErrorCode::invalid_argument, "top_k is ", p.top_k, ", expected 0 (off) or more");
}

double log_sum_exp(std::span<const float> logits) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  if (!std::isfinite(largest)) return largest;
  bool all_numbers = true;
  for (const float logit : logits) all_numbers &= !std::isnan(logit);
  if (!all_numbers) return std::numeric_limits<double>::quiet_NaN();
  return log_sum_exp(largest, sum_of_weights(logits, largest));
}

double log_sum_exp(float largest, std::uint64_t sum_of_weights) {
  return static_cast<double>(largest) + std::log(std::ldexp(static_cast<double>(sum_of_weights), -kWeightBits));
}

bool all_finite(std::span<const float> logits) {
  constexpr std::uint32_t kExponent = 0x7f800000u;  // all ones in infinities and NaNs only
  const auto special = [](float logit) {
    return std::uint32_t{(std::bit_cast<std::uint32_t>(logit) & kExponent) == kExponent};
  };
  const float* at = logits.data();
  const float* const end = at + logits.size();
  std::array<std::uint32_t, kLanes> found{};
  for (; end - at >= kLanes; at += kLanes)
    for (std::size_t lane = 0; lane < kLanes; ++lane) found[lane] |= special(at[lane]);
  for (; at != end; ++at) found[0] |= special(*at);
  return std::all_of(found.begin(), found.end(), [](std::uint32_t bits) { return bits == 0; });
}

std::vector<TokenLogprob> top_logprobs(std::span<const float> logits, double lse, std::int64_t count) {
  std::vector<TokenLogprob> all(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i)
    all[i] = {static_cast<std::int32_t>(i), static_cast<double>(logits[i]) - lse};
  const auto kept = static_cast<std::ptrdiff_t>(std::min<std::int64_t>(count, static_cast<std::int64_t>(all.size())));
  std::partial_sort(all.begin(), all.begin() + kept, all.end(), more_likely);
  all.resize(static_cast<std::size_t>(kept));
  return all;
}

// std::max_element in two passes that vectors do: the largest value, and where it is first.
std::int32_t argmax(std::span<const float> logits) {
  const float* at = logits.data();
  const float* const end = at + logits.size();
  std::array<float, kLanes> largest;
  largest.fill(kRemoved);
  for (; end - at >= kLanes; at += kLanes)
    for (std::size_t lane = 0; lane < kLanes; ++lane)
      largest[lane] = largest[lane] < at[lane] ? at[lane] : largest[lane];
  for (; at != end; ++at) largest[0] = std::max(largest[0], *at);
  const float value = *std::max_element(largest.begin(), largest.end());
  at = logits.data();
  if (at != end && std::isnan(*at)) return 0;  // nothing is larger than that
  const auto has_value = [value](const float* lanes) {
    std::uint32_t found = 0;
    for (std::size_t lane = 0; lane < kLanes; ++lane) found |= std::uint32_t{lanes[lane] == value};
    return found != 0;
  };
  while (end - at >= kLanes && !has_value(at)) at += kLanes;
  return static_cast<std::int32_t>(std::find(at, end, value) - logits.data());
}

LogitsProcessor::LogitsProcessor(const SamplingParams& params, std::span<const std::int32_t> prompt) : params_(params) {
  check_sampling_params(params);
  if (params_.repetition_penalty != 1) seen_.insert(prompt.begin(), prompt.end());
}

bool LogitsProcessor::changes_nothing() const {
  return params_.greedy() && params_.repetition_penalty == 1 && params_.presence_penalty == 0 &&
         params_.frequency_penalty == 0;
}

void LogitsProcessor::accept(std::int32_t token) {
  if (params_.repetition_penalty != 1) seen_.insert(token);
  if (params_.presence_penalty != 0 || params_.frequency_penalty != 0) ++output_counts_[token];
}

void LogitsProcessor::apply_penalties(std::span<float> logits) const {
  const auto known = [&](std::int32_t token) { return token >= 0 && static_cast<std::size_t>(token) < logits.size(); };
  for (const std::int32_t token : seen_) {
    if (!known(token)) continue;
    float& logit = logits[static_cast<std::size_t>(token)];
    logit = logit < 0 ? logit * params_.repetition_penalty : logit / params_.repetition_penalty;
  }
  for (const auto& [token, count] : output_counts_)
    if (known(token))
      logits[static_cast<std::size_t>(token)] -=
          params_.frequency_penalty * static_cast<float>(count) + params_.presence_penalty;
}

void LogitsProcessor::apply(std::span<float> logits) {
  apply_penalties(logits);
  if (params_.greedy()) return;
  if (params_.temperature != 1)
    for (float& logit : logits) logit /= params_.temperature;
  if (params_.top_k > 0 && params_.top_k < static_cast<std::int64_t>(logits.size())) keep_top_k(logits);
  if (params_.top_p < 1) keep_top_p(logits);
  if (params_.min_p > 0) keep_min_p(logits);
}

void LogitsProcessor::keep_top_k(std::span<float> logits) {
  values_.assign(logits.begin(), logits.end());
  const auto kth = values_.begin() + (params_.top_k - 1);
  std::nth_element(values_.begin(), kth, values_.end(), std::greater<>());
  for (float& logit : logits)
    if (logit < *kth) logit = kRemoved;
}

// Hugging Face sorts ascending and removes while the sum so far is at most 1 - p. Seen from the top: a token stays if the
// more likely ones do not already make up p; the most likely always stays.
void LogitsProcessor::keep_top_p(std::span<float> logits) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  const std::uint64_t total = sum_of_weights(logits, largest);
  heap_.clear();
  for (std::size_t i = 0; i < logits.size(); ++i)
    if (logits[i] > kRemoved) heap_.push_back({static_cast<std::int32_t>(i), static_cast<double>(logits[i])});
  const auto less_likely = [](const TokenLogprob& a, const TokenLogprob& b) { return more_likely(b, a); };
  std::make_heap(heap_.begin(), heap_.end(), less_likely);
  const double p = static_cast<double>(params_.top_p);
  std::uint64_t sum = 0;
  auto end = heap_.end();
  while (end != heap_.begin() && (end == heap_.end() || top_p_keeps(sum, p, total))) {
    std::pop_heap(heap_.begin(), end, less_likely);
    --end;
    sum += exp_weight(end->logprob - static_cast<double>(largest));
  }
  for (auto it = heap_.begin(); it != end; ++it) logits[static_cast<std::size_t>(it->token_id)] = kRemoved;
}

void LogitsProcessor::keep_min_p(std::span<float> logits) const {
  // prob < min_p * largest prob, in logarithms.
  const double threshold = static_cast<double>(*std::max_element(logits.begin(), logits.end())) +
                           std::log(static_cast<double>(params_.min_p));
  for (float& logit : logits)
    if (static_cast<double>(logit) < threshold) logit = kRemoved;
}

RowSampling device_sampling(const SamplingParams& p, std::uint32_t sequence_index, std::int64_t position) {
  RowSampling row;
  if (p.repetition_penalty != 1 || p.presence_penalty != 0 || p.frequency_penalty != 0) return row;
  if (p.greedy()) {
    row.how = ChooseHow::greedy;
    return row;
  }
  // Far from 1, logits that differ may become equal, or infinite.
  constexpr float kLeastTemperature = 1e-3f, kMostTemperature = 1e3f;
  constexpr std::int64_t kMostTopK = 1024;  // more are candidates that a device does not keep
  if (p.temperature < kLeastTemperature || p.temperature > kMostTemperature || p.top_k > kMostTopK) return row;
  row.how = ChooseHow::draw;
  row.temperature = p.temperature;
  row.top_k = static_cast<std::int32_t>(p.top_k);
  row.top_p = static_cast<double>(p.top_p);
  if (p.min_p > 0) row.log_min_p = std::log(static_cast<double>(p.min_p));
  row.key = {p.seed, static_cast<std::uint64_t>(position), sequence_index};
  return row;
}

std::int32_t sample_gumbel(std::span<const float> logits, std::uint64_t seed, std::uint32_t sequence,
                           std::uint64_t position) {
  CounterRng rng(seed, sequence, position);
  std::int32_t best = argmax(logits);
  double best_score =
      static_cast<double>(logits[static_cast<std::size_t>(best)]) + rng.gumbel(static_cast<std::uint32_t>(best));
  for (std::size_t i = 0; i < logits.size(); ++i) {
    // Most tokens could not win with the luckiest draw: theirs need not be computed.
    const double logit = static_cast<double>(logits[i]);
    if (!(logit + CounterRng::kMaxGumbel > best_score)) continue;
    const double score = logit + rng.gumbel(static_cast<std::uint32_t>(i));
    if (score > best_score) best = static_cast<std::int32_t>(i), best_score = score;
  }
  return best;
}

}  // namespace cajal
