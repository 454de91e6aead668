#pragma once
// What a template may use up. A template comes with a model and its variables with a request: neither is trusted, so
// every loop and every allocation is counted.
#include <cstddef>
#include <cstdint>

namespace cajal::jinja {

// Fixed limits of templates, met while parsing.
inline constexpr std::size_t kMaxTemplateBytes = std::size_t{4} << 20;
inline constexpr int kMaxParseDepth = 100;  // brackets, operators or blocks inside one another
// Lists and dictionaries inside one another, whether they come from a request or are made by the template.
inline constexpr int kMaxValueDepth = 100;
inline constexpr std::int64_t kMaxRange = 100000;  // elements of range(), as Jinja's sandbox has it

// What one rendering may use.
struct Limits {
  std::uint64_t steps = 20'000'000;                       // expressions, statements, elements, and bytes / 32
  std::uint64_t produced_bytes = std::uint64_t{1} << 30;  // everything that operations made, kept or not
  std::size_t string_bytes = std::size_t{64} << 20;       // one string; the output is one too
  int call_depth = 100;                                   // macros inside one another
  int eval_depth = 800;                                   // expressions and blocks inside one another, through macros
};

}  // namespace cajal::jinja
