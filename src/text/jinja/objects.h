#pragma once
// Objects that templates make or meet.
#include <functional>
#include <string>
#include <vector>

#include "text/jinja/runtime.h"

namespace cajal::jinja {

// namespace(): the one thing whose attributes a template can set.
class Namespace : public Object {
 public:
  std::string type_name() const override { return "Namespace"; }
  std::string repr(Runtime& rt, int depth) const override;
  std::optional<Value> attribute(Runtime& rt, std::string_view name) override;
  void clear() override { attributes_.clear(); }
  void set(std::string_view name, Value value);

 private:
  std::vector<std::pair<std::string, Value>> attributes_;
};

using Function = Value (*)(Runtime& rt, const Args& args);
Value make_function(std::string_view name, Function function);
Value make_bound_method(const Value& self, std::string name, Method method);

// The variable `loop`. Elements come one by one, because a loop's filter may depend on what its body does.
class Loop : public Object, public std::enable_shared_from_this<Loop> {
 public:
  // `accept` says whether an element passes the loop's filter; empty: all do.
  Loop(Runtime& rt, const Value& iterable, std::function<bool(const Value&)> accept);

  const Value* advance();  // to the next element; null at the end
  std::string type_name() const override { return "LoopContext"; }
  std::string repr(Runtime& rt, int depth) const override;
  std::optional<Value> attribute(Runtime& rt, std::string_view name) override;
  void clear() override;
  void finish() { accept_ = nullptr; }  // the loop is left; what its filter refers to is gone

  Value cycle(const Args& args) const;
  Value changed(const Args& args);

 private:
  bool peek();                 // whether there is another element
  std::size_t length() const;  // of all that passes

  Items items_;
  std::function<bool(const Value&)> accept_;
  mutable std::vector<bool> passes_;  // of the elements that were asked
  std::size_t read_ = 0;              // elements before this are behind the current one
  std::size_t after_ = 0;             // where the next one is, once peek() has found it
  std::int64_t index0_ = -1;
  const Value *before_ = nullptr, *current_ = nullptr;
  std::optional<std::vector<Value>> changed_;
};

}  // namespace cajal::jinja
