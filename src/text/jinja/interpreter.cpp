#include "text/jinja/interpreter.h"

#include <algorithm>

namespace cajal::jinja {

// The variables of one call of a macro, or of the template.
class Interpreter::Activation : public Object {
 public:
  Activation(int size, std::shared_ptr<Activation> outer_)
      : slots(static_cast<std::size_t>(size), Value::missing()), outer(std::move(outer_)) {}
  std::string type_name() const override { return "activation"; }
  std::string repr(Runtime&, int) const override { return "<activation>"; }
  void clear() override {
    slots.clear();
    outer.reset();
  }

  std::vector<Value> slots;
  std::shared_ptr<Activation> outer;
};

class Interpreter::Macro : public Object {
 public:
  Macro(Interpreter& interpreter, std::shared_ptr<ast::MacroDef> definition_, std::shared_ptr<Activation> outer_)
      : definition(std::move(definition_)), outer(std::move(outer_)), interpreter_(interpreter) {}
  std::string type_name() const override { return "Macro"; }
  std::string repr(Runtime&, int) const override {
    return definition->name.empty() ? "<Macro anonymous>" : "<Macro '" + definition->name + "'>";
  }
  bool is_callable() const override { return true; }
  Value call(Runtime&, const Args& args) override { return interpreter_.call_macro(*this, args); }
  std::optional<Value> attribute(Runtime&, std::string_view name) override {
    if (name == "name") return definition->name.empty() ? Value() : Value::text(definition->name);
    return std::nullopt;
  }

  std::shared_ptr<ast::MacroDef> definition;
  std::shared_ptr<Activation> outer;

 private:
  Interpreter& interpreter_;
};

class Interpreter::Depth {
 public:
  explicit Depth(Interpreter& interpreter) : interpreter_(interpreter) {
    if (++interpreter_.depth_ > interpreter_.meter.limits().eval_depth)
      raise(ErrorKind::limit, "more than ", interpreter_.meter.limits().eval_depth,
            " expressions and blocks inside one another");
  }
  ~Depth() { --interpreter_.depth_; }
  Depth(const Depth&) = delete;
  Depth& operator=(const Depth&) = delete;

 private:
  Interpreter& interpreter_;
};

namespace {

// Puts a variable back to what it was, also where an error passes: a generator's error waits in its value while the
// template goes on.
template <class T>
class Restore {
 public:
  explicit Restore(T& variable) : variable_(variable), old_(variable) {}
  ~Restore() { variable_ = std::move(old_); }
  Restore(const Restore&) = delete;
  Restore& operator=(const Restore&) = delete;

 private:
  T& variable_;
  T old_;
};

// Keeps an object that is still held elsewhere when its part of the template is left: it may hold itself.
template <class T>
class KeepIfShared {
 public:
  KeepIfShared(Runtime& rt, std::shared_ptr<T>& object) : rt_(rt), object_(object) {}
  ~KeepIfShared() {
    if (object_.use_count() > 1) rt_.keep(object_);
  }
  KeepIfShared(const KeepIfShared&) = delete;
  KeepIfShared& operator=(const KeepIfShared&) = delete;

