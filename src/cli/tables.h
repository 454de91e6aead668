#pragma once
// Numbers and tables for people.
#include <cstdint>
#include <string>
#include <vector>

namespace cajal::cli {

std::string fixed(double value, int digits);
std::string human_bytes(double bytes);           // "1.50 GiB"
std::string human_seconds(double seconds);       // "12.3 ms"
std::string with_thousands(std::int64_t value);  // "596,049,920"

// Columns as wide as their widest cell, two spaces between; the first column to the left, others to the right.
class Table {
 public:
  explicit Table(std::vector<std::string> head) { rows_.push_back(std::move(head)); }
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace cajal::cli
