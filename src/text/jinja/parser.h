#pragma once
#include <string_view>

#include "text/jinja/ast.h"

namespace cajal::jinja {

// TemplateError(syntax), (unsupported) or (limit) gives the line; `what` names the template.
ast::Template parse(std::string_view source, std::string_view what);

// Gives every variable its slot, and every filter and test its function. parse() calls it.
void resolve(ast::Template& tree);

}  // namespace cajal::jinja
