#include "text/jinja/value.h"

#include <algorithm>
#include <cmath>

#include "base/utf8.h"

namespace cajal::jinja {
namespace {

constexpr std::size_t kIndexFrom = 16;  // entries of a dictionary that are searched one by one

// Exact, as Python compares: no rounding of the integer.
bool equal_numbers(std::int64_t a, double b) {
  return b >= -9223372036854775808.0 && b < 9223372036854775808.0 && std::trunc(b) == b &&
         static_cast<std::int64_t>(b) == a;
}

std::size_t mix(std::size_t a, std::size_t b) { return (a ^ b) * 0x9e3779b97f4a7c15ULL + (a >> 29); }

// Shared parts count each time, so that the sum can grow exponentially.
std::uint64_t add_weights(std::uint64_t a, std::uint64_t b) {
  constexpr std::uint64_t kMost = std::uint64_t{1} << 60;
  return std::min(a + b, kMost);
}

void check_depth(int depth) {
  if (depth > kMaxValueDepth)
    raise(ErrorKind::limit, "more than ", kMaxValueDepth, " lists or dictionaries inside one another");
}

}  // namespace

Value Value::undefined(std::string message, ErrorKind kind) {
  Value v;
  v.v_ = std::make_shared<const Undefined>(Undefined{std::move(message), kind});
  return v;
}

Value Value::missing() {
  Value v;
  v.v_ = std::shared_ptr<const Undefined>();
  return v;
}

std::optional<std::int64_t> Value::integer() const {
  if (const auto* i = get<std::int64_t>()) return *i;
  if (const auto* b = get<bool>()) return *b ? 1 : 0;
  return std::nullopt;
}

int depth_of(const Value& value) {
  if (const Seq* seq = value.seq()) return seq->depth;
  if (const Dict* dict = value.dict()) return dict->depth();
  if (const ObjectRef* object = value.object()) return (*object)->depth();
  return 0;
}

std::uint64_t weight_of(const Value& value) {
  if (const Str* str = value.str()) return 1 + str->bytes.size() / 32;
  if (const Seq* seq = value.seq()) return seq->weight;
  if (const Dict* dict = value.dict()) return dict->weight();
  return 1;
}

SeqRef make_seq(Meter& meter, SeqKind kind, std::vector<Value> items, std::string type_name) {
  meter.produce(items.size() * sizeof(Value));
  auto seq = std::make_shared<Seq>();
  seq->kind = kind;
  for (const Value& item : items) {
    seq->depth = std::max(seq->depth, depth_of(item) + 1);
    seq->weight = add_weights(seq->weight, weight_of(item));
  }
  seq->items = std::move(items);
  seq->type_name = std::move(type_name);
  check_depth(seq->depth);
  return seq;
}

Value make_list(Meter& meter, std::vector<Value> items) { return make_seq(meter, SeqKind::list, std::move(items)); }
Value make_tuple(Meter& meter, std::vector<Value> items) { return make_seq(meter, SeqKind::tuple, std::move(items)); }
Value make_iterator(Meter& meter, std::vector<Value> items, std::string type_name, std::optional<Failure> failure) {
  auto seq = std::make_shared<Seq>(*make_seq(meter, SeqKind::iterator, std::move(items), std::move(type_name)));
  seq->failure = std::move(failure);
  return SeqRef(std::move(seq));
}

std::size_t Dict::index_of(const Value& key, std::size_t hash) const {
  if (index_.empty()) {
    for (std::size_t i = 0; i < entries_.size(); ++i)
      if (equal(entries_[i].first, key)) return i;
    return entries_.size();
  }
  const auto [first, last] = index_.equal_range(hash);
  for (auto it = first; it != last; ++it)
    if (equal(entries_[it->second].first, key)) return it->second;
  return entries_.size();
}

const Value* Dict::find(const Value& key) const {
  const std::size_t i = index_of(key, hash_of(key));
  return i < entries_.size() ? &entries_[i].second : nullptr;
}

const Value* Dict::find(std::string_view key) const {
  if (!index_.empty()) return find(Value::text(key));
  for (const auto& [name, value] : entries_)
    if (const Str* s = name.str(); s && s->bytes == key) return &value;
  return nullptr;
}

void Dict::set(Meter& meter, Value key, Value value) {
  meter.step(weight_of(key));
  const std::size_t hash = hash_of(key), i = index_of(key, hash);
  weight_ = add_weights(weight_, add_weights(weight_of(key), weight_of(value)));
  depth_ = std::max({depth_, depth_of(value) + 1, depth_of(key) + 1});
  check_depth(depth_);
  if (i < entries_.size()) {
    entries_[i].second = std::move(value);
    return;
  }
  meter.produce(2 * sizeof(Entry));
  entries_.emplace_back(std::move(key), std::move(value));
  if (!index_.empty()) {
    index_.emplace(hash, i);
  } else if (entries_.size() > kIndexFrom) {
    for (std::size_t e = 0; e < entries_.size(); ++e) index_.emplace(hash_of(entries_[e].first), e);
  }
}

const Value* Args::find(std::string_view name) const {
  for (const auto& [key, value] : named)
    if (key == name) return &value;
  return nullptr;
}

Value Object::call(Runtime&, const Args&) { raise(ErrorKind::type, "'", type_name(), "' object is not callable"); }

std::string type_name(const Value& value) {
  struct Visitor {
    std::string operator()(None) const { return "NoneType"; }
    std::string operator()(bool) const { return "bool"; }
    std::string operator()(std::int64_t) const { return "int"; }
    std::string operator()(double) const { return "float"; }
    std::string operator()(const StrRef& s) const { return s->markup ? "Markup" : "str"; }
    std::string operator()(const SeqRef& s) const {
      switch (s->kind) {
        case SeqKind::list: return "list";
        case SeqKind::tuple: return s->group ? "_GroupTuple" : "tuple";
        case SeqKind::range: return "range";
        case SeqKind::iterator: return s->type_name;
        case SeqKind::keys: return "dict_keys";
        case SeqKind::values: return "dict_values";
        case SeqKind::items: return "dict_items";
      }
      return "";
    }
    std::string operator()(const DictRef&) const { return "dict"; }
    std::string operator()(const ObjectRef& o) const { return o->type_name(); }
    std::string operator()(const std::shared_ptr<const Undefined>&) const { return "Undefined"; }
  };
  return std::visit(Visitor{}, value.storage());
}

std::string type_description(const Value& value) {
  if (value.is_none()) return "None";
  const std::string name = type_name(value);
  if (value.object()) return "jinja2.utils." + name + " object";
  if (const Str* s = value.str(); s && s->markup) return "markupsafe.Markup object";
  return name + " object";
}

bool truth(const Value& value) {
  struct Visitor {
    bool operator()(None) const { return false; }
    bool operator()(bool b) const { return b; }
    bool operator()(std::int64_t i) const { return i != 0; }
    bool operator()(double d) const { return d != 0; }
    bool operator()(const StrRef& s) const { return !s->bytes.empty(); }
    bool operator()(const SeqRef& s) const { return s->kind == SeqKind::iterator || !s->items.empty(); }
    bool operator()(const DictRef& d) const { return d->size() != 0; }
    bool operator()(const ObjectRef&) const { return true; }
    bool operator()(const std::shared_ptr<const Undefined>&) const { return false; }
  };
  return std::visit(Visitor{}, value.storage());
}

bool equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    const auto x = a.integer(), y = b.integer();
    if (x && y) return *x == *y;
    if (x) return equal_numbers(*x, *b.get<double>());
    if (y) return equal_numbers(*y, *a.get<double>());
    return *a.get<double>() == *b.get<double>();
  }
  if (a.str() && b.str()) return a.str()->bytes == b.str()->bytes;
  if (a.seq() && b.seq()) {
    const Seq &x = *a.seq(), &y = *b.seq();
    if (&x == &y) return true;
    if (x.kind == SeqKind::keys && y.kind == SeqKind::keys)  // sets, in Python
      return x.items.size() == y.items.size() &&
             std::is_permutation(x.items.begin(), x.items.end(), y.items.begin(), equal);
    if (x.kind != y.kind || !x.is_indexable() || x.items.size() != y.items.size()) return false;
    return std::equal(x.items.begin(), x.items.end(), y.items.begin(), equal);
  }
  if (a.dict() && b.dict()) {
    const Dict &x = *a.dict(), &y = *b.dict();
    if (x.size() != y.size()) return false;
    return std::all_of(x.entries().begin(), x.entries().end(), [&](const Dict::Entry& entry) {
      const Value* other = y.find(entry.first);
      return other && equal(entry.second, *other);
    });
  }
  if (a.is_none() && b.is_none()) return true;
  if (a.is_undefined() && b.is_undefined()) return true;
  return a.object() && b.object() && *a.object() == *b.object();
}

