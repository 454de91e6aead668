#pragma once
// Expressions, with Jinja's precedence.
#include "text/jinja/ast.h"
#include "text/jinja/token_stream.h"

namespace cajal::jinja {

class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& stream) : stream_(stream) {}

  ast::ExprPtr expression(bool with_conditional = true);
  // One expression, or several with commas between them, which are a tuple. `end_name` ends it too.
  ast::ExprPtr tuple(bool with_conditional = true, std::string_view end_name = {}, bool parenthesized = false);
  // "| name(arguments) | ..." on `input`; `at_name`: the first "|" is left out.
  ast::ExprPtr filters(ast::ExprPtr input, bool at_name = false);

  // What stands before "in" of a for, or "=" of a set.
  ast::Target target(std::string_view end_name, bool with_namespace);
  Token name_to_assign();

 private:
  ast::ExprPtr conditional();
  ast::ExprPtr logic(bool is_and);
  ast::ExprPtr negation();
  ast::ExprPtr comparison();
  ast::ExprPtr sum();
  ast::ExprPtr concatenation();
  ast::ExprPtr product();
  ast::ExprPtr power();
  ast::ExprPtr unary(bool with_filters = true);
  ast::ExprPtr primary();
  ast::ExprPtr list();
  ast::ExprPtr dict();
  ast::ExprPtr postfix(ast::ExprPtr node);
  ast::ExprPtr filters_and_tests(ast::ExprPtr node);
  ast::ExprPtr subscript(ast::ExprPtr object);
  ast::ExprPtr test(ast::ExprPtr input);
  ast::CallArgs call_args();
  std::string dotted_name();
  ast::Target to_target(const ast::Expr& expr);
  ast::Target simple_target(bool with_namespace);
  bool is_tuple_end(std::string_view end_name) const;

  template <class Node>
  ast::ExprPtr make(int line, Node node);

  TokenStream& stream_;
};

}  // namespace cajal::jinja
