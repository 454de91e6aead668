#pragma once
// Strings that remember which of their bytes came from the variables ("user" text) and which from the template.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/failure.h"
#include "text/jinja/limits.h"

namespace cajal::jinja {

struct ByteSpan {
  std::size_t begin, end;
  bool operator==(const ByteSpan&) const = default;
};

// Counts what a rendering uses; going over a limit is a Failure.
class Meter {
 public:
  explicit Meter(const Limits& limits) : limits_(limits) {}

  void step(std::uint64_t n = 1) {
    steps_ += n;
    if (steps_ > limits_.steps) [[unlikely]]
      fail_steps();
  }
  // Bytes of a value that is about to be made. Call it before allocating.
  void produce(std::uint64_t bytes) {
    produced_ += bytes;
    if (produced_ > limits_.produced_bytes) [[unlikely]]
      fail_produced();
    step(bytes / 32);
  }
  void check_string(std::uint64_t bytes) const {
    if (bytes > limits_.string_bytes) [[unlikely]]
      fail_string();
  }
  const Limits& limits() const { return limits_; }

 private:
  [[noreturn]] void fail_steps() const;
  [[noreturn]] void fail_produced() const;
  [[noreturn]] void fail_string() const;

  Limits limits_;
  std::uint64_t steps_ = 0, produced_ = 0;
};

// Valid UTF-8, immutable.
struct Str {
  std::string bytes;
  std::vector<ByteSpan> user;  // sorted, apart from one another, not empty
  std::size_t length = 0;      // in code points
  bool markup = false;         // made by `safe` or `escape`: what is added to it gets escaped

  bool is_ascii() const { return length == bytes.size(); }
  bool is_user(std::size_t at) const;
  // The byte at which code point `index` begins; `index` may be `length`.
  std::size_t offset_of(std::size_t index) const;
};
using StrRef = std::shared_ptr<const Str>;

StrRef make_str(std::string bytes, bool user = false);

// Puts strings together, and what is known about their bytes.
class StrBuilder {
 public:
  explicit StrBuilder(Meter& meter) : meter_(meter) {}

  void add(std::string_view text, bool user = false);
  void add(const Str& text) { add(text, 0, text.bytes.size()); }
  void add(const Str& text, std::size_t begin, std::size_t end);  // bytes
  std::size_t size() const { return str_.bytes.size(); }
  Meter& meter() { return meter_; }

  // Both leave the builder empty.
  StrRef finish(bool markup = false);
  Str take();

 private:
  void mark(std::size_t begin, std::size_t end);

  Meter& meter_;
  Str str_;
};

StrRef substring(Meter& meter, const StrRef& text, std::size_t begin, std::size_t end);  // bytes

}  // namespace cajal::jinja