bool identical(const Value& a, const Value& b) {
  if (a.storage().index() != b.storage().index()) return false;
  if (a.seq()) return a.seq() == b.seq();
  if (a.dict()) return a.dict() == b.dict();
  if (a.is_undefined()) return a.undefined() == b.undefined();
  return equal(a, b);  // small integers and most strings of templates are one object in Python too
}

std::size_t hash_of(const Value& value) {
  struct Visitor {
    std::size_t operator()(None) const { return 0x5bd1e995; }
    std::size_t operator()(bool b) const { return (*this)(std::int64_t{b}); }
    std::size_t operator()(std::int64_t i) const { return mix(std::hash<std::int64_t>()(i), 1); }
    std::size_t operator()(double d) const {
      const bool whole = std::trunc(d) == d && d >= -9223372036854775808.0 && d < 9223372036854775808.0;
      return whole ? (*this)(static_cast<std::int64_t>(d)) : mix(std::hash<double>()(d), 2);
    }
    std::size_t operator()(const StrRef& s) const { return std::hash<std::string>()(s->bytes); }
    std::size_t operator()(const SeqRef& s) const {
      if (s->kind == SeqKind::list || s->kind == SeqKind::keys || s->kind == SeqKind::items)
        raise(ErrorKind::type, "unhashable type: '", type_name(Value(s)), "'");
      if (s->kind != SeqKind::tuple) return std::hash<const void*>()(s.get());
      std::size_t h = 3;
      for (const Value& item : s->items) h = mix(h, hash_of(item));
      return h;
    }
    std::size_t operator()(const DictRef&) const { raise(ErrorKind::type, "unhashable type: 'dict'"); }
    std::size_t operator()(const ObjectRef& o) const { return std::hash<const void*>()(o.get()); }
    std::size_t operator()(const std::shared_ptr<const Undefined>&) const { return 7; }
  };
  return std::visit(Visitor{}, value.storage());
}

