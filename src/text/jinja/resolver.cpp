// Decides where every variable lives, by the rules of Jinja's compiler: which names a scope has is known before it runs.
// An inner scope that sets a name gets a variable of its own, which begins as a copy of the outer one; a name that is
// set anywhere in a scope belongs to that scope from its beginning, so that loops inside it see it unset before.
#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "text/jinja/parser.h"

namespace cajal::jinja {
namespace {

using namespace ast;

// A macro (or the template) whose activation holds slots.
struct Function {
  int level = 0;
  int slots = 0;
};

struct Variable {
  const Function* function;
  int index;
};

// The names of one scope. Copies of it, as branches of an if make them, share the variables.
class Symbols {
 public:
  Symbols(Function& function, const Symbols* parent)
      : function_(&function), parent_(parent), variables_(std::make_shared<std::map<std::string, int>>()) {}

  const Variable* find(const std::string& name) const {
    for (const Symbols* scope = this; scope; scope = scope->parent_)
      if (const auto it = scope->refs_.find(name); it != scope->refs_.end()) return &it->second;
    return nullptr;
  }

  void load(const std::string& name) {
    if (!find(name)) define(name, {Load::Kind::resolve, 0, {}, name});
  }
  void store(const std::string& name) {
    stores_.insert(name);
    if (refs_.count(name)) return;
    const Variable* outer = parent_ ? parent_->find(name) : nullptr;
    if (outer)
      define(name, {Load::Kind::copy, 0, slot_of(*outer), name});
    else
      define(name, {Load::Kind::unset, 0, {}, name});
  }
  int declare(const std::string& name) {  // set by whoever enters the scope
    stores_.insert(name);
    const int index = index_of(name);
    refs_[name] = {function_, index};
    loads_.erase(name);
    return index;
  }

  // What branches know; a name that only some of them set begins as what it is outside.
  void join(const std::vector<Symbols>& branches) {
    std::set<std::string> stores;
    for (const Symbols& branch : branches) stores.insert(branch.stores_.begin(), branch.stores_.end());
    for (const std::string& name : stores_) stores.erase(name);
    for (const Symbols& branch : branches) {
      for (const auto& [name, variable] : branch.refs_) refs_[name] = variable;
      for (const auto& [name, load] : branch.loads_) loads_[name] = load;
      stores_.insert(branch.stores_.begin(), branch.stores_.end());
    }
    for (const std::string& name : stores) {
      const Variable* outer = parent_ ? parent_->find(name) : nullptr;
      if (outer)
        define(name, {Load::Kind::copy, 0, slot_of(*outer), name});
      else
        define(name, {Load::Kind::resolve, 0, {}, name});
    }
  }

  Slot slot_of(const Variable& variable) const { return {function_->level - variable.function->level, variable.index}; }
  Slot slot_of(const std::string& name) const {
    const Variable* variable = find(name);
    CAJAL_CHECK(variable, "a template's name that was not analysed: ", name);
    return slot_of(*variable);
  }
  Scope scope() const {
    Scope scope;
    for (const auto& [name, load] : loads_) scope.push_back(load);
    return scope;
  }
  Function& function() const { return *function_; }

 private:
  int index_of(const std::string& name) {
    const auto [it, added] = variables_->try_emplace(name, function_->slots);
    if (added) ++function_->slots;
    return it->second;
  }
  void define(const std::string& name, Load load) {
    load.index = index_of(name);
    refs_[name] = {function_, load.index};
    loads_[name] = std::move(load);
  }

  Function* function_;
  const Symbols* parent_;
  std::shared_ptr<std::map<std::string, int>> variables_;
  std::map<std::string, Variable> refs_;
  std::map<std::string, Load> loads_;
  std::set<std::string> stores_;
};

// Calls `visit` on every direct part of an expression.
template <class Visit>
struct Children {
  Visit visit;

