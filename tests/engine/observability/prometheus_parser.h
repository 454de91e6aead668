#pragma once
// Reads Prometheus' text format and forgives nothing: whatever a scraper might refuse or misread is an error here.
#include <charconv>
#include <cmath>
#include <cstddef>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cajal {

using PrometheusLabels = std::map<std::string, std::string>;

struct PrometheusSample {
  std::string name;  // with _bucket, _sum, _count
  PrometheusLabels labels;
  double value = 0;
};

struct PrometheusFamily {
  std::string type, help;
  std::vector<PrometheusSample> samples;
};

class PrometheusParser {
 public:
  // What is wrong with the text, or nothing.
  std::string parse(std::string_view text) {
    if (text.empty() || text.back() != '\n') return "the last line has no end";
    while (!text.empty()) {
      const std::string_view line = text.substr(0, text.find('\n'));
      text.remove_prefix(line.size() + 1);
      std::string why = line.starts_with('#') ? comment(line) : sample(line);
      if (!why.empty()) return std::string(line) + ": " + why;
    }
    for (const auto& [name, family] : families) {
      if (family.samples.empty()) return name + " has no samples";
      const std::string why = family.type == "histogram" ? find_fault(name, family) : "";
      if (!why.empty()) return name + ": " + why;
    }
    return "";
  }

  std::map<std::string, PrometheusFamily> families;

  // The series of that name and those labels among others; NaN without one, or with several.
  double value(std::string_view name, const PrometheusLabels& wanted = {}) const {
    double found = std::numeric_limits<double>::quiet_NaN();
    int count = 0;
    for (const auto& [family_name, family] : families)
      for (const PrometheusSample& s : family.samples) {
        if (s.name != name) continue;
        bool matches = true;
        for (const auto& [key, text] : wanted) matches = matches && s.labels.contains(key) && s.labels.at(key) == text;
        if (matches) found = s.value;
        count += matches;
      }
    return count == 1 ? found : std::numeric_limits<double>::quiet_NaN();
  }

 private:
  static bool is_name(std::string_view name, bool colons) {
    for (std::size_t i = 0; i < name.size(); ++i) {
      const char c = name[i];
      const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (colons && c == ':');
      if (!letter && (i == 0 || c < '0' || c > '9')) return false;
    }
    return !name.empty();
  }

  std::string comment(std::string_view line) {
    const bool is_help = line.starts_with("# HELP ");
    if (!is_help && !line.starts_with("# TYPE ")) return "neither HELP nor TYPE";
    line.remove_prefix(7);
    const std::string name(line.substr(0, line.find(' ')));
    if (!is_name(name, true)) return "no name";
    if (line.size() <= name.size() + 1) return "says nothing";
    const std::string rest(line.substr(name.size() + 1));
    if (is_help) {
      if (families.contains(name)) return "the family comes twice";
      families[name].help = rest;
      current_ = name;
      return "";
    }
    if (current_ != name || !families[name].type.empty()) return "TYPE does not follow its HELP";
    if (rest != "counter" && rest != "gauge" && rest != "histogram") return "no type";
    if (rest == "counter" && !name.ends_with("_total")) return "a counter is called …_total";
    families[name].type = rest;
    return "";
  }

  static std::string labels(std::string_view& rest, PrometheusLabels& into) {
    rest.remove_prefix(1);
    while (!rest.starts_with('}')) {
      const std::string name(rest.substr(0, rest.find('=')));
      if (!is_name(name, false)) return "'" + name + "' is no label";
      rest.remove_prefix(name.size());
      if (!rest.starts_with("=\"")) return "a label without a value";
      rest.remove_prefix(2);
      std::string text;
      for (;; rest.remove_prefix(1)) {
        if (rest.empty()) return "a value without an end";
        if (rest[0] == '"') break;
        if (rest[0] != '\\') {
          text += rest[0];
          continue;
        }
        rest.remove_prefix(1);
        if (rest.empty() || std::string_view("\\\"n").find(rest[0]) == std::string_view::npos) return "no escape";
        text += rest[0] == 'n' ? '\n' : rest[0];
      }
      rest.remove_prefix(1);
      if (!into.emplace(name, text).second) return "the label " + name + " comes twice";
      if (rest.starts_with(',')) rest.remove_prefix(1);
      if (rest.empty()) return "labels without an end";
    }
    rest.remove_prefix(1);
    return "";
  }

  std::string sample(std::string_view line) {
    PrometheusSample s;
    s.name = line.substr(0, line.find_first_of("{ "));
    const PrometheusFamily& family = families[current_];
    if (family.type.empty()) return "no TYPE before it";
    const bool is_plain = s.name == current_;
    const bool is_part = s.name == current_ + "_bucket" || s.name == current_ + "_sum" || s.name == current_ + "_count";
    if (family.type == "histogram" ? !is_part : !is_plain) return "stands among " + current_;
    line.remove_prefix(s.name.size());
    if (line.starts_with('{'))
      if (std::string why = labels(line, s.labels); !why.empty()) return why;
    if (!line.starts_with(' ')) return "no value";
    line.remove_prefix(1);
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), s.value);
    if (error != std::errc() || end != line.data() + line.size()) return "the value is no number";
    if (family.type != "gauge" && !(s.value >= 0)) return "counts below 0";
    if (!seen_.emplace(s.name, s.labels).second) return "the series comes twice";
    families[current_].samples.push_back(std::move(s));
    return "";
  }

  // Of a histogram with one set of labels: buckets ascending and cumulative, the last one +Inf, then sum and count.
  static std::string find_fault(const std::string& name, const PrometheusFamily& family) {
    double bound = -std::numeric_limits<double>::infinity(), below = 0;
    const std::size_t n = family.samples.size();
    if (n < 3) return "too few series";
    for (std::size_t i = 0; i + 2 < n; ++i) {
      const PrometheusSample& s = family.samples[i];
      if (s.name != name + "_bucket" || !s.labels.contains("le")) return "a bucket is missing";
      const std::string& le = s.labels.at("le");
      const bool is_last = i + 3 == n;
      double next = std::numeric_limits<double>::infinity();
      if (is_last != (le == "+Inf")) return "+Inf is not the last bucket";
      if (!is_last) std::from_chars(le.data(), le.data() + le.size(), next);
      if (!(next > bound)) return "bounds do not ascend at " + le;
      if (s.value < below) return "buckets are not cumulative at " + le;
      bound = next;
      below = s.value;
    }
    if (family.samples[n - 2].name != name + "_sum" || family.samples[n - 1].name != name + "_count")
      return "sum and count do not follow";
    return family.samples[n - 1].value == below ? "" : "the buckets do not add up to the count";
  }

  std::string current_;
  std::set<std::pair<std::string, PrometheusLabels>> seen_;
};

}  // namespace cajal
