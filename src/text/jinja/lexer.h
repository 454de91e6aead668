#pragma once
// Template text to tokens, with Jinja's treatment of white space under trim_blocks and lstrip_blocks.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cajal::jinja {

enum class TokenKind {
  data,
  variable_begin,
  variable_end,
  block_begin,
  block_end,
  name,
  string,
  integer,
  floating,
  op,
  end,
};

struct Token {
  TokenKind kind;
  int line;
  std::string text;  // of data, names, operators; strings are unescaped
  std::int64_t integer = 0;
  double floating = 0;

  bool is_op(std::string_view op) const { return kind == TokenKind::op && text == op; }
  bool is_name(std::string_view name) const { return kind == TokenKind::name && text == name; }
};
std::string describe(const Token& token);

// The last token is `end`. What cannot be read is TemplateError(syntax); `what` names the template there.
std::vector<Token> tokenize(std::string_view source, std::string_view what);

}  // namespace cajal::jinja
