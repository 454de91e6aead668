#pragma once
// The values of templates: Python's, as far as templates can make them. All are immutable but namespaces, loops and
// other objects.
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"
#include "text/jinja/str.h"

namespace cajal::jinja {

class Runtime;
class Value;
struct Seq;
class Dict;
class Object;

// What a missing variable or attribute is: it prints as nothing, is false, and fails with `message` when used otherwise.
struct Undefined {
  std::string message;
  ErrorKind kind = ErrorKind::undefined;
};
struct None {};

using SeqRef = std::shared_ptr<const Seq>;
using DictRef = std::shared_ptr<const Dict>;
using ObjectRef = std::shared_ptr<Object>;

class Value {
 public:
  using Storage = std::variant<None, bool, std::int64_t, double, StrRef, SeqRef, DictRef, ObjectRef,
                               std::shared_ptr<const Undefined>>;

  Value() = default;  // None
  // NOLINTBEGIN(google-explicit-constructor)
  Value(bool v) : v_(v) {}
  Value(std::int64_t v) : v_(v) {}
  Value(double v) : v_(v) {}
  Value(StrRef v) : v_(std::move(v)) {}
  Value(SeqRef v) : v_(std::move(v)) {}
  Value(DictRef v) : v_(std::move(v)) {}
  Value(ObjectRef v) : v_(std::move(v)) {}
  // NOLINTEND(google-explicit-constructor)
  Value(const char*) = delete;
  static Value text(std::string_view s) { return make_str(std::string(s)); }
  static Value size(std::size_t n) { return static_cast<std::int64_t>(n); }
  static Value undefined(std::string message, ErrorKind kind = ErrorKind::undefined);
  // What a variable holds that is not set. Only the interpreter meets it.
  static Value missing();
  bool is_missing() const { return v_.index() == 8 && !std::get<8>(v_); }

  template <class T>
  const T* get() const {
    return std::get_if<T>(&v_);
  }
  bool is_none() const { return get<None>() != nullptr; }
  bool is_undefined() const { return undefined() != nullptr; }
  bool is_bool() const { return get<bool>() != nullptr; }
  bool is_true() const { return is_bool() && *get<bool>(); }
  bool is_false() const { return is_bool() && !*get<bool>(); }
  bool is_int() const { return get<std::int64_t>() != nullptr; }  // not a bool
  bool is_float() const { return get<double>() != nullptr; }
  bool is_number() const { return is_bool() || is_int() || is_float(); }
  bool is_str() const { return get<StrRef>() != nullptr; }

  const Undefined* undefined() const { return v_.index() == 8 ? std::get<8>(v_).get() : nullptr; }
  const Str* str() const { return is_str() ? std::get<StrRef>(v_).get() : nullptr; }
  const StrRef& str_ref() const { return std::get<StrRef>(v_); }
  const Seq* seq() const { return get<SeqRef>() ? std::get<SeqRef>(v_).get() : nullptr; }
  const Dict* dict() const { return get<DictRef>() ? std::get<DictRef>(v_).get() : nullptr; }
  const ObjectRef* object() const { return get<ObjectRef>(); }
  template <class T>
  T* as() const {
    return object() ? dynamic_cast<T*>(object()->get()) : nullptr;
  }
  // A bool or an integer, as Python lets both be indices.
  std::optional<std::int64_t> integer() const;

  const Storage& storage() const { return v_; }

 private:
  Storage v_;
};

enum class SeqKind { list, tuple, range, iterator, keys, values, items };

struct Seq {
  SeqKind kind = SeqKind::list;
  std::vector<Value> items;
  int depth = 1;                               // of lists in lists
  std::uint64_t weight = 1;                    // what comparing or hashing it may cost, in steps
  std::string type_name;                       // of an iterator, "generator"
  std::int64_t start = 0, stop = 0, step = 1;  // of a range
  bool group = false;                          // a tuple that groupby made: it has .grouper and .list
  std::optional<Failure> failure;              // of an iterator: what happens when it is read on after its elements
  mutable std::size_t taken = 0;               // of an iterator: these elements are gone

