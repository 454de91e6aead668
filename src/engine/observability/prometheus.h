#pragma once
// Counters, gauges and histograms that threads may read while others write, and the text that Prometheus scrapes.
// Recording takes no lock and allocates nothing; all memory orders are relaxed, so that a reader sees each value whole but
// not necessarily two values of the same moment.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cajal::prometheus {

// Only grows.
class Counter {
 public:
  void add(std::int64_t n = 1);  // n >= 0
  std::int64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::int64_t> value_{0};
};

class Gauge {
 public:
  void set(double value) { value_.store(value, std::memory_order_relaxed); }
  double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

class Histogram {
 public:
  // Upper bounds, each inside its bucket, ascending; the bucket of everything above them is implied.
  explicit Histogram(std::span<const double> bounds);

  void observe(double value);  // finite and >= 0

  // What was observed until some moment. The number of observations is the sum of the buckets, never something counted
  // apart, so that the two agree in whatever moment a reader comes.
  struct Snapshot {
    std::vector<std::int64_t> buckets;  // [bounds + 1], each by itself
    std::int64_t count = 0;
    double sum = 0;
  };
  Snapshot snapshot() const;
  const std::vector<double>& bounds() const { return bounds_; }

 private:
  std::vector<double> bounds_;
  std::unique_ptr<std::atomic<std::int64_t>[]> buckets_;
  std::atomic<double> sum_{0};
};

// 1, 2, 5, 10, 20 … as far as max_value, which is at least 1.
std::vector<double> buckets_1_2_5(std::int64_t max_value);

using Label = std::pair<std::string_view, std::string_view>;

// Writes Prometheus' text format, version 0.0.4. Every series has the labels that the writer was made with.
class TextWriter {
 public:
  explicit TextWriter(std::span<const Label> labels);

  // Begin a family; the samples that follow are its. A counter's name has no "_total", which is added.
  void begin(std::string_view name, std::string_view type, std::string_view help);
  void sample(const Counter& counter, std::span<const Label> more_labels = {});
  void sample(const Gauge& gauge, std::span<const Label> more_labels = {});
  void sample(const Histogram& histogram);

  std::string take() { return std::move(text_); }

 private:
  void series(std::string_view suffix, std::span<const Label> more_labels, std::string_view value);

  std::string labels_;  // name="value",… without braces
  std::string name_;    // of the family's series
  std::string text_;
};

}  // namespace cajal::prometheus
