#pragma once
// Cuts text into the pieces that byte-pair encoding works on, as `pre_tokenizer` of tokenizer.json says.
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/json.h"
#include "text/qwen_scanner.h"
#include "text/regex.h"

namespace cajal {

class PreTokenizer {
 public:
  // Reads the value of the key `pre_tokenizer`. Error(unsupported) names what is not implemented.
  explicit PreTokenizer(const Json& config);

  // Calls `piece(std::string_view)` for each piece of valid UTF-8, left to right. Thread-safe.
  template <class Piece>
  void split(std::string_view text, Piece&& piece) const {
    if (is_qwen_) {
      const QwenScanner scanner(text);
      for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = scanner.next(at);
        piece(text.substr(at, end - at));
        at = end;
      }
      return;
    }
    for (const std::string& part : split_by_steps(text)) piece(std::string_view(part));
  }

  enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

 private:
  struct QwenPattern {};
  struct Split {
    std::variant<std::string, Regex, QwenPattern> pattern;
    Behavior behavior = Behavior::isolated;
    bool invert = false;
  };
  struct PrefixSpace {};  // a space goes before each piece that has none
  using Step = std::variant<Split, PrefixSpace>;

  void add(const Json& config, bool last);
  static std::vector<std::string> apply(const Step& step, std::string_view text);
  std::vector<std::string> split_by_steps(std::string_view text) const;

  std::vector<Step> steps_;
  bool is_qwen_ = false;  // the one step is Qwen's pattern, every match a piece
};

}  // namespace cajal