  void one(const ExprPtr& e) const {
    if (e) visit(*e);
  }
  void all(const std::vector<ExprPtr>& list) const {
    for (const ExprPtr& e : list) one(e);
  }
  void args(const CallArgs& a) const {
    all(a.positional);
    for (const auto& [name, e] : a.named) one(e);
    one(a.star);
    one(a.star_star);
  }
  void operator()(const Constant&) const {}
  void operator()(const Name&) const {}
  void operator()(const Sequence& n) const { all(n.items); }
  void operator()(const DictDisplay& n) const {
    for (const auto& [key, value] : n.items) one(key), one(value);
  }
  void operator()(const Not& n) const { one(n.operand); }
  void operator()(const Sign& n) const { one(n.operand); }
  void operator()(const Logic& n) const { one(n.left), one(n.right); }
  void operator()(const Binary& n) const { one(n.left), one(n.right); }
  void operator()(const Concat& n) const { all(n.parts); }
  void operator()(const Compare& n) const {
    one(n.first);
    for (const auto& [op, e] : n.rest) one(e);
  }
  void operator()(const Conditional& n) const { one(n.test), one(n.then), one(n.otherwise); }
  void operator()(const Attribute& n) const { one(n.object); }
  void operator()(const Item& n) const { one(n.object), one(n.key); }
  void operator()(const SliceItem& n) const { one(n.object), one(n.start), one(n.stop), one(n.step); }
  void operator()(const Call& n) const { one(n.callee), args(n.args); }
  void operator()(const Filtered& n) const { one(n.input), args(n.args); }
  void operator()(const Tested& n) const { one(n.input), args(n.args); }
};
template <class Visit>
void for_each_child(const Expr& expr, Visit visit) {
  std::visit(Children<Visit>{visit}, expr.node);
}

void load_names(const Expr& expr, Symbols& symbols) {
  if (const auto* name = std::get_if<Name>(&expr.node)) symbols.load(name->name);
  for_each_child(expr, [&](const Expr& child) { load_names(child, symbols); });
}
void load_names(const ExprPtr& expr, Symbols& symbols) {
  if (expr) load_names(*expr, symbols);
}

void store_names(const Target& target, Symbols& symbols, bool as_parameter) {
  switch (target.kind) {
    case Target::Kind::name:
      if (as_parameter)
        symbols.declare(target.name);
      else
        symbols.store(target.name);
      break;
    case Target::Kind::attribute: symbols.load(target.name); break;
    case Target::Kind::tuple:
      for (const Target& item : target.items) store_names(item, symbols, as_parameter);
  }
}

// The names that statements use in the scope that they stand in; scopes inside them are looked at when they are entered.
struct Analyse {
  Symbols& symbols;

  void body(const Body& statements) const {
    for (const Stmt& statement : statements) std::visit(*this, statement.node);
  }
  void operator()(const Text&) const {}
  void operator()(const Print& n) const { load_names(n.value, symbols); }
  void operator()(const If& n) const {
    load_names(n.branches.front().first, symbols);
    // All else-ifs together are one branch, and so is the else.
    std::vector<Symbols> branches(3, symbols);
    Analyse{branches[0]}.body(n.branches.front().second);
    if (n.branches.size() > 1) elifs(n, 1, branches[1]);
    Analyse{branches[2]}.body(n.otherwise);
    symbols.join(branches);
  }
  static void elifs(const If& n, std::size_t first, Symbols& symbols) {
    for (std::size_t i = first; i < n.branches.size(); ++i) {
      load_names(n.branches[i].first, symbols);
      std::vector<Symbols> branch(1, symbols);
      Analyse{branch[0]}.body(n.branches[i].second);
      symbols.join(branch);
    }
  }
  void operator()(const For& n) const { load_names(n.iterable, symbols); }
  void operator()(const Set& n) const {
    load_names(n.value, symbols);
    store_names(n.target, symbols, false);
  }
  void operator()(const SetBlock& n) const { store_names(n.target, symbols, false); }
  void operator()(const MacroStmt& n) const { symbols.store(n.macro->name); }
  void operator()(const CallBlock& n) const { load_names(n.call, symbols); }
  void operator()(const FilterBlock& n) const { load_names(n.filter, symbols); }
  void operator()(const With& n) const {
    for (const ExprPtr& value : n.values) load_names(value, symbols);
  }
  void operator()(const Generation&) const {}
  void operator()(const Break&) const {}
  void operator()(const Continue&) const {}
};

// Finds which of some special names a body uses before it sets them itself, at any depth.
class Undeclared {
 public:
  explicit Undeclared(std::set<std::string> names) : names_(std::move(names)) {}
  bool has(const std::string& name) const { return found_.count(name) != 0; }

  void body(const Body& statements) {
    for (const Stmt& statement : statements) std::visit(*this, statement.node);
  }
  void operator()(const Text&) {}
  void operator()(const Print& n) { expr(n.value); }
  void operator()(const If& n) {
    for (const auto& [test, then] : n.branches) expr(test), body(then);
    body(n.otherwise);
  }
  void operator()(const For& n) {
    store(n.target);
    expr(n.iterable);
    body(n.body);
    body(n.otherwise);
    expr(n.filter);
  }
  void operator()(const Set& n) {
    store(n.target);
    expr(n.value);
  }
  void operator()(const SetBlock& n) {
    store(n.target);
    expr(n.filter);
    body(n.body);
  }
  void operator()(const MacroStmt& n) { macro(*n.macro); }
  void operator()(const CallBlock& n) {
    expr(n.call);
    macro(*n.body);
  }
  void operator()(const FilterBlock& n) {
    body(n.body);
    expr(n.filter);
  }
  void operator()(const With& n) {
    for (const Target& target : n.targets) store(target);
    for (const ExprPtr& value : n.values) expr(value);
    body(n.body);
  }
  void operator()(const Generation& n) { body(n.body); }
  void operator()(const Break&) {}
  void operator()(const Continue&) {}