void raise_undefined(const Undefined& undefined) { raise(undefined.kind, undefined.message); }

void require_defined(const Value& value) {
  if (const Undefined* undefined = value.undefined()) raise_undefined(*undefined);
}

bool is_iterable(const Value& value) {
  return value.str() || value.seq() || value.dict() || value.is_undefined() ||
         (value.object() && type_name(value) == "LoopContext");
}

std::optional<std::size_t> length_of(const Value& value) {
  if (const Str* s = value.str()) return s->length;
  if (const Seq* s = value.seq(); s && s->is_sized()) return s->items.size();
  if (const Dict* d = value.dict()) return d->size();
  if (value.is_undefined()) return 0;
  return std::nullopt;
}

Items::Items(Meter& meter, const Value& value) {
  if (const SeqRef* seq = value.get<SeqRef>()) {
    owner_ = *seq;
    std::size_t from = 0;
    if (owner_->kind == SeqKind::iterator) from = std::exchange(owner_->taken, owner_->items.size());
    if (owner_->failure) throw Failure(*owner_->failure);
    all_ = std::span(owner_->items).subspan(from);
    meter.step(all_.size());
    return;
  }
  if (const Dict* dict = value.dict()) {
    meter.produce(dict->size() * sizeof(Value));
    for (const auto& entry : dict->entries()) own_.push_back(entry.first);
  } else if (const Str* str = value.str()) {
    meter.produce(str->length * (sizeof(Value) + sizeof(Str)));
    for (std::size_t at = 0; at < str->bytes.size();) {
      const std::size_t length = decode_utf8(str->bytes, at).length;
      own_.emplace_back(substring(meter, value.str_ref(), at, at + length));
      at += length;
    }
  } else if (!value.is_undefined()) {
    raise(ErrorKind::type, "'", type_name(value), "' object is not iterable");
  }
  all_ = own_;
}

Value from_json(Meter& meter, const Json& json, bool user) {
  if (json.is_null()) return {};
  if (json.is_bool()) return json.as_bool();
  if (json.is_int()) return json.as_int();
  if (json.is_double()) return json.as_double();
  const auto text = [&](const std::string& s) {
    meter.produce(s.size());
    return make_str(is_valid_utf8(s) ? s : replace_invalid_utf8(s), user);
  };
  if (json.is_string()) return text(json.as_string());
  if (json.is_array()) {
    std::vector<Value> items;
    items.reserve(json.as_array().size());
    for (const Json& element : json.as_array()) items.push_back(from_json(meter, element, user));
    return make_list(meter, std::move(items));
  }
  auto dict = std::make_shared<Dict>();
  for (const auto& [key, member] : json.as_object()) dict->set(meter, text(key), from_json(meter, member, user));
  return DictRef(std::move(dict));
}

}  // namespace cajal::jinja
