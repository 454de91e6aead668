#pragma once
// Texts from a file, one a line.
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace cajal::cli {

struct TextLine {
  std::string text;
  Json id;  // null: the line gives none
};

// Each line is a JSON string, or an object with the text as its member "text" or `other_key` and perhaps an "id"; empty
// lines are passed over. Error(data_loss) names `what` and the number of a line that is neither.
std::vector<TextLine> read_text_lines(std::string_view content, std::string_view what, std::string_view other_key);

}  // namespace cajal::cli
