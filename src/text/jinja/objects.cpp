#include "text/jinja/objects.h"

#include <array>

namespace cajal::jinja {
namespace {

class NamedFunction : public Object {
 public:
  NamedFunction(std::string_view name, Function function) : name_(name), function_(function) {}
  std::string type_name() const override { return "function"; }
  std::string repr(Runtime&, int) const override { return "<function " + name_ + ">"; }
  bool is_callable() const override { return true; }
  Value call(Runtime& rt, const Args& args) override { return function_(rt, args); }

 private:
  std::string name_;
  Function function_;
};

class BoundMethod : public Object {
 public:
  BoundMethod(Value self, std::string name, Method method)
      : self_(std::move(self)), name_(std::move(name)), method_(method) {}
  std::string type_name() const override { return "builtin_function_or_method"; }
  std::string repr(Runtime&, int) const override {
    return "<built-in method " + name_ + " of " + ::cajal::jinja::type_name(self_) + " object>";
  }
  bool is_callable() const override { return true; }
  Value call(Runtime& rt, const Args& args) override { return method_(rt, self_, args); }
  int depth() const override { return depth_of(self_) + 1; }

 private:
  Value self_;
  std::string name_;
  Method method_;
};

class LoopMethod : public Object {
 public:
  LoopMethod(std::shared_ptr<Loop> loop, bool is_cycle) : loop_(std::move(loop)), is_cycle_(is_cycle) {}
  std::string type_name() const override { return "method"; }
  std::string repr(Runtime&, int) const override { return is_cycle_ ? "<method cycle>" : "<method changed>"; }
  bool is_callable() const override { return true; }
  Value call(Runtime&, const Args& args) override { return is_cycle_ ? loop_->cycle(args) : loop_->changed(args); }

 private:
  std::shared_ptr<Loop> loop_;
  bool is_cycle_;
};

}  // namespace

Value make_function(std::string_view name, Function function) {
  return ObjectRef(std::make_shared<NamedFunction>(name, function));
}

Value make_bound_method(const Value& self, std::string name, Method method) {
  return ObjectRef(std::make_shared<BoundMethod>(self, std::move(name), method));
}

std::string Namespace::repr(Runtime& rt, int depth) const {
  StrBuilder out(rt.meter);
  out.add("<Namespace {");
  for (std::size_t i = 0; i < attributes_.size(); ++i) {
    if (i) out.add(", ");
    append_repr(rt, out, Value::text(attributes_[i].first), depth + 1);
    out.add(": ");
    append_repr(rt, out, attributes_[i].second, depth + 1);
  }
  out.add("}>");
  return out.take().bytes;
}

std::optional<Value> Namespace::attribute(Runtime& rt, std::string_view name) {
  rt.meter.step(attributes_.size() / 8);
  for (const auto& [key, value] : attributes_)
    if (key == name) {
      // Python's sandbox looks at the name of what it has found.
      if (name.starts_with('_'))
        return Value::undefined(
            ::cajal::detail::join("access to attribute '", name, "' of 'Namespace' object is unsafe."),
            ErrorKind::security);
      return value;
    }
  return std::nullopt;
}

void Namespace::set(std::string_view name, Value value) {
  for (auto& [key, old] : attributes_)
    if (key == name) {
      old = std::move(value);
      return;
    }
  attributes_.emplace_back(name, std::move(value));
}

Loop::Loop(Runtime& rt, const Value& iterable, std::function<bool(const Value&)> accept)
    : items_(rt.meter, iterable), accept_(std::move(accept)) {}

bool Loop::peek() {
  while (after_ < items_.size()) {
    if (passes_.size() == after_) passes_.push_back(!accept_ || accept_(items_[after_]));
    if (passes_[after_]) return true;
    ++after_;
  }
  return false;
}

std::size_t Loop::length() const {
  std::size_t n = 0;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    if (passes_.size() == i) passes_.push_back(!accept_ || accept_(items_[i]));
    n += passes_[i];
  }
  return n;
}

const Value* Loop::advance() {
  if (!peek()) return nullptr;
  before_ = current_;
  current_ = &items_[after_++];
  ++index0_;
  return current_;
}

std::string Loop::repr(Runtime&, int) const {
  return ::cajal::detail::join("<LoopContext ", index0_ + 1, "/", length(), ">");
}

std::optional<Value> Loop::attribute(Runtime& rt, std::string_view name) {
  rt.meter.step();
  const auto size = [&] {
    if (accept_) rt.meter.step(items_.size());
    return accept_ ? static_cast<std::int64_t>(length()) : static_cast<std::int64_t>(items_.size());
  };
  if (name == "index") return Value(index0_ + 1);
  if (name == "index0") return Value(index0_);
  if (name == "first") return Value(index0_ == 0);
  if (name == "last") return Value(!peek());
  if (name == "length") return Value(size());
  if (name == "revindex") return Value(size() - index0_);
  if (name == "revindex0") return Value(size() - index0_ - 1);
  if (name == "depth") return Value(std::int64_t{1});
  if (name == "depth0") return Value(std::int64_t{0});
  if (name == "previtem") return before_ ? *before_ : Value::undefined("there is no previous item");
  if (name == "nextitem") return peek() ? items_[after_] : Value::undefined("there is no next item");
  if (name == "cycle" || name == "changed")
    return Value(ObjectRef(std::make_shared<LoopMethod>(shared_from_this(), name == "cycle")));
  return std::nullopt;
}

void Loop::clear() {
  changed_.reset();
  accept_ = nullptr;
}

Value Loop::cycle(const Args& args) const {
  if (args.positional.empty()) raise(ErrorKind::type, "no items for cycling given");
  return args.positional[static_cast<std::size_t>(index0_) % args.positional.size()];
}

Value Loop::changed(const Args& args) {
  const bool same = changed_ && changed_->size() == args.positional.size() &&
                    std::equal(changed_->begin(), changed_->end(), args.positional.begin(), equal);
  if (!same) changed_ = args.positional;
  return !same;
}

}  // namespace cajal::jinja