 private:
  void macro(const MacroDef& macro) {
    for (const Parameter& parameter : macro.parameters) names_.erase(parameter.name);
    for (const Parameter& parameter : macro.parameters) expr(parameter.fallback);
    body(macro.body);
  }
  void store(const Target& target) {
    if (target.kind == Target::Kind::name) names_.erase(target.name);
    for (const Target& item : target.items) store(item);
  }
  void expr(const ExprPtr& e) {
    if (e) expr(*e);
  }
  void expr(const Expr& e) {
    if (const auto* name = std::get_if<Name>(&e.node); name && names_.count(name->name)) found_.insert(name->name);
    for_each_child(e, [&](const Expr& child) { expr(child); });
  }

  std::set<std::string> names_, found_;
};

// Enters the scopes one after another and writes slots into the tree. `soft`: inside a condition, where a filter that
// does not exist is an error only when it is reached.
class Resolver {
 public:
  explicit Resolver(const std::string& what) : what_(what) {}

  void body(Body& statements, Symbols& symbols, bool soft) {
    for (Stmt& statement : statements)
      std::visit([&](auto& node) { resolve(node, statement.line, symbols, soft); }, statement.node);
  }

 private:
  void resolve(Text&, int, Symbols&, bool) {}
  void resolve(Print& n, int, Symbols& symbols, bool soft) { expr(n.value, symbols, soft); }
  void resolve(If& n, int, Symbols& symbols, bool) {
    for (auto& [test, then] : n.branches) {
      expr(test, symbols, true);
      body(then, symbols, true);
    }
    body(n.otherwise, symbols, true);
  }
  void resolve(For& n, int, Symbols& symbols, bool soft) {
    check_loop_is_not_set(n.target);
    check_loop_is_not_set(n.body);
    check_loop_is_not_set(n.otherwise);
    Symbols inside(symbols.function(), &symbols), filter(symbols.function(), &symbols),
        otherwise(symbols.function(), &symbols);
    Undeclared uses({"loop"});
    uses.body(n.body);
    if (uses.has("loop")) n.loop = inside.declare("loop");
    store_names(n.target, inside, true);
    Analyse{inside}.body(n.body);
    Analyse{otherwise}.body(n.otherwise);
    expr(n.iterable, symbols, soft);
    if (n.filter) {
      store_names(n.filter_target, filter, true);
      load_names(n.filter, filter);
      target(n.filter_target, filter);
      expr(n.filter, filter, false);
      n.filter_scope = filter.scope();
    }
    target(n.target, inside);
    body(n.body, inside, false);
    body(n.otherwise, otherwise, false);
    n.scope = inside.scope();
    n.otherwise_scope = otherwise.scope();
  }
  void resolve(Set& n, int, Symbols& symbols, bool soft) {
    expr(n.value, symbols, soft);
    target(n.target, symbols);
  }
  void resolve(SetBlock& n, int, Symbols& symbols, bool) {
    Symbols inside(symbols.function(), &symbols);
    Analyse{inside}.body(n.body);
    load_names(n.filter, inside);
    body(n.body, inside, false);
    expr(n.filter, inside, false);
    target(n.target, symbols);
    n.scope = inside.scope();
  }
  void resolve(MacroStmt& n, int line, Symbols& symbols, bool) {
    macro(*n.macro, line, symbols);
    n.slot = symbols.slot_of(n.macro->name);
  }
  void resolve(CallBlock& n, int line, Symbols& symbols, bool soft) {
    macro(*n.body, line, symbols);
    expr(n.call, symbols, soft);
  }
  void resolve(FilterBlock& n, int, Symbols& symbols, bool) {
    Symbols inside(symbols.function(), &symbols);
    Analyse{inside}.body(n.body);
    load_names(n.filter, inside);
    body(n.body, inside, false);
    expr(n.filter, inside, false);
    n.scope = inside.scope();
  }
  void resolve(With& n, int, Symbols& symbols, bool soft) {
    Symbols inside(symbols.function(), &symbols);
    for (const Target& t : n.targets) store_names(t, inside, true);
    Analyse{inside}.body(n.body);
    for (std::size_t i = 0; i < n.targets.size(); ++i) {
      target(n.targets[i], inside);
      expr(n.values[i], symbols, soft);
    }
    body(n.body, inside, false);
    n.scope = inside.scope();
  }
  void resolve(Generation& n, int, Symbols& symbols, bool) {
    Symbols inside(symbols.function(), &symbols);
    Analyse{inside}.body(n.body);
    body(n.body, inside, false);
    n.scope = inside.scope();
  }
  void resolve(Break&, int, Symbols&, bool) {}
  void resolve(Continue&, int, Symbols&, bool) {}

