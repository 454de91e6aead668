#pragma once
// The flags by what they are about, a table a file in flag_tables/; flags() joins them.
#include <span>

#include "cli/flags.h"

namespace cajal::cli {

std::span<const Flag> request_flags();
std::span<const Flag> tool_flags();
std::span<const Flag> serving_flags();
std::span<const Flag> load_flags();
std::span<const Flag> engine_flags();

}  // namespace cajal::cli
