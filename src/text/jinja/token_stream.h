#pragma once
// The tokens of a template as its two parsers read them, statements and expressions.
#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/failure.h"
#include "text/jinja/lexer.h"
#include "text/jinja/limits.h"

namespace cajal::jinja {

class TokenStream {
 public:
  TokenStream(std::vector<Token> tokens, std::string_view what) : tokens_(std::move(tokens)), what_(what) {}

  const Token& current() const { return tokens_[at_]; }
  const Token& look() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token next() {
    const std::size_t at = at_;
    if (at_ + 1 < tokens_.size()) ++at_;
    return tokens_[at];
  }
  bool skip_op(std::string_view op) { return current().is_op(op) && (next(), true); }
  bool skip_name(std::string_view name) { return current().is_name(name) && (next(), true); }
  void expect_op(std::string_view op) {
    if (!skip_op(op)) fail_expected(std::string(op));
  }
  void expect_name(std::string_view name) {
    if (!skip_name(name)) fail_expected(std::string(name));
  }
  Token expect(TokenKind kind) {
    if (current().kind != kind) fail_expected(describe({kind, 0, "name"}));
    return next();
  }

  [[noreturn]] void fail(std::string_view reason, int line, ErrorKind kind = ErrorKind::syntax) const {
    throw TemplateError(kind, line, what_, reason);
  }
  [[noreturn]] void fail(std::string_view reason) const { fail(reason, current().line); }
  [[noreturn]] void fail_expected(const std::string& wanted) const {
    if (current().kind == TokenKind::end) fail("unexpected end of template, expected '" + wanted + "'");
    fail("expected token '" + wanted + "', got '" + describe(current()) + "'");
  }

  // Bounds how deeply the parsers call themselves.
  class Nested {
   public:
    explicit Nested(TokenStream& stream) : stream_(stream) {
      if (++stream_.depth_ > kMaxParseDepth)
        stream_.fail("nested too deeply", stream_.current().line, ErrorKind::limit);
    }
    ~Nested() { --stream_.depth_; }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;

   private:
    TokenStream& stream_;
  };

 private:
  std::vector<Token> tokens_;
  std::string_view what_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace cajal::jinja
