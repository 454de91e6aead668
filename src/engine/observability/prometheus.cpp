#include "engine/observability/prometheus.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/utf8.h"

namespace cajal::prometheus {
namespace {

// The fewest digits that read back the same.
std::string number(double value) {
  char digits[32];
  return {digits, std::to_chars(digits, digits + sizeof digits, value).ptr};
}
std::string number(std::int64_t value) { return std::to_string(value); }

// A bucket's bound is part of a series' name, so it is written as Python's client writes it: 1e-05, 0.5, 1.0, 1e+06.
// Others then find the series under the label that they know from vLLM.
std::string bound_text(double bound) {
  char digits[32];
  if (bound < 1e-4 || bound >= 1e6)
    return {digits, std::to_chars(digits, digits + sizeof digits, bound, std::chars_format::scientific).ptr};
  std::string text(digits, std::to_chars(digits, digits + sizeof digits, bound, std::chars_format::fixed).ptr);
  if (text.find('.') == std::string::npos) text += ".0";
  return text;
}

void append_escaped(std::string& out, std::string_view text, bool quotes_too) {
  for (const char c : replace_invalid_utf8(text)) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '\\' || (quotes_too && c == '"')) out += '\\';
    out += c;
  }
}

void append_label(std::string& out, const Label& label) {
  if (!out.empty()) out += ',';
  out += label.first;
  out += "=\"";
  append_escaped(out, label.second, true);
  out += '"';
}

}  // namespace

void Counter::add(std::int64_t n) {
  CAJAL_CHECK(n >= 0, "a counter was to go down by ", -n);
  value_.fetch_add(n, std::memory_order_relaxed);
}

Histogram::Histogram(std::span<const double> bounds)
    : bounds_(bounds.begin(), bounds.end()),
      buckets_(std::make_unique<std::atomic<std::int64_t>[]>(bounds_.size() + 1)) {
  for (std::size_t i = 0; i < bounds_.size(); ++i)
    CAJAL_CHECK(std::isfinite(bounds_[i]) && (i == 0 || bounds_[i - 1] < bounds_[i]), "bound ", i, " is ", bounds_[i]);
}

void Histogram::observe(double value) {
  CAJAL_CHECK(value >= 0 && std::isfinite(value), "observed ", value);
  const auto at = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  buckets_[static_cast<std::size_t>(at)].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(value, std::memory_order_relaxed);
}

Histogram::Snapshot Histogram::snapshot() const {
  Snapshot s;
  for (std::size_t i = 0; i <= bounds_.size(); ++i) {
    s.buckets.push_back(buckets_[i].load(std::memory_order_relaxed));
    s.count += s.buckets.back();
  }
  s.sum = sum_.load(std::memory_order_relaxed);
  return s;
}

std::vector<double> buckets_1_2_5(std::int64_t max_value) {
  CAJAL_CHECK(max_value >= 1, "buckets up to ", max_value);
  std::vector<double> bounds;
  const double last = static_cast<double>(max_value);
  for (double power = 1; power <= last; power *= 10)
    for (const double step : {1.0, 2.0, 5.0})
      if (step * power <= last) bounds.push_back(step * power);
  return bounds;
}

TextWriter::TextWriter(std::span<const Label> labels) {
  for (const Label& label : labels) append_label(labels_, label);
}

void TextWriter::begin(std::string_view name, std::string_view type, std::string_view help) {
  name_ = name;
  if (type == "counter") name_ += "_total";
  text_ += "# HELP ";
  text_ += name_;
  text_ += ' ';
  append_escaped(text_, help, false);
  text_ += "\n# TYPE ";
  text_ += name_;
  text_ += ' ';
  text_ += type;
  text_ += '\n';
}

void TextWriter::series(std::string_view suffix, std::span<const Label> more_labels, std::string_view value) {
  text_ += name_;
  text_ += suffix;
  std::string labels = labels_;
  for (const Label& label : more_labels) append_label(labels, label);
  if (!labels.empty()) {
    text_ += '{';
    text_ += labels;
    text_ += '}';
  }
  text_ += ' ';
  text_ += value;
  text_ += '\n';
}

void TextWriter::sample(const Counter& counter, std::span<const Label> more_labels) {
  series("", more_labels, number(counter.value()));
}

void TextWriter::sample(const Gauge& gauge, std::span<const Label> more_labels) {
  series("", more_labels, number(gauge.value()));
}

void TextWriter::sample(const Histogram& histogram) {
  const Histogram::Snapshot s = histogram.snapshot();
  std::int64_t below = 0;
  for (std::size_t i = 0; i < s.buckets.size(); ++i) {
    below += s.buckets[i];
    const std::string bound = i < histogram.bounds().size() ? bound_text(histogram.bounds()[i]) : "+Inf";
    const Label le[] = {{"le", bound}};
    series("_bucket", le, number(below));
  }
  series("_sum", {}, number(s.sum));
  series("_count", {}, number(s.count));
}

}  // namespace cajal::prometheus
