#pragma once
// Character data that tools/make_case_tables.py took from Python. Private to case.cpp.
#include <cstdint>
#include <span>

namespace cajal::jinja::case_tables {

// first, first + stride, ... last.
struct Range {
  char32_t first, last;
  std::uint8_t stride;
};
// first, first + stride, ... last map to themselves plus delta.
struct Mapping {
  char32_t first, last;
  std::uint8_t stride;
  std::int32_t delta;
};
struct Several {
  char32_t from;
  const char32_t* to;  // ends with 0
};

std::span<const Range> unprintable();
std::span<const Range> decimals();
std::span<const Range> lowers();
std::span<const Range> uppers();
std::span<const Range> titles();
std::span<const Mapping> upper();
std::span<const Several> upper_several();
std::span<const Mapping> lower();
std::span<const Several> lower_several();
std::span<const Mapping> title();
std::span<const Several> title_several();

}  // namespace cajal::jinja::case_tables
