// How templates reach into values, and how arguments reach parameters.
#include <algorithm>
#include <array>

#include "base/utf8.h"
#include "text/jinja/objects.h"
#include "text/jinja/runtime.h"

namespace cajal::jinja {
namespace {

// What Python keeps for itself, "__class__" and its like, and the sandbox hides. A key of that name can be read.
bool is_hidden(const Value& object, std::string_view name) {
  if (name.size() < 5 || !name.starts_with("__") || !name.ends_with("__")) return false;
  return !object.dict() || !object.dict()->find(name);
}

// Methods that change a list or a dictionary, which the sandbox refuses.
bool is_refused(const Value& object, std::string_view name) {
  constexpr std::array<std::string_view, 8> kList = {"append", "clear", "pop",    "reverse",
                                                     "insert", "sort",  "extend", "remove"};
  constexpr std::array<std::string_view, 5> kDict = {"clear", "pop", "popitem", "setdefault", "update"};
  if (object.dict()) return std::find(kDict.begin(), kDict.end(), name) != kDict.end();
  if (object.seq() && object.seq()->kind == SeqKind::list)
    return std::find(kList.begin(), kList.end(), name) != kList.end();
  return false;
}

// The attribute that Python's getattr finds, or what the sandbox makes of it.
std::optional<Value> attribute_of(Runtime& rt, const Value& object, std::string_view name) {
  if (is_hidden(object, name) || is_refused(object, name))
    return Value::undefined(
        ::cajal::detail::join("access to attribute '", name, "' of '", type_name(object), "' object is unsafe."),
        ErrorKind::security);
  if (const ObjectRef* o = object.object()) return (*o)->attribute(rt, name);
  if (const Method method = find_method(object, name)) return make_bound_method(object, std::string(name), method);
  if (const Seq* seq = object.seq()) {
    if (seq->kind == SeqKind::range) {
      if (name == "start") return Value(seq->start);
      if (name == "stop") return Value(seq->stop);
      if (name == "step") return Value(seq->step);
    }
    if (seq->group && name == "grouper") return seq->items[0];
    if (seq->group && name == "list") return seq->items[1];
  }
  if (object.is_float()) {
    if (name == "real") return object;
    if (name == "imag") return Value(0.0);
  }
  if (object.integer()) {
    if (name == "real" || name == "numerator") return Value(*object.integer());
    if (name == "imag") return Value(std::int64_t{0});
    if (name == "denominator") return Value(std::int64_t{1});
  }
  return std::nullopt;
}

Value missing_attribute(const Value& object, std::string_view name) {
  return Value::undefined(::cajal::detail::join("'", type_description(object), "' has no attribute '", name, "'"));
}

std::optional<Value> element_of(Runtime& rt, const Value& object, const Value& key) {
  if (const Dict* dict = object.dict()) {
    rt.meter.step(weight_of(key));
    try {
      if (const Value* value = dict->find(key)) return *value;
    } catch (const Failure&) {  // an unhashable key
    }
    return std::nullopt;
  }
  const auto index = key.integer();
  if (!index) return std::nullopt;
  const auto at = [&](std::size_t size) -> std::optional<std::size_t> {
    const std::int64_t n = static_cast<std::int64_t>(size), i = *index < 0 ? *index + n : *index;
    return i >= 0 && i < n ? std::optional(static_cast<std::size_t>(i)) : std::nullopt;
  };
  if (const Str* s = object.str()) {
    const auto i = at(s->length);
    if (!i) return std::nullopt;
    rt.meter.step(s->is_ascii() ? 1 : s->bytes.size() / 16);
    const std::size_t begin = s->offset_of(*i);
    return substring(rt.meter, object.str_ref(), begin, begin + decode_utf8(s->bytes, begin).length);
  }
  if (const Seq* seq = object.seq(); seq && seq->is_indexable())
    if (const auto i = at(seq->items.size())) return seq->items[*i];
  return std::nullopt;
}

}  // namespace

Value get_attribute(Runtime& rt, const Value& object, std::string_view name) {
  require_defined(object);
  if (auto value = attribute_of(rt, object, name)) return *value;
  if (const Dict* dict = object.dict())
    if (const Value* value = dict->find(name)) return *value;
  return missing_attribute(object, name);
}

Value get_item(Runtime& rt, const Value& object, const Value& key) {
  require_defined(object);
  if (auto value = element_of(rt, object, key)) return *value;
  if (const Str* name = key.str()) {
    if (auto value = attribute_of(rt, object, name->bytes)) return *value;
    return missing_attribute(object, name->bytes);
  }
  return Value::undefined(::cajal::detail::join(type_description(object), " has no element ", repr_of(rt, key)));
}

Value get_slice(Runtime& rt, const Value& object, const Value& start, const Value& stop, const Value& step) {
  require_defined(object);
  const Str* s = object.str();
  const Seq* seq = object.seq();
  // Unlike with other subscripts, what Python raises here is not turned into an undefined value.
  if (object.dict()) raise(ErrorKind::type, "unhashable type: 'slice'");
  if (!s && !(seq && seq->is_indexable()))
    raise(ErrorKind::type, "'", type_name(object), "' object is not subscriptable");
  for (const Value* bound : {&start, &stop, &step})
    if (!bound->is_none() && !bound->integer())
      raise(ErrorKind::type, "slice indices must be integers or None or have an __index__ method");
  const std::int64_t by = step.integer().value_or(1);
  if (by == 0) raise(ErrorKind::value, "slice step cannot be zero");
  const auto size = static_cast<std::int64_t>(s ? s->length : seq->items.size());
  const std::int64_t lowest = by < 0 ? -1 : 0, highest = by < 0 ? size - 1 : size;
  const auto clamp = [&](const Value& v, std::int64_t absent) {
    if (v.is_none()) return absent;
    std::int64_t i = *v.integer();
    if (i < 0) i = i < -size ? -1 - size : i + size;
    return std::clamp(i, lowest, highest);
  };
  const std::int64_t from = clamp(start, by < 0 ? highest : lowest), to = clamp(stop, by < 0 ? lowest : highest);
  if (s && by == 1) {
    rt.meter.step(s->is_ascii() ? 1 : s->bytes.size() / 16);
    const std::size_t begin = s->offset_of(static_cast<std::size_t>(from));
    const std::size_t end = to > from ? s->offset_of(static_cast<std::size_t>(to)) : begin;
    return substring(rt.meter, object.str_ref(), begin, end);
  }
  std::vector<std::size_t> picked;
  if (by > 0)
    for (std::int64_t i = from; i<to; i = by> to - i ? to : i + by) picked.push_back(static_cast<std::size_t>(i));
  else
    for (std::int64_t i = from; i > to; i = by < to - i ? to : i + by) picked.push_back(static_cast<std::size_t>(i));
  rt.meter.produce(picked.size() * sizeof(Value));
  if (s) {
    std::vector<std::size_t> offsets;
    rt.meter.produce(s->length * sizeof(std::size_t));
    for (std::size_t at = 0; at < s->bytes.size(); at += decode_utf8(s->bytes, at).length) offsets.push_back(at);
    offsets.push_back(s->bytes.size());
    StrBuilder out(rt.meter);
    for (const std::size_t i : picked) out.add(*s, offsets[i], offsets[i + 1]);
    return out.finish(s->markup);
  }
  std::vector<Value> items;
  items.reserve(picked.size());
  for (const std::size_t i : picked) items.push_back(seq->items[i]);
  if (seq->kind != SeqKind::range) return make_seq(rt.meter, seq->kind, std::move(items));
  auto range = std::make_shared<Seq>(*make_seq(rt.meter, SeqKind::range, std::move(items)));
  range->start = seq->start + from * seq->step;
  range->stop = seq->start + to * seq->step;
  range->step = by * seq->step;
  return SeqRef(std::move(range));
}

std::int64_t require_integer(const Value& value) {
  require_defined(value);
  const auto i = value.integer();
  if (!i) raise(ErrorKind::type, "'", type_name(value), "' object cannot be interpreted as an integer");
  return *i;
}

Bound::Bound(std::string_view function, const Args& args, std::initializer_list<std::string_view> names,
             std::size_t required) {
  if (args.positional.size() > names.size())
    raise(ErrorKind::type, function, "() takes at most ", names.size(), " arguments (", args.positional.size(),
          " given)");
  for (std::size_t i = 0; i < args.positional.size(); ++i) values_[i] = &args.positional[i];
  for (const auto& [name, value] : args.named) {
    const auto it = std::find(names.begin(), names.end(), name);
    if (it == names.end()) raise(ErrorKind::type, function, "() got an unexpected keyword argument '", name, "'");
    const Value*& slot = values_[it - names.begin()];
    if (slot) raise(ErrorKind::type, function, "() got multiple values for argument '", name, "'");
    slot = &value;
  }
  for (std::size_t i = 0; i < required; ++i)
    if (!values_[i]) raise(ErrorKind::type, function, "() missing required argument '", *(names.begin() + i), "'");
}

std::int64_t Bound::integer_or(std::size_t i, std::int64_t absent) const {
  return has(i) ? require_integer(*values_[i]) : absent;
}

}  // namespace cajal::jinja
