#include "text/jinja/parser.h"

#include <algorithm>
#include <array>

#include "text/jinja/parse_expression.h"

namespace cajal::jinja {
namespace {

using namespace ast;
using Names = std::vector<std::string_view>;

class Parser {
 public:
  Parser(std::string_view source, std::string_view what) : stream_(tokenize(source, what), what), exprs_(stream_) {}

  Body run() { return statements_until({}); }

 private:
  // The tokens after "%}" up to "{%" and one of `ends`, which is the current token then. No ends: the whole template.
  Body statements_until(const Names& ends) {
    const TokenStream::Nested nested(stream_);
    Body body;
    while (stream_.current().kind != TokenKind::end) {
      const Token token = stream_.next();
      if (token.kind == TokenKind::data) {
        if (!token.text.empty()) body.push_back({token.line, Text{make_str(token.text)}});
      } else if (token.kind == TokenKind::variable_begin) {
        const int line = stream_.current().line;
        ExprPtr value = exprs_.tuple();
        stream_.expect(TokenKind::variable_end);
        body.push_back({line, Print{std::move(value)}});
      } else {
        const Token& tag = stream_.current();
        if (std::any_of(ends.begin(), ends.end(), [&](std::string_view end) { return tag.is_name(end); })) return body;
        statement(body, ends);
        stream_.expect(TokenKind::block_end);
      }
    }
    if (!ends.empty()) stream_.fail("unexpected end of template, expected " + list_of(ends));
    return body;
  }

  // The rest of a tag, its body, and the tag that ends it, up to that tag's name.
  Body block(const Names& ends) {
    stream_.skip_op(":");
    stream_.expect(TokenKind::block_end);
    return statements_until(ends);
  }
  Body block_to(std::string_view end) {
    Body body = block({end});
    stream_.next();
    return body;
  }

  static std::string list_of(const Names& names) {
    std::string text;
    for (const std::string_view name : names) text += (text.empty() ? "'" : " or '") + std::string(name) + "'";
    return text;
  }

  void statement(Body& body, const Names& ends) {
    struct Tag {
      std::string_view name;
      void (Parser::*parse)(Body& body, int line);
    };
    static constexpr std::array<Tag, 11> kTags = {{{"for", &Parser::for_loop},
                                                   {"if", &Parser::if_block},
                                                   {"set", &Parser::set},
                                                   {"macro", &Parser::macro},
                                                   {"call", &Parser::call_block},
                                                   {"filter", &Parser::filter_block},
                                                   {"with", &Parser::with},
                                                   {"print", &Parser::print},
                                                   {"generation", &Parser::generation},
                                                   {"break", &Parser::leave_loop},
                                                   {"continue", &Parser::next_in_loop}}};
    constexpr std::array<std::string_view, 6> kRefused = {"include", "import", "from",
                                                          "extends", "block",  "autoescape"};
    const Token tag = stream_.current();
    if (tag.kind != TokenKind::name) stream_.fail("tag name expected");
    const auto known = std::find_if(kTags.begin(), kTags.end(), [&](const Tag& t) { return t.name == tag.text; });
    if (known != kTags.end()) {
      stream_.next();
      return (this->*known->parse)(body, tag.line);
    }
    if (std::find(kRefused.begin(), kRefused.end(), tag.text) != kRefused.end())
      stream_.fail("{% " + tag.text + " %} is not supported in chat templates", tag.line, ErrorKind::unsupported);
    stream_.fail("Encountered unknown tag '" + tag.text + "'" +
                 (ends.empty() ? "." : ", while looking for " + list_of(ends) + "."));
  }

  void for_loop(Body& body, int line) {
    For loop;
    loop.target = exprs_.target("in", false);
    stream_.expect_name("in");
    loop.iterable = exprs_.tuple(false, "recursive");
    if (stream_.skip_name("if")) loop.filter = exprs_.expression();
    if (stream_.current().is_name("recursive"))
      stream_.fail("recursive loops are not supported", line, ErrorKind::unsupported);
    loop.filter_target = loop.target;
    ++loops_;
    loop.body = block({"endfor", "else"});
    --loops_;
    if (stream_.next().text == "else") loop.otherwise = block_to("endfor");
    body.push_back({line, std::move(loop)});
  }

