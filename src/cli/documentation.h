#pragma once
// What is installed beside the program, written from the same table of flags that the program reads: its manual page and
// the completion of its command line.
#include <string>
#include <string_view>

namespace cajal::cli {

std::string man_page();  // cajal(1), for man

// The script that completes cajal's arguments in "bash", "zsh" or "fish". UsageError for another shell.
std::string completion(std::string_view shell);

}  // namespace cajal::cli
