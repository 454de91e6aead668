#pragma once
// Walks a parsed template.
#include <string_view>
#include <unordered_map>

#include "text/jinja/ast.h"
#include "text/jinja/objects.h"

namespace cajal::jinja {

class Interpreter final : public Runtime {
 public:
  Interpreter(const Limits& limits, const std::optional<std::tm>& now) : Runtime(limits, now) {}
  ~Interpreter() override;
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  void set_variable(std::string name, Value value) { variables_[std::move(name)] = std::move(value); }
  void run(const ast::Template& tree, StrBuilder& out);
  int line() const { return line_; }  // where the template is

  Value call(const Value& callee, const Args& args) override;
  void keep(ObjectRef object) override { kept_.push_back(std::move(object)); }

 private:
  class Activation;
  class Macro;
  class Depth;
  enum class Flow { next, leave_loop, next_in_loop };

  // --- statements ---
  Flow execute(const ast::Body& body, StrBuilder& out);
  Flow execute(const ast::Text& n, StrBuilder& out);
  Flow execute(const ast::Print& n, StrBuilder& out);
  Flow execute(const ast::If& n, StrBuilder& out);
  Flow execute(const ast::For& n, StrBuilder& out);
  Flow execute(const ast::Set& n, StrBuilder& out);
  Flow execute(const ast::SetBlock& n, StrBuilder& out);
  Flow execute(const ast::MacroStmt& n, StrBuilder& out);
  Flow execute(const ast::CallBlock& n, StrBuilder& out);
  Flow execute(const ast::FilterBlock& n, StrBuilder& out);
  Flow execute(const ast::With& n, StrBuilder& out);
  Flow execute(const ast::Generation& n, StrBuilder& out);
  Flow execute(const ast::Break&, StrBuilder&) { return Flow::leave_loop; }
  Flow execute(const ast::Continue&, StrBuilder&) { return Flow::next_in_loop; }

  void enter(const ast::Scope& scope);
  Value& slot(const ast::Slot& slot);
  void assign(const ast::Target& target, const Value& value);
  Namespace& namespace_of(const ast::Target& target);
  void check_namespaces(const ast::Target& target);
  bool passes(const ast::For& n, const std::shared_ptr<Activation>& activation, const Value& item);
  Value make_macro(const std::shared_ptr<ast::MacroDef>& definition);
  Value call_macro(const Macro& macro, const Args& args);
  void bind_parameters(const ast::MacroDef& macro, const Args& args, Activation& activation);

  // --- expressions ---
  Value evaluate(const ast::Expr& expr);
  Value evaluate_or_none(const ast::ExprPtr& expr) { return expr ? evaluate(*expr) : Value(); }
  Value evaluate(const ast::Constant& n, int line);
  Value evaluate(const ast::Name& n, int line);
  Value evaluate(const ast::Sequence& n, int line);
  Value evaluate(const ast::DictDisplay& n, int line);
  Value evaluate(const ast::Not& n, int line);
  Value evaluate(const ast::Sign& n, int line);
  Value evaluate(const ast::Logic& n, int line);
  Value evaluate(const ast::Binary& n, int line);
  Value evaluate(const ast::Concat& n, int line);
  Value evaluate(const ast::Compare& n, int line);
  Value evaluate(const ast::Conditional& n, int line);
  Value evaluate(const ast::Attribute& n, int line);
  Value evaluate(const ast::Item& n, int line);
  Value evaluate(const ast::SliceItem& n, int line);
  Value evaluate(const ast::Call& n, int line);
  Value evaluate(const ast::Filtered& n, int line);
  Value evaluate(const ast::Tested& n, int line);
  Value evaluate_call(const ast::Call& n, int line, const Value* caller);
  Args arguments(const ast::CallArgs& args);

  std::unordered_map<std::string, Value> variables_;
  std::shared_ptr<Activation> activation_;
  std::vector<ObjectRef> kept_;
  Value block_text_;  // what the innermost filter of a filtered block gets
  int line_ = 1, depth_ = 0, calls_ = 0;
};

}  // namespace cajal::jinja
