#pragma once
// A parsed template. Names are slots of activations: the resolver has decided where each variable lives.
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "text/jinja/operators.h"
#include "text/jinja/runtime.h"

namespace cajal::jinja::ast {

struct Expr;
struct Stmt;
using ExprPtr = std::unique_ptr<Expr>;
using Body = std::vector<Stmt>;

// A variable: in the activation of this macro (or the template), or `up` definitions further out.
struct Slot {
  int up = 0, index = -1;
};

// What a scope's variables are when it is entered.
struct Load {
  enum class Kind { copy, resolve, unset } kind;
  int index;              // of the activation
  Slot from;              // of copy
  std::string name = {};  // of resolve: a variable of the request, or a global
};
using Scope = std::vector<Load>;

struct CallArgs {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr star, star_star;  // may be null
};

// --- expressions ---
struct Constant {
  Value value;
};
struct Name {
  std::string name;
  Slot slot;
};
struct Sequence {
  SeqKind kind;
  std::vector<ExprPtr> items;
};
struct DictDisplay {
  std::vector<std::pair<ExprPtr, ExprPtr>> items;
};
struct Not {
  ExprPtr operand;
};
struct Sign {
  bool minus;
  ExprPtr operand;
};
struct Logic {
  bool is_and;
  ExprPtr left, right;
};
struct Binary {
  BinaryOp op;
  ExprPtr left, right;
};
struct Concat {
  std::vector<ExprPtr> parts;
};
struct Compare {
  ExprPtr first;
  std::vector<std::pair<CompareOp, ExprPtr>> rest;
};
struct Conditional {
  ExprPtr test, then, otherwise;  // otherwise may be null
};
struct Attribute {
  ExprPtr object;
  std::string name;
};
struct Item {
  ExprPtr object, key;
};
struct SliceItem {
  ExprPtr object, start, stop, step;  // the last three may be null
};
struct Call {
  ExprPtr callee;
  CallArgs args;
};
struct Filtered {
  ExprPtr input;  // null: the text of the block that is filtered
  std::string name;
  Filter filter;  // null: fails when it is reached
  CallArgs args;
};
struct Tested {
  ExprPtr input;
  std::string name;
  Filter test;
  CallArgs args;
};

struct Expr {
  int line = 0;
  int height = 1;  // of the tree
  std::variant<Constant, Name, Sequence, DictDisplay, Not, Sign, Logic, Binary, Concat, Compare, Conditional, Attribute,
               Item, SliceItem, Call, Filtered, Tested>
      node;
};

// --- statements ---
struct Target {
  enum class Kind { name, attribute, tuple } kind = Kind::name;
  int line = 0;
  std::string name, attribute;  // attribute: of the namespace `name`
  Slot slot;
  std::vector<Target> items;
};
struct Parameter {
  std::string name;
  int index = -1;
  ExprPtr fallback;  // may be null
};
struct MacroDef {
  std::string name;  // empty for the body of a call block
  std::vector<Parameter> parameters;
  Scope scope;
  Body body;
  int slots = 0;  // of its activation
  std::optional<int> caller, kwargs, varargs;
  bool explicit_caller = false;
};

struct Text {
  StrRef text;
};
struct Print {
  ExprPtr value;
};
struct If {
  std::vector<std::pair<ExprPtr, Body>> branches;
  Body otherwise;
};
struct For {
  Target target;
  ExprPtr iterable;
  ExprPtr filter;        // may be null
  Target filter_target;  // the target, in the scope of the filter
  Scope scope, filter_scope, otherwise_scope;
  Body body, otherwise;
  std::optional<int> loop;  // where the variable `loop` is, if the body uses it
};
struct Set {
  Target target;
  ExprPtr value;
};
struct SetBlock {
  Target target;
  ExprPtr filter;  // may be null
  Scope scope;
  Body body;
};
struct MacroStmt {
  std::shared_ptr<MacroDef> macro;
  Slot slot;
};
struct CallBlock {
  std::shared_ptr<MacroDef> body;
  ExprPtr call;  // an ast::Call
};
struct FilterBlock {
  ExprPtr filter;
  Scope scope;
  Body body;
};
struct With {
  std::vector<Target> targets;
  std::vector<ExprPtr> values;
  Scope scope;
  Body body;
};
struct Generation {  // {% generation %}: what a model would say. It renders as its body, in a scope of its own.
  Scope scope;
  Body body;
};
struct Break {};
struct Continue {};

struct Stmt {
  int line = 0;
  std::variant<Text, Print, If, For, Set, SetBlock, MacroStmt, CallBlock, FilterBlock, With, Generation, Break,
               Continue>
      node;
};

struct Template {
  std::string what;  // names it in messages
  Scope scope;
  Body body;
  int slots = 0;
};

}  // namespace cajal::jinja::ast