  void macro(MacroDef& macro, int line, Symbols& symbols) {
    Function function{symbols.function().level + 1, 0};
    Symbols inside(function, &symbols);
    Undeclared uses({"caller", "kwargs", "varargs"});
    uses.body(macro.body);
    for (Parameter& parameter : macro.parameters) parameter.index = inside.declare(parameter.name);
    for (const Parameter& parameter : macro.parameters) load_names(parameter.fallback, inside);
    Analyse{inside}.body(macro.body);
    const auto is_parameter = [&](std::string_view name) {
      return std::any_of(macro.parameters.begin(), macro.parameters.end(),
                         [&](const Parameter& p) { return p.name == name; });
    };
    for (const Parameter& parameter : macro.parameters) {
      macro.explicit_caller = macro.explicit_caller || parameter.name == "caller";
      if (parameter.name == "caller" && !parameter.fallback && uses.has("caller"))
        throw TemplateError(ErrorKind::syntax, line, what_,
                            "When defining macros or call blocks the special \"caller\" argument must be omitted or be "
                            "given a default.");
    }
    if (uses.has("caller") && !macro.explicit_caller) macro.caller = inside.declare("caller");
    if (uses.has("kwargs") && !is_parameter("kwargs")) macro.kwargs = inside.declare("kwargs");
    if (uses.has("varargs") && !is_parameter("varargs")) macro.varargs = inside.declare("varargs");
    for (Parameter& parameter : macro.parameters) expr(parameter.fallback, inside, false);
    body(macro.body, inside, false);
    macro.scope = inside.scope();
    macro.slots = function.slots;
  }

  void target(Target& target, const Symbols& symbols) {
    if (target.kind != Target::Kind::tuple) target.slot = symbols.slot_of(target.name);
    for (Target& item : target.items) this->target(item, symbols);
  }

  void check_loop_is_not_set(const Target& target) const {
    if (target.kind == Target::Kind::name && target.name == "loop")
      throw TemplateError(ErrorKind::syntax, target.line, what_,
                          "Can't assign to special loop variable in for-loop target");
    for (const Target& item : target.items) check_loop_is_not_set(item);
  }
  void check_loop_is_not_set(const Body& statements) const {
    for (const Stmt& statement : statements) {
      if (const auto* set = std::get_if<Set>(&statement.node)) check_loop_is_not_set(set->target);
      if (const auto* set = std::get_if<SetBlock>(&statement.node)) {
        check_loop_is_not_set(set->target);
        check_loop_is_not_set(set->body);
      }
      if (const auto* branch = std::get_if<If>(&statement.node)) {
        for (const auto& [test, then] : branch->branches) check_loop_is_not_set(then);
        check_loop_is_not_set(branch->otherwise);
      }
      if (const auto* with = std::get_if<With>(&statement.node)) check_loop_is_not_set(with->body);
    }
  }

  void expr(const ExprPtr& e, Symbols& symbols, bool soft) {
    if (e) expr(*e, symbols, soft);
  }
  void expr(Expr& e, Symbols& symbols, bool soft) {
    if (auto* name = std::get_if<Name>(&e.node)) name->slot = symbols.slot_of(name->name);
    if (std::holds_alternative<Conditional>(e.node)) soft = true;
    if (auto* filtered = std::get_if<Filtered>(&e.node)) {
      filtered->filter = find_filter(filtered->name);
      check_known(filtered->filter, "filter", filtered->name, e.line, soft);
    }
    if (auto* tested = std::get_if<Tested>(&e.node)) {
      tested->test = find_test(tested->name);
      check_known(tested->test, "test", tested->name, e.line, soft);
    }
    for_each_child(e, [&](Expr& child) { expr(child, symbols, soft); });
  }

  void check_known(Filter function, const char* kind, const std::string& name, int line, bool soft) const {
    if (!function && !soft)
      throw TemplateError(ErrorKind::syntax, line, what_, ::cajal::detail::join("No ", kind, " named '", name, "'."));
  }

  const std::string& what_;
};

}  // namespace

void resolve(ast::Template& tree) {
  Function function;
  Symbols symbols(function, nullptr);
  Analyse{symbols}.body(tree.body);
  Resolver(tree.what).body(tree.body, symbols, false);
  tree.scope = symbols.scope();
  tree.slots = function.slots;
}

}  // namespace cajal::jinja
