#pragma once
// What --help prints, for 80 columns.
#include <string>
#include <string_view>

#include "cli/commands.h"

namespace cajal::cli {

std::string version_line();
std::string overview();
std::string help_of(const CommandInfo& command);

// `text` as lines of at most `width` columns, broken at spaces; it begins in column `first`, and its other lines after
// `indent` spaces.
std::string wrapped(std::string_view text, std::size_t width, std::size_t indent, std::size_t first);

}  // namespace cajal::cli