  void if_block(Body& body, int line) {
    If node;
    for (;;) {
      ExprPtr test = exprs_.tuple(false);
      Body then = block({"elif", "else", "endif"});
      node.branches.emplace_back(std::move(test), std::move(then));
      const std::string next = stream_.next().text;
      if (next == "elif") continue;
      if (next == "else") node.otherwise = block_to("endif");
      break;
    }
    body.push_back({line, std::move(node)});
  }

  void set(Body& body, int line) {
    Target target = exprs_.target({}, true);
    if (stream_.skip_op("=")) {
      body.push_back({line, Set{std::move(target), exprs_.tuple()}});
      return;
    }
    ExprPtr filter = exprs_.filters(nullptr);
    Body text = block_to("endset");
    body.push_back({line, SetBlock{std::move(target), std::move(filter), {}, std::move(text)}});
  }

  void signature(MacroDef& macro) {
    stream_.expect_op("(");
    while (!stream_.current().is_op(")")) {
      if (!macro.parameters.empty()) stream_.expect_op(",");
      Parameter parameter;
      parameter.name = exprs_.name_to_assign().text;
      for (const Parameter& other : macro.parameters)
        if (other.name == parameter.name) stream_.fail("duplicate argument '" + other.name + "'");
      if (stream_.skip_op("="))
        parameter.fallback = exprs_.expression();
      else if (!macro.parameters.empty() && macro.parameters.back().fallback)
        stream_.fail("non-default argument follows default argument");
      macro.parameters.push_back(std::move(parameter));
    }
    stream_.expect_op(")");
  }

  // A loop around a macro's definition is not around its body.
  Body macro_body(std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    Body body = block_to(end);
    loops_ = loops;
    return body;
  }

  void macro(Body& body, int line) {
    auto macro = std::make_shared<MacroDef>();
    macro->name = exprs_.name_to_assign().text;
    signature(*macro);
    macro->body = macro_body("endmacro");
    body.push_back({line, MacroStmt{std::move(macro), {}}});
  }

  void call_block(Body& body, int line) {
    auto macro = std::make_shared<MacroDef>();
    if (stream_.current().is_op("(")) signature(*macro);
    ExprPtr call = exprs_.expression();
    if (!std::holds_alternative<Call>(call->node)) stream_.fail("expected call", line);
    macro->body = macro_body("endcall");
    body.push_back({line, CallBlock{std::move(macro), std::move(call)}});
  }

  void filter_block(Body& body, int line) {
    ExprPtr filter = exprs_.filters(nullptr, true);
    Body text = block_to("endfilter");
    body.push_back({line, FilterBlock{std::move(filter), {}, std::move(text)}});
  }

  void with(Body& body, int line) {
    With node;
    while (stream_.current().kind != TokenKind::block_end) {
      if (!node.targets.empty()) stream_.expect_op(",");
      node.targets.push_back(exprs_.target({}, false));
      stream_.expect_op("=");
      node.values.push_back(exprs_.expression());
    }
    node.body = block_to("endwith");
    body.push_back({line, std::move(node)});
  }

  void print(Body& body, int line) {
    for (bool first = true; stream_.current().kind != TokenKind::block_end; first = false) {
      if (!first) stream_.expect_op(",");
      body.push_back({line, Print{exprs_.expression()}});
    }
  }

  void generation(Body& body, int line) {
    Body text = macro_body("endgeneration");
    body.push_back({line, Generation{{}, std::move(text)}});
  }

  void leave_loop(Body& body, int line) {
    check_in_loop("break", line);
    body.push_back({line, Break{}});
  }
  void next_in_loop(Body& body, int line) {
    check_in_loop("continue", line);
    body.push_back({line, Continue{}});
  }
  void check_in_loop(const std::string& tag, int line) const {
    if (loops_ == 0) stream_.fail("'" + tag + "' outside loop", line);
  }

  TokenStream stream_;
  ExpressionParser exprs_;
  int loops_ = 0;
};

}  // namespace

ast::Template parse(std::string_view source, std::string_view what) {
  ast::Template tree;
  tree.what = what;
  tree.body = Parser(source, what).run();
  resolve(tree);
  return tree;
}

}  // namespace cajal::jinja
