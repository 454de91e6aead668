#include "text/jinja/template.h"

#include "base/utf8.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/parser.h"

namespace cajal::jinja {

Template::Template(std::string_view source, std::string_view what)
    : tree_(std::make_shared<const ast::Template>(parse(source, what))) {}

Output Template::render(const Json& variables, const RenderOptions& options) const {
  if (!variables.is_object() && !variables.is_null())
    fail(ErrorCode::invalid_argument, tree_->what, ": the variables are ", variables.type_name(),
         ", expected an object");
  Interpreter interpreter(options.limits, options.now);
  try {
    for (const auto& [name, text] : options.own_variables)
      interpreter.set_variable(name, make_str(is_valid_utf8(text) ? text : replace_invalid_utf8(text)));
    for (const auto& [name, value] : options.defaults)
      interpreter.set_variable(name, from_json(interpreter.meter, value, true));
    if (variables.is_object())
      for (const auto& [name, value] : variables.as_object())
        interpreter.set_variable(name, from_json(interpreter.meter, value, true));
    StrBuilder out(interpreter.meter);
    interpreter.run(*tree_, out);
    Str result = out.take();
    return {std::move(result.bytes), std::move(result.user)};
  } catch (const Failure& failure) {
    throw TemplateError(failure.kind, interpreter.line(), tree_->what, failure.message);
  }
}

}  // namespace cajal::jinja