  bool is_sized() const { return kind != SeqKind::iterator; }
  bool is_indexable() const { return kind == SeqKind::list || kind == SeqKind::tuple || kind == SeqKind::range; }
};

int depth_of(const Value& value);
std::uint64_t weight_of(const Value& value);
// The meter is charged for the elements; nesting too deeply is a Failure.
SeqRef make_seq(Meter& meter, SeqKind kind, std::vector<Value> items, std::string type_name = {});
Value make_list(Meter& meter, std::vector<Value> items);
Value make_tuple(Meter& meter, std::vector<Value> items);
Value make_iterator(Meter& meter, std::vector<Value> items, std::string type_name = "generator",
                    std::optional<Failure> failure = std::nullopt);

// In the order of insertion. Keys are what Python can hash.
class Dict {
 public:
  using Entry = std::pair<Value, Value>;

  const std::vector<Entry>& entries() const { return entries_; }
  std::size_t size() const { return entries_.size(); }
  int depth() const { return depth_; }
  std::uint64_t weight() const { return weight_; }
  const Value* find(const Value& key) const;  // an unhashable key is a Failure
  const Value* find(std::string_view key) const;
  void set(Meter& meter, Value key, Value value);  // of a dictionary that nobody else holds yet

 private:
  std::size_t index_of(const Value& key, std::size_t hash) const;  // size() if absent

  std::vector<Entry> entries_;
  std::unordered_multimap<std::size_t, std::size_t> index_;  // hash to entry, once there are many
  int depth_ = 1;
  std::uint64_t weight_ = 1;
};

// What a call passes.
struct Args {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  const Value* find(std::string_view name) const;
};

// Everything with identity: namespaces, loops, macros, functions.
class Object {
 public:
  virtual ~Object() = default;
  virtual std::string type_name() const = 0;  // Python's, "Namespace"
  virtual std::string repr(Runtime& rt, int depth) const = 0;
  virtual std::optional<Value> attribute(Runtime&, std::string_view) { return std::nullopt; }
  virtual bool is_callable() const { return false; }
  virtual Value call(Runtime& rt, const Args& args);
  virtual int depth() const { return 0; }
  // Lets go of everything, when a rendering ends: objects may hold one another in a circle.
  virtual void clear() {}
};

std::string type_name(const Value& value);  // "str", "NoneType", "dict_keys"
// As Jinja names an object in messages: "str object", "None".
std::string type_description(const Value& value);

bool truth(const Value& value);
bool equal(const Value& a, const Value& b);
bool identical(const Value& a, const Value& b);  // Python's `is`
std::size_t hash_of(const Value& value);         // an unhashable value is a Failure
[[noreturn]] void raise_undefined(const Undefined& undefined);
// A Failure if `value` is undefined.
void require_defined(const Value& value);

// What iterating over a value gives; an iterator has nothing left afterwards. Not iterable: Failure(type).
class Items {
 public:
  Items(Meter& meter, const Value& value);
  std::span<const Value> all() const { return all_; }
  const Value* begin() const { return all_.data(); }
  const Value* end() const { return all_.data() + all_.size(); }
  std::size_t size() const { return all_.size(); }
  const Value& operator[](std::size_t i) const { return all_[i]; }
  std::vector<Value> copy() const { return {all_.begin(), all_.end()}; }

 private:
  SeqRef owner_;
  std::vector<Value> own_;
  std::span<const Value> all_;
};
bool is_iterable(const Value& value);
std::optional<std::size_t> length_of(const Value& value);  // nullopt: Python's len() would raise TypeError

// Strings of `json` count as user text if `user`.
Value from_json(Meter& meter, const Json& json, bool user);

}  // namespace cajal::jinja