 private:
  Runtime& rt_;
  std::shared_ptr<T>& object_;
};

}  // namespace

Interpreter::~Interpreter() {
  // Objects may hold one another in long chains and in circles; each is emptied while all are still held.
  for (const ObjectRef& object : kept_) object->clear();
}

void Interpreter::run(const ast::Template& tree, StrBuilder& out) {
  activation_ = std::make_shared<Activation>(tree.slots, nullptr);
  keep(activation_);
  enter(tree.scope);
  execute(tree.body, out);
}

// --- variables ---

Value& Interpreter::slot(const ast::Slot& slot) {
  Activation* activation = activation_.get();
  for (int i = 0; i < slot.up; ++i) activation = activation->outer.get();
  return activation->slots[static_cast<std::size_t>(slot.index)];
}

void Interpreter::enter(const ast::Scope& scope) {
  meter.step(scope.size());
  for (const ast::Load& load : scope) {
    Value& value = activation_->slots[static_cast<std::size_t>(load.index)];
    switch (load.kind) {
      case ast::Load::Kind::unset: value = Value::missing(); break;
      case ast::Load::Kind::copy: value = slot(load.from); break;
      case ast::Load::Kind::resolve:
        if (const auto it = variables_.find(load.name); it != variables_.end())
          value = it->second;
        else
          value = find_global(load.name).value_or(Value::missing());
    }
  }
}

Namespace& Interpreter::namespace_of(const ast::Target& target) {
  Namespace* object = slot(target.slot).as<Namespace>();
  if (!object) raise(ErrorKind::runtime, "cannot assign attribute on non-namespace object");
  return *object;
}

// Before the value is computed, as Jinja does it.
void Interpreter::check_namespaces(const ast::Target& target) {
  if (target.kind == ast::Target::Kind::attribute) namespace_of(target);
  for (const ast::Target& item : target.items) check_namespaces(item);
}

void Interpreter::assign(const ast::Target& target, const Value& value) {
  switch (target.kind) {
    case ast::Target::Kind::name: slot(target.slot) = value; return;
    case ast::Target::Kind::attribute:
      meter.produce(sizeof(Value));
      namespace_of(target).set(target.attribute, value);
      return;
    case ast::Target::Kind::tuple: break;
  }
  if (!is_iterable(value)) raise(ErrorKind::type, "cannot unpack non-iterable ", type_name(value), " object");
  const Items items(meter, value);
  if (items.size() < target.items.size())
    raise(ErrorKind::value, "not enough values to unpack (expected ", target.items.size(), ", got ", items.size(), ")");
  if (items.size() > target.items.size())
    raise(ErrorKind::value, "too many values to unpack (expected ", target.items.size(), ")");
  for (std::size_t i = 0; i < items.size(); ++i) assign(target.items[i], items[i]);
}

// --- statements ---

Interpreter::Flow Interpreter::execute(const ast::Body& body, StrBuilder& out) {
  const Depth depth(*this);
  for (const ast::Stmt& statement : body) {
    meter.step();
    line_ = statement.line;
    const Flow flow = std::visit([&](const auto& node) { return execute(node, out); }, statement.node);
    if (flow != Flow::next) return flow;
  }
  return Flow::next;
}

Interpreter::Flow Interpreter::execute(const ast::Text& n, StrBuilder& out) {
  out.add(*n.text);
  return Flow::next;
}

Interpreter::Flow Interpreter::execute(const ast::Print& n, StrBuilder& out) {
  append_str(*this, out, evaluate(*n.value));
  return Flow::next;
}

Interpreter::Flow Interpreter::execute(const ast::If& n, StrBuilder& out) {
  for (const auto& [test, then] : n.branches)
    if (truth(evaluate(*test))) return execute(then, out);
  return execute(n.otherwise, out);
}

bool Interpreter::passes(const ast::For& n, const std::shared_ptr<Activation>& activation, const Value& item) {
  const Restore restore_activation(activation_);
  const int line = line_;
  activation_ = activation;
  enter(n.filter_scope);
  assign(n.filter_target, item);
  const bool result = truth(evaluate(*n.filter));
  line_ = line;  // not where an error passes: it is reported with the line that it comes from
  return result;
}

Interpreter::Flow Interpreter::execute(const ast::For& n, StrBuilder& out) {
  const int line = line_;
  const Value iterable = evaluate(*n.iterable);
  line_ = line;
  std::function<bool(const Value&)> accept;
  if (n.filter)
    accept = [this, &n, activation = activation_](const Value& item) { return passes(n, activation, item); };
  auto loop = std::make_shared<Loop>(*this, iterable, std::move(accept));
  const KeepIfShared keep_loop(*this, loop);
  bool completed = false;  // a first round that is cut short does not count: the else runs after it
  while (const Value* item = loop->advance()) {
    line_ = line;
    meter.step();
    assign(n.target, *item);
    if (n.loop) activation_->slots[static_cast<std::size_t>(*n.loop)] = ObjectRef(loop);
    enter(n.scope);
    const Flow flow = execute(n.body, out);
    if (flow == Flow::leave_loop) break;
    if (flow == Flow::next) completed = true;
  }
  loop->finish();
  if (n.loop) activation_->slots[static_cast<std::size_t>(*n.loop)] = Value::missing();
  if (completed || n.otherwise.empty()) return Flow::next;
  enter(n.otherwise_scope);
  return execute(n.otherwise, out);
}

Interpreter::Flow Interpreter::execute(const ast::Set& n, StrBuilder&) {
  check_namespaces(n.target);
  const int line = line_;
  const Value value = evaluate(*n.value);
  line_ = line;
  assign(n.target, value);
  return Flow::next;
}

Interpreter::Flow Interpreter::execute(const ast::SetBlock& n, StrBuilder&) {
  const int line = line_;
  StrBuilder text(meter);
  enter(n.scope);
  const Flow flow = execute(n.body, text);
  if (flow != Flow::next) return flow;
  line_ = line;
  block_text_ = text.finish();
  const Value value = n.filter ? evaluate(*n.filter) : std::exchange(block_text_, Value());
  line_ = line;
  assign(n.target, value);
  return Flow::next;
}

Interpreter::Flow Interpreter::execute(const ast::FilterBlock& n, StrBuilder& out) {
  StrBuilder text(meter);
  enter(n.scope);
  const Flow flow = execute(n.body, text);
  if (flow != Flow::next) return flow;
  block_text_ = text.finish();
  append_str(*this, out, evaluate(*n.filter));
  return Flow::next;
}

Interpreter::Flow Interpreter::execute(const ast::With& n, StrBuilder& out) {
  // Values are of the scope outside, and the targets have variables of their own.
  enter(n.scope);
  for (std::size_t i = 0; i < n.targets.size(); ++i) assign(n.targets[i], evaluate(*n.values[i]));
  return execute(n.body, out);
}

Interpreter::Flow Interpreter::execute(const ast::Generation& n, StrBuilder& out) {
  enter(n.scope);
  return execute(n.body, out);
}

Value Interpreter::make_macro(const std::shared_ptr<ast::MacroDef>& definition) {
  meter.produce(sizeof(Macro));
  return ObjectRef(std::make_shared<Macro>(*this, definition, activation_));
}

Interpreter::Flow Interpreter::execute(const ast::MacroStmt& n, StrBuilder&) {
  slot(n.slot) = make_macro(n.macro);
  return Flow::next;
}

Interpreter::Flow Interpreter::execute(const ast::CallBlock& n, StrBuilder& out) {
  const Value caller = make_macro(n.body);
  append_str(*this, out, evaluate_call(std::get<ast::Call>(n.call->node), n.call->line, &caller));
  return Flow::next;
}

// --- macros ---

void Interpreter::bind_parameters(const ast::MacroDef& macro, const Args& args, Activation& activation) {
  const std::string shown = macro.name.empty() ? "None" : "'" + macro.name + "'";
  std::vector<bool> used(args.named.size());
  const auto take = [&](std::string_view name) -> const Value* {
    for (std::size_t i = 0; i < args.named.size(); ++i)
      if (args.named[i].first == name) {
        used[i] = true;
        return &args.named[i].second;
      }
    return nullptr;
  };
  for (std::size_t i = 0; i < macro.parameters.size(); ++i) {
    Value& value = activation.slots[static_cast<std::size_t>(macro.parameters[i].index)];
    if (i < args.positional.size())
      value = args.positional[i];
    else if (const Value* named = take(macro.parameters[i].name))
      value = *named;
  }
  if (macro.caller) {
    const Value* caller = take("caller");
    activation.slots[static_cast<std::size_t>(*macro.caller)] =
        caller && !caller->is_none() ? *caller : Value::undefined("No caller defined");
  }
  auto rest = std::make_shared<Dict>();
  for (std::size_t i = 0; i < args.named.size(); ++i) {
    const auto& [name, value] = args.named[i];
    if (used[i]) continue;
    if (macro.kwargs) {
      rest->set(meter, Value::text(name), value);
    } else if (args.find("caller")) {
      raise(ErrorKind::type, "macro ", shown,
            " was invoked with two values for the special caller argument. This is most likely a bug.");
    } else {
      raise(ErrorKind::type, "macro ", shown, " takes no keyword argument '", name, "'");
    }
  }
  if (macro.kwargs) activation.slots[static_cast<std::size_t>(*macro.kwargs)] = DictRef(std::move(rest));
  const std::size_t taken = std::min(macro.parameters.size(), args.positional.size());
  if (macro.varargs)
    activation.slots[static_cast<std::size_t>(*macro.varargs)] =
        make_tuple(meter, {args.positional.begin() + static_cast<std::ptrdiff_t>(taken), args.positional.end()});
  else if (args.positional.size() > taken)
    raise(ErrorKind::type, "macro ", shown, " takes not more than ", macro.parameters.size(), " argument(s)");
}

Value Interpreter::call_macro(const Macro& macro, const Args& args) {
  const std::shared_ptr<ast::MacroDef> definition = macro.definition;  // the macro may be gone before the call ends
  const Restore restore_calls(calls_);
  if (++calls_ > meter.limits().call_depth)
    raise(ErrorKind::limit, "more than ", meter.limits().call_depth, " macros inside one another");
  meter.produce(static_cast<std::uint64_t>(definition->slots) * sizeof(Value));
  auto activation = std::make_shared<Activation>(definition->slots, macro.outer);
  const KeepIfShared keep_activation(*this, activation);  // the last to go, when nothing of the call holds it any more
  bind_parameters(*definition, args, *activation);
  const Restore restore_activation(activation_);
  const int line = line_;
  activation_ = activation;
  enter(definition->scope);
  for (const ast::Parameter& parameter : definition->parameters) {
    Value& value = activation->slots[static_cast<std::size_t>(parameter.index)];
    if (!value.is_missing()) continue;
    Value fallback = parameter.fallback ? evaluate(*parameter.fallback)
                                        : Value::undefined("parameter '" + parameter.name + "' was not provided");
    activation->slots[static_cast<std::size_t>(parameter.index)] = std::move(fallback);
  }
  StrBuilder out(meter);
  execute(definition->body, out);
  line_ = line;
  return out.finish();
}

Value Interpreter::call(const Value& callee, const Args& args) {
  meter.step();
  require_defined(callee);
  if (!callee.object()) raise(ErrorKind::type, "'", type_name(callee), "' object is not callable");
  const ObjectRef object = *callee.object();
  return object->call(*this, args);
}

// --- expressions ---

Value Interpreter::evaluate(const ast::Expr& expr) {
  const Depth depth(*this);
  meter.step();
  line_ = expr.line;
  return std::visit([&](const auto& node) { return evaluate(node, expr.line); }, expr.node);
}

Value Interpreter::evaluate(const ast::Constant& n, int) { return n.value; }

Value Interpreter::evaluate(const ast::Name& n, int) {
  const Value& value = slot(n.slot);
  return value.is_missing() ? Value::undefined("'" + n.name + "' is undefined") : value;
}

Value Interpreter::evaluate(const ast::Sequence& n, int) {
  std::vector<Value> items;
  items.reserve(n.items.size());
  for (const ast::ExprPtr& item : n.items) items.push_back(evaluate(*item));
  return make_seq(meter, n.kind, std::move(items));
}

Value Interpreter::evaluate(const ast::DictDisplay& n, int line) {
  auto dict = std::make_shared<Dict>();
  for (const auto& [key, value] : n.items) {
    Value k = evaluate(*key), v = evaluate(*value);
    line_ = line;
    dict->set(meter, std::move(k), std::move(v));
  }
  return DictRef(std::move(dict));
}

Value Interpreter::evaluate(const ast::Not& n, int) { return !truth(evaluate(*n.operand)); }

Value Interpreter::evaluate(const ast::Sign& n, int line) {
  const Value operand = evaluate(*n.operand);
  line_ = line;
  return n.minus ? negate(operand) : positive(operand);
}

Value Interpreter::evaluate(const ast::Logic& n, int) {
  Value left = evaluate(*n.left);
  return truth(left) == n.is_and ? evaluate(*n.right) : left;
}

Value Interpreter::evaluate(const ast::Binary& n, int line) {
  const Value left = evaluate(*n.left), right = evaluate(*n.right);
  line_ = line;
  return binary(*this, n.op, left, right);
}

Value Interpreter::evaluate(const ast::Concat& n, int) {
  std::vector<Value> parts;
  for (const ast::ExprPtr& part : n.parts) parts.push_back(evaluate(*part));
  StrBuilder out(meter);
  for (const Value& part : parts) append_str(*this, out, part);
  return out.finish();
}

Value Interpreter::evaluate(const ast::Compare& n, int line) {
  Value left = evaluate(*n.first);
  for (const auto& [op, operand] : n.rest) {
    Value right = evaluate(*operand);
    line_ = line;
    if (!compare(*this, op, left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Interpreter::evaluate(const ast::Conditional& n, int) {
  if (truth(evaluate(*n.test))) return evaluate(*n.then);
  if (n.otherwise) return evaluate(*n.otherwise);
  return Value::undefined("the inline if-expression evaluated to false and no else section was defined.");
}

Value Interpreter::evaluate(const ast::Attribute& n, int line) {
  const Value object = evaluate(*n.object);
  line_ = line;
  return get_attribute(*this, object, n.name);
}

Value Interpreter::evaluate(const ast::Item& n, int line) {
  const Value object = evaluate(*n.object), key = evaluate(*n.key);
  line_ = line;
  return get_item(*this, object, key);
}

Value Interpreter::evaluate(const ast::SliceItem& n, int line) {
  const Value object = evaluate(*n.object), start = evaluate_or_none(n.start), stop = evaluate_or_none(n.stop),
              step = evaluate_or_none(n.step);
  line_ = line;
  return get_slice(*this, object, start, stop, step);
}

Args Interpreter::arguments(const ast::CallArgs& args) {
  Args result;
  result.positional.reserve(args.positional.size());
  for (const ast::ExprPtr& argument : args.positional) result.positional.push_back(evaluate(*argument));
  if (args.star) {
    const Items items(meter, evaluate(*args.star));
    meter.produce(items.size() * sizeof(Value));
    result.positional.insert(result.positional.end(), items.begin(), items.end());
  }
  for (const auto& [name, argument] : args.named) result.named.emplace_back(name, evaluate(*argument));
  if (args.star_star) {
    const Value more = evaluate(*args.star_star);
    require_defined(more);
    if (!more.dict()) raise(ErrorKind::type, "argument after ** must be a mapping, not ", type_name(more));
    meter.step(more.dict()->size() * (result.named.size() + 1));
    for (const auto& [key, value] : more.dict()->entries()) {
      if (!key.str()) raise(ErrorKind::type, "keywords must be strings");
      if (result.find(key.str()->bytes))
        raise(ErrorKind::type, "got multiple values for keyword argument '", key.str()->bytes, "'");
      result.named.emplace_back(key.str()->bytes, value);
    }
  }
  return result;
}

Value Interpreter::evaluate(const ast::Call& n, int line) { return evaluate_call(n, line, nullptr); }

Value Interpreter::evaluate_call(const ast::Call& n, int line, const Value* caller) {
  const auto pass_caller = [&](Args& args) {
    if (!caller) return;
    if (args.find("caller")) raise(ErrorKind::type, "got multiple values for keyword argument 'caller'");
    args.named.emplace_back("caller", *caller);
  };
  // The method of a string or the like is called without an object for it being made.
  if (const auto* attribute = std::get_if<ast::Attribute>(&n.callee->node)) {
    const Value self = evaluate(*attribute->object);
    line_ = n.callee->line;
    if (const Method method = find_method(self, attribute->name)) {
      Args args = arguments(n.args);
      pass_caller(args);
      line_ = line;
      return method(*this, self, args);
    }
    const Value callee = get_attribute(*this, self, attribute->name);
    Args args = arguments(n.args);
    pass_caller(args);
    line_ = line;
    return call(callee, args);
  }
  const Value callee = evaluate(*n.callee);
  Args args = arguments(n.args);
  pass_caller(args);
  line_ = line;
  return call(callee, args);
}

Value Interpreter::evaluate(const ast::Filtered& n, int line) {
  const Value input = n.input ? evaluate(*n.input) : std::exchange(block_text_, Value());
  const Args args = arguments(n.args);
  line_ = line;
  if (!n.filter) raise(ErrorKind::runtime, "No filter named '", n.name, "' found.");
  return n.filter(*this, input, args);
}

Value Interpreter::evaluate(const ast::Tested& n, int line) {
  const Value input = evaluate(*n.input);
  const Args args = arguments(n.args);
  line_ = line;
  if (!n.test) raise(ErrorKind::runtime, "No test named '", n.name, "' found.");
  return truth(n.test(*this, input, args));
}

}  // namespace cajal::jinja
