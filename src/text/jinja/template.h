#pragma once
// Jinja templates as Hugging Face's chat templates use them: compiled once, rendered often.
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "text/jinja/failure.h"
#include "text/jinja/limits.h"
#include "text/jinja/str.h"

namespace cajal::jinja {

namespace ast {
struct Template;
}

struct Output {
  std::string text;
  std::vector<ByteSpan> user;  // the bytes of `text` that came from strings of the variables, in order
};

struct RenderOptions {
  // Variables whose text counts as the template's own. A variable of the same name takes precedence.
  std::vector<std::pair<std::string, std::string>> own_variables;
  std::vector<std::pair<std::string, Json>> defaults;  // of variables that are absent
  std::optional<std::tm> now;                          // what strftime_now formats; without it that function fails
  Limits limits;
};

// Immutable; may be rendered from many threads at once.
class Template {
 public:
  // `what` names the template in messages. TemplateError says what is wrong, and in which line.
  explicit Template(std::string_view source, std::string_view what = "chat template");

  // `variables` is an object. TemplateError says what went wrong, and in which line.
  Output render(const Json& variables, const RenderOptions& options = {}) const;

 private:
  std::shared_ptr<const ast::Template> tree_;
};

}  // namespace cajal::jinja
