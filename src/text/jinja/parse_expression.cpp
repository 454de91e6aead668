#include "text/jinja/parse_expression.h"

#include <algorithm>
#include <array>

namespace cajal::jinja {
namespace {

using namespace ast;

constexpr int kMaxHeight = 200;  // of an expression's tree: chains such as a + b + c grow on one side

int height_of(const ExprPtr& e) { return e ? e->height : 0; }
int height_of(const std::vector<ExprPtr>& list) {
  int h = 0;
  for (const ExprPtr& e : list) h = std::max(h, height_of(e));
  return h;
}
int height_of(const CallArgs& args) {
  int h = std::max({height_of(args.positional), height_of(args.star), height_of(args.star_star)});
  for (const auto& [name, e] : args.named) h = std::max(h, height_of(e));
  return h;
}

int height(const Constant&) { return 0; }
int height(const Name&) { return 0; }
int height(const Sequence& n) { return height_of(n.items); }
int height(const DictDisplay& n) {
  int h = 0;
  for (const auto& [key, value] : n.items) h = std::max({h, height_of(key), height_of(value)});
  return h;
}
int height(const Not& n) { return height_of(n.operand); }
int height(const Sign& n) { return height_of(n.operand); }
int height(const Logic& n) { return std::max(height_of(n.left), height_of(n.right)); }
int height(const Binary& n) { return std::max(height_of(n.left), height_of(n.right)); }
int height(const Concat& n) { return height_of(n.parts); }
int height(const Compare& n) {
  int h = height_of(n.first);
  for (const auto& [op, e] : n.rest) h = std::max(h, height_of(e));
  return h;
}
int height(const Conditional& n) { return std::max({height_of(n.test), height_of(n.then), height_of(n.otherwise)}); }
int height(const Attribute& n) { return height_of(n.object); }
int height(const Item& n) { return std::max(height_of(n.object), height_of(n.key)); }
int height(const SliceItem& n) {
  return std::max({height_of(n.object), height_of(n.start), height_of(n.stop), height_of(n.step)});
}
int height(const Call& n) { return std::max(height_of(n.callee), height_of(n.args)); }
int height(const Filtered& n) { return std::max(height_of(n.input), height_of(n.args)); }
int height(const Tested& n) { return std::max(height_of(n.input), height_of(n.args)); }

bool is_constant_name(std::string_view name) {
  constexpr std::array<std::string_view, 6> kNames = {"true", "false", "none", "True", "False", "None"};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

}  // namespace

template <class Node>
ExprPtr ExpressionParser::make(int line, Node node) {
  const int h = height(node) + 1;
  if (h > kMaxHeight) stream_.fail("an expression with too many operators in a row", line, ErrorKind::limit);
  auto expr = std::make_unique<Expr>();
  expr->line = line;
  expr->height = h;
  expr->node = std::move(node);
  return expr;
}

ExprPtr ExpressionParser::expression(bool with_conditional) {
  const TokenStream::Nested nested(stream_);
  return with_conditional ? conditional() : logic(false);
}

ExprPtr ExpressionParser::conditional() {
  int line = stream_.current().line;
  ExprPtr then = logic(false);
  while (stream_.skip_name("if")) {
    ExprPtr test = logic(false), otherwise;
    if (stream_.skip_name("else")) {
      const TokenStream::Nested nested(stream_);
      otherwise = conditional();
    }
    then = make(line, Conditional{std::move(test), std::move(then), std::move(otherwise)});
    line = stream_.current().line;
  }
  return then;
}

ExprPtr ExpressionParser::logic(bool is_and) {
  int line = stream_.current().line;
  const auto operand = [&] { return is_and ? negation() : logic(true); };
  ExprPtr left = operand();
  while (stream_.skip_name(is_and ? "and" : "or")) {
    ExprPtr right = operand();
    left = make(line, Logic{is_and, std::move(left), std::move(right)});
    line = stream_.current().line;
  }
  return left;
}

ExprPtr ExpressionParser::negation() {
  const int line = stream_.current().line;
  if (!stream_.skip_name("not")) return comparison();
  const TokenStream::Nested nested(stream_);
  return make(line, Not{negation()});
}

ExprPtr ExpressionParser::comparison() {
  struct Spelled {
    std::string_view text;
    CompareOp op;
  };
  constexpr std::array<Spelled, 6> kOps = {{{"==", CompareOp::eq},
                                            {"!=", CompareOp::ne},
                                            {"<", CompareOp::lt},
                                            {"<=", CompareOp::le},
                                            {">", CompareOp::gt},
                                            {">=", CompareOp::ge}}};
  const int line = stream_.current().line;
  ExprPtr first = sum();
  std::vector<std::pair<CompareOp, ExprPtr>> rest;
  for (;;) {
    const Token& token = stream_.current();
    const auto op = std::find_if(kOps.begin(), kOps.end(), [&](const Spelled& s) { return token.is_op(s.text); });
    if (op != kOps.end()) {
      stream_.next();
      rest.emplace_back(op->op, sum());
    } else if (stream_.skip_name("in")) {
      rest.emplace_back(CompareOp::in, sum());
    } else if (token.is_name("not") && stream_.look().is_name("in")) {
      stream_.next();
      stream_.next();
      rest.emplace_back(CompareOp::not_in, sum());
    } else {
      break;
    }
  }
  if (rest.empty()) return first;
  return make(line, Compare{std::move(first), std::move(rest)});
}

ExprPtr ExpressionParser::sum() {
  int line = stream_.current().line;
  ExprPtr left = concatenation();
  while (stream_.current().is_op("+") || stream_.current().is_op("-")) {
    const BinaryOp op = stream_.next().text == "+" ? BinaryOp::add : BinaryOp::subtract;
    ExprPtr right = concatenation();
    left = make(line, Binary{op, std::move(left), std::move(right)});
    line = stream_.current().line;
  }
  return left;
}

ExprPtr ExpressionParser::concatenation() {
  const int line = stream_.current().line;
  std::vector<ExprPtr> parts;
  do parts.push_back(product());
  while (stream_.skip_op("~"));
  if (parts.size() == 1) return std::move(parts.front());
  return make(line, Concat{std::move(parts)});
}

ExprPtr ExpressionParser::product() {
  int line = stream_.current().line;
  ExprPtr left = power();
  for (;;) {
    const Token& token = stream_.current();
    BinaryOp op{};
    if (token.is_op("*"))
      op = BinaryOp::multiply;
    else if (token.is_op("/"))
      op = BinaryOp::divide;
    else if (token.is_op("//"))
      op = BinaryOp::floor_divide;
    else if (token.is_op("%"))
      op = BinaryOp::modulo;
    else
      return left;
    stream_.next();
    ExprPtr right = power();
    left = make(line, Binary{op, std::move(left), std::move(right)});
    line = stream_.current().line;
  }
}

ExprPtr ExpressionParser::power() {  // unlike Python's it groups from the left
  int line = stream_.current().line;
  ExprPtr left = unary();
  while (stream_.skip_op("**")) {
    ExprPtr right = unary();
    left = make(line, Binary{BinaryOp::power, std::move(left), std::move(right)});
    line = stream_.current().line;
  }
  return left;
}

ExprPtr ExpressionParser::unary(bool with_filters) {
  const int line = stream_.current().line;
  ExprPtr node;
  if (stream_.current().is_op("-") || stream_.current().is_op("+")) {
    const TokenStream::Nested nested(stream_);
    const bool minus = stream_.next().text == "-";
    node = make(line, Sign{minus, unary(false)});
  } else {
    node = primary();
  }
  node = postfix(std::move(node));
  return with_filters ? filters_and_tests(std::move(node)) : std::move(node);
}

ExprPtr ExpressionParser::primary() {
  const Token token = stream_.current();
  switch (token.kind) {
    case TokenKind::name:
      stream_.next();
      if (token.text == "true" || token.text == "True") return make(token.line, Constant{Value(true)});
      if (token.text == "false" || token.text == "False") return make(token.line, Constant{Value(false)});
      if (token.text == "none" || token.text == "None") return make(token.line, Constant{Value()});
      return make(token.line, Name{token.text, {}});
    case TokenKind::string: {
      std::string text;
      while (stream_.current().kind == TokenKind::string) text += stream_.next().text;
      return make(token.line, Constant{Value::text(text)});
    }
    case TokenKind::integer: stream_.next(); return make(token.line, Constant{Value(token.integer)});
    case TokenKind::floating: stream_.next(); return make(token.line, Constant{Value(token.floating)});
    default: break;
  }
  if (stream_.skip_op("(")) {
    ExprPtr inner = tuple(true, {}, true);
    stream_.expect_op(")");
    return inner;
  }
  if (token.is_op("[")) return list();
  if (token.is_op("{")) return dict();
  if (token.kind == TokenKind::end) stream_.fail("unexpected end of template, expected an expression");
  stream_.fail("unexpected '" + describe(token) + "'", token.line);
}

bool ExpressionParser::is_tuple_end(std::string_view end_name) const {
  const Token& token = stream_.current();
  return token.kind == TokenKind::variable_end || token.kind == TokenKind::block_end || token.is_op(")") ||
         (!end_name.empty() && token.is_name(end_name));
}

ExprPtr ExpressionParser::tuple(bool with_conditional, std::string_view end_name, bool parenthesized) {
  const TokenStream::Nested nested(stream_);
  const int line = stream_.current().line;
  std::vector<ExprPtr> items;
  bool is_tuple = false;
  for (;;) {
    if (!items.empty()) stream_.expect_op(",");
    if (is_tuple_end(end_name)) break;
    items.push_back(expression(with_conditional));
    if (!stream_.current().is_op(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && !items.empty()) return std::move(items.front());
  if (!is_tuple && !parenthesized) stream_.fail("Expected an expression, got '" + describe(stream_.current()) + "'");
  return make(line, Sequence{SeqKind::tuple, std::move(items)});
}

ExprPtr ExpressionParser::list() {
  const int line = stream_.next().line;
  std::vector<ExprPtr> items;
  while (!stream_.current().is_op("]")) {
    if (!items.empty()) stream_.expect_op(",");
    if (stream_.current().is_op("]")) break;
    items.push_back(expression());
  }
  stream_.expect_op("]");
  return make(line, Sequence{SeqKind::list, std::move(items)});
}

ExprPtr ExpressionParser::dict() {
  const int line = stream_.next().line;
  std::vector<std::pair<ExprPtr, ExprPtr>> items;
  while (!stream_.current().is_op("}")) {
    if (!items.empty()) stream_.expect_op(",");
    if (stream_.current().is_op("}")) break;
    ExprPtr key = expression();
    stream_.expect_op(":");
    ExprPtr value = expression();
    items.emplace_back(std::move(key), std::move(value));
  }
  stream_.expect_op("}");
  return make(line, DictDisplay{std::move(items)});
}

ExprPtr ExpressionParser::postfix(ExprPtr node) {
  for (;;) {
    const Token& token = stream_.current();
    if (token.is_op(".") || token.is_op("[")) {
      node = subscript(std::move(node));
    } else if (token.is_op("(")) {
      const int line = token.line;
      node = make(line, Call{std::move(node), call_args()});
    } else {
      return node;
    }
  }
}

ExprPtr ExpressionParser::filters_and_tests(ExprPtr node) {
  for (;;) {
    const Token& token = stream_.current();
    const int line = token.line;
    if (token.is_op("|"))
      node = filters(std::move(node));
    else if (token.is_name("is"))
      node = test(std::move(node));
    else if (token.is_op("("))
      node = make(line, Call{std::move(node), call_args()});
    else
      return node;
  }
}

ExprPtr ExpressionParser::subscript(ExprPtr object) {
  const Token token = stream_.next();
  if (token.text == ".") {
    const Token attribute = stream_.next();
    if (attribute.kind == TokenKind::name) return make(token.line, Attribute{std::move(object), attribute.text});
    if (attribute.kind != TokenKind::integer) stream_.fail("expected name or number", attribute.line);
    return make(token.line, Item{std::move(object), make(attribute.line, Constant{Value(attribute.integer)})});
  }
  const auto at_end = [&] { return stream_.current().is_op("]") || stream_.current().is_op(","); };
  std::vector<ExprPtr> keys;
  while (!stream_.current().is_op("]")) {
    if (!keys.empty()) stream_.expect_op(",");
    ExprPtr start, stop, step;
    if (!stream_.current().is_op(":")) start = expression();
    if (stream_.current().is_op(":")) {
      stream_.next();
      if (!stream_.current().is_op(":") && !at_end()) stop = expression();
      if (stream_.skip_op(":") && !at_end()) step = expression();
      if (!keys.empty() || !stream_.current().is_op("]"))
        stream_.fail("a slice together with other subscripts", token.line, ErrorKind::unsupported);
      stream_.expect_op("]");
      return make(token.line, SliceItem{std::move(object), std::move(start), std::move(stop), std::move(step)});
    }
    keys.push_back(std::move(start));
  }
  stream_.expect_op("]");
  ExprPtr key =
      keys.size() == 1 ? std::move(keys.front()) : make(token.line, Sequence{SeqKind::tuple, std::move(keys)});
  return make(token.line, Item{std::move(object), std::move(key)});
}

CallArgs ExpressionParser::call_args() {
  const TokenStream::Nested nested(stream_);
  const int line = stream_.current().line;
  stream_.expect_op("(");
  CallArgs args;
  const auto ensure = [&](bool ok) {
    if (!ok) stream_.fail("invalid syntax for function call expression", line);
  };
  bool first = true;
  while (!stream_.current().is_op(")")) {
    if (!std::exchange(first, false)) {
      stream_.expect_op(",");
      if (stream_.current().is_op(")")) break;
    }
    if (stream_.skip_op("*")) {
      ensure(!args.star && !args.star_star);
      args.star = expression();
    } else if (stream_.skip_op("**")) {
      ensure(!args.star_star);
      args.star_star = expression();
    } else if (stream_.current().kind == TokenKind::name && stream_.look().is_op("=")) {
      ensure(!args.star_star);
      const std::string name = stream_.next().text;
      for (const auto& [other, value] : args.named)
        if (other == name) stream_.fail("keyword argument repeated: " + name, line);
      stream_.next();
      args.named.emplace_back(name, expression());
    } else {
      ensure(!args.star && !args.star_star && args.named.empty());
      args.positional.push_back(expression());
    }
  }
  stream_.expect_op(")");
  return args;
}

std::string ExpressionParser::dotted_name() {
  std::string name = stream_.expect(TokenKind::name).text;
  while (stream_.skip_op(".")) name += "." + stream_.expect(TokenKind::name).text;
  return name;
}

ExprPtr ExpressionParser::filters(ExprPtr input, bool at_name) {
  while (at_name || stream_.current().is_op("|")) {
    if (!at_name) stream_.next();
    at_name = false;
    const int line = stream_.current().line;
    std::string name = dotted_name();
    CallArgs args;
    if (stream_.current().is_op("(")) args = call_args();
    input = make(line, Filtered{std::move(input), std::move(name), nullptr, std::move(args)});
  }
  return input;
}

ExprPtr ExpressionParser::test(ExprPtr input) {
  const int line = stream_.next().line;
  const bool negated = stream_.skip_name("not");
  std::string name = dotted_name();
  CallArgs args;
  const Token& token = stream_.current();
  const bool starts_value = token.kind == TokenKind::name || token.kind == TokenKind::string ||
                            token.kind == TokenKind::integer || token.kind == TokenKind::floating || token.is_op("[") ||
                            token.is_op("{");
  if (token.is_op("(")) {
    args = call_args();
  } else if (starts_value && !token.is_name("else") && !token.is_name("or") && !token.is_name("and")) {
    if (token.is_name("is")) stream_.fail("You cannot chain multiple tests with is");
    args.positional.push_back(postfix(primary()));
  }
  ExprPtr node = make(line, Tested{std::move(input), std::move(name), nullptr, std::move(args)});
  return negated ? make(line, Not{std::move(node)}) : std::move(node);
}

Token ExpressionParser::name_to_assign() {
  Token token = stream_.expect(TokenKind::name);
  if (is_constant_name(token.text)) stream_.fail("can't assign to 'const'", token.line);
  return token;
}

Target ExpressionParser::to_target(const Expr& expr) {
  Target target;
  target.line = expr.line;
  if (const auto* name = std::get_if<Name>(&expr.node)) {
    target.name = name->name;
  } else if (const auto* tuple = std::get_if<Sequence>(&expr.node); tuple && tuple->kind == SeqKind::tuple) {
    target.kind = Target::Kind::tuple;
    for (const ExprPtr& item : tuple->items) target.items.push_back(to_target(*item));
  } else {
    stream_.fail("can't assign to an expression", expr.line);
  }
  return target;
}

Target ExpressionParser::simple_target(bool with_namespace) {
  const Token& token = stream_.current();
  if (!with_namespace || token.kind != TokenKind::name || is_constant_name(token.text) || !stream_.look().is_op("."))
    return to_target(*primary());
  Target target;
  target.kind = Target::Kind::attribute;
  target.line = token.line;
  target.name = stream_.next().text;
  stream_.next();
  target.attribute = stream_.expect(TokenKind::name).text;
  return target;
}

Target ExpressionParser::target(std::string_view end_name, bool with_namespace) {
  const TokenStream::Nested nested(stream_);
  Target tuple;
  tuple.kind = Target::Kind::tuple;
  tuple.line = stream_.current().line;
  bool is_tuple = false;
  for (;;) {
    if (!tuple.items.empty()) stream_.expect_op(",");
    if (is_tuple_end(end_name)) break;
    tuple.items.push_back(simple_target(with_namespace));
    if (!stream_.current().is_op(",")) break;
    is_tuple = true;
  }
  if (is_tuple) return tuple;
  if (tuple.items.empty()) stream_.fail("Expected an expression, got '" + describe(stream_.current()) + "'");
  return std::move(tuple.items.front());
}

}  // namespace cajal::jinja
