#pragma once
// The page at "/": one HTML file that needs nothing from elsewhere, joined at build time from src/server/page/.
#include <string_view>

namespace cajal {

std::string_view chat_page();
// The value of Content-Security-Policy to send with it: only its own style and script, and requests to where it came from.
std::string_view chat_page_policy();

}  // namespace cajal
