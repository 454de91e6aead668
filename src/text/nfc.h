#pragma once
// Unicode normalisation form C, with the Unicode 9.0 data that the Hugging Face tokenizers library normalises with: marks
// assigned later neither reorder nor compose.
#include <optional>
#include <string>
#include <string_view>

namespace cajal {

// The NFC of valid UTF-8, or nothing when a quick look shows that the text is its own NFC.
std::optional<std::string> to_nfc(std::string_view text);

}  // namespace cajal
