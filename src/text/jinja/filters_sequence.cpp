// Filters of lists, dictionaries and whatever can be iterated.
#include <array>

#include "text/jinja/filters.h"
#include "text/jinja/operators.h"
#include "text/jinja/str_methods.h"

namespace cajal::jinja {
namespace {

// --- reading attributes, as in map(attribute="a.b.0") ---

std::vector<Value> attribute_path(const Value& attribute) {
  std::vector<Value> path;
  if (attribute.is_none()) return path;
  if (!attribute.str()) return {attribute};
  const std::string& text = attribute.str()->bytes;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('.', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    const bool number = !part.empty() && part.size() < 19 && part.find_first_not_of("0123456789") == part.npos;
    path.push_back(number ? Value(std::int64_t{std::strtoll(part.c_str(), nullptr, 10)}) : Value::text(part));
    begin = end + 1;
  }
  return path;
}

Value follow(Runtime& rt, Value item, const std::vector<Value>& path, const Value* absent = nullptr) {
  for (const Value& part : path) {
    item = get_item(rt, item, part);
    if (absent && item.is_undefined()) item = *absent;
  }
  return item;
}

Value without_case(Runtime& rt, const Value& v) { return v.str() ? Value(lower(rt, v.str_ref())) : v; }

// What elements are compared by.
struct Key {
  Key(Runtime& r, const Value& attribute, bool case_sensitive_)
      : rt(r), path(attribute_path(attribute)), case_sensitive(case_sensitive_) {}
  Value operator()(const Value& item) const {
    const Value key = follow(rt, item, path);
    return case_sensitive ? key : without_case(rt, key);
  }
  Runtime& rt;
  std::vector<Value> path;
  bool case_sensitive;
};

struct Keyed {
  Value key, item;
};

void sort_by_key(Runtime& rt, std::vector<Keyed>& keyed, bool reverse) {
  // Sorting backwards keeps the order of equal elements, too.
  if (reverse) std::reverse(keyed.begin(), keyed.end());
  std::stable_sort(keyed.begin(), keyed.end(), [&](const Keyed& a, const Keyed& b) { return less(rt, a.key, b.key); });
  if (reverse) std::reverse(keyed.begin(), keyed.end());
}

// Python computes the elements of a generator when they are asked for, and fails then. Here they are computed at once,
// and a failure waits.
template <class Compute>
Value generate(Runtime& rt, Compute compute) {
  std::vector<Value> items;
  std::optional<Failure> failure;
  try {
    compute(items);
  } catch (const Failure& f) {
    if (f.kind == ErrorKind::limit) throw;
    failure = f;
  }
  return make_iterator(rt.meter, std::move(items), "generator", std::move(failure));
}

// --- filters ---

Value filter_length(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("length", args, {});
  if (const auto n = length_of(v)) return Value::size(*n);
  if (v.object() && type_name(v) == "LoopContext") return get_attribute(rt, v, "length");
  raise(ErrorKind::type, "object of type '", type_name(v), "' has no len()");
}

Value filter_first(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("first", args, {});
  if (const Seq* seq = v.seq(); seq && seq->kind == SeqKind::iterator) {
    if (seq->taken < seq->items.size()) return seq->items[seq->taken++];
    if (seq->failure) throw Failure(*seq->failure);
  } else if (const Str* s = v.str(); s && s->length) {
    return get_item(rt, v, std::int64_t{0});
  } else if (seq && !seq->items.empty()) {
    return seq->items.front();
  } else if (!s && !seq) {
    const Items items(rt.meter, v);
    if (items.size()) return items[0];
  }
  return Value::undefined("No first item, sequence was empty.");
}

void require_reversible(const Value& v) {
  const bool ok = v.str() || v.dict() || v.is_undefined() || (v.seq() && v.seq()->is_sized());
  if (!ok) raise(ErrorKind::type, "'", type_name(v), "' object is not reversible");
}

Value filter_last(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("last", args, {});
  require_reversible(v);
  if (const Str* s = v.str(); s && s->length) return get_item(rt, v, std::int64_t{-1});
  const Items items(rt.meter, v);
  if (items.size()) return items[items.size() - 1];
  return Value::undefined("No last item, sequence was empty.");
}

Value filter_list(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("list", args, {});
  return make_list(rt.meter, Items(rt.meter, v).copy());
}

Value filter_reverse(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("reverse", args, {});
  if (v.str()) return get_slice(rt, v, {}, {}, std::int64_t{-1});
  if (!is_iterable(v)) raise(ErrorKind::runtime, "argument must be iterable");
  std::vector<Value> items = Items(rt.meter, v).copy();
  std::reverse(items.begin(), items.end());
  if (v.seq() && v.seq()->kind == SeqKind::iterator) return make_list(rt.meter, std::move(items));
  const std::string name = v.dict()                                    ? "dict_reversekeyiterator"
                           : v.seq() && v.seq()->kind == SeqKind::list ? "list_reverseiterator"
                                                                       : "reversed";
  return make_iterator(rt.meter, std::move(items), name);
}

Value filter_join(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("join", args, {"d", "attribute"});
  const std::vector<Value> path = b.has(1) ? attribute_path(b[1]) : std::vector<Value>();
  std::vector<StrRef> parts;
  for (const Value& item : Items(rt.meter, v)) parts.push_back(to_str(rt, follow(rt, item, path)));
  return join(rt, *to_str(rt, b.value_or(0, Value::text(""))), parts);
}

Value filter_default(Runtime&, const Value& v, const Args& args) {
  const Bound b("default", args, {"default_value", "boolean"});
  if (v.is_undefined() || (b.truth_or(1, false) && !truth(v))) return b.value_or(0, Value::text(""));
  return v;
}

Value filter_items(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("items", args, {});
  return generate(rt, [&](std::vector<Value>& items) {
    if (v.is_undefined()) return;
    if (!v.dict()) raise(ErrorKind::type, "Can only get item pairs from a mapping.");
    for (const auto& [key, value] : v.dict()->entries()) items.push_back(make_tuple(rt.meter, {key, value}));
  });
}

Value filter_dictsort(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("dictsort", args, {"case_sensitive", "by", "reverse"});
  const std::string by = b.has(1) && b[1].str() ? b[1].str()->bytes : b.has(1) ? "" : "key";
  if (by != "key" && by != "value") raise(ErrorKind::runtime, "You can only sort by either \"key\" or \"value\"");
  require_defined(v);
  if (!v.dict()) raise(ErrorKind::type, "'", type_name(v), "' object has no items to sort");
  std::vector<Keyed> keyed;
  for (const auto& [key, value] : v.dict()->entries()) {
    const Value& k = by == "key" ? key : value;
    keyed.push_back({b.truth_or(0, false) ? k : without_case(rt, k), make_tuple(rt.meter, {key, value})});
  }
  sort_by_key(rt, keyed, b.truth_or(2, false));
  std::vector<Value> items;
  items.reserve(keyed.size());
  for (Keyed& k : keyed) items.push_back(std::move(k.item));
  return make_list(rt.meter, std::move(items));
}

Value filter_sort(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("sort", args, {"reverse", "case_sensitive", "attribute"});
  // Several attributes may be named, with commas between them.
  std::vector<Key> keys;
  const bool case_sensitive = b.truth_or(1, false);
  if (b.has(2) && b[2].str()) {
    const std::string& names = b[2].str()->bytes;
    for (std::size_t begin = 0; begin <= names.size();) {
      const std::size_t end = std::min(names.find(',', begin), names.size());
      keys.emplace_back(rt, Value::text(std::string_view(names).substr(begin, end - begin)), case_sensitive);
      begin = end + 1;
    }
  } else {
    keys.emplace_back(rt, b.value_or(2, {}), case_sensitive);
  }
  std::vector<Keyed> keyed;
  for (const Value& item : Items(rt.meter, v)) {
    std::vector<Value> parts;
    parts.reserve(keys.size());
    for (const Key& key : keys) parts.push_back(key(item));
    keyed.push_back({make_list(rt.meter, std::move(parts)), item});
  }
  sort_by_key(rt, keyed, b.truth_or(0, false));
  std::vector<Value> items;
  items.reserve(keyed.size());
  for (Keyed& k : keyed) items.push_back(std::move(k.item));
  return make_list(rt.meter, std::move(items));
}

Value filter_unique(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("unique", args, {"case_sensitive", "attribute"});
  return generate(rt, [&](std::vector<Value>& items) {
    const Key key(rt, b.value_or(1, {}), b.truth_or(0, false));
    Dict seen;
    for (const Value& item : Items(rt.meter, v)) {
      const Value k = key(item);
      rt.meter.step(weight_of(k));
      if (seen.find(k)) continue;
      seen.set(rt.meter, k, {});
      items.push_back(item);
    }
  });
}

Value filter_groupby(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("groupby", args, {"attribute", "default", "case_sensitive"}, 1);
  const std::vector<Value> path = attribute_path(b[0]);
  const Value* absent = b.has(1) && !b[1].is_none() ? &b[1] : nullptr;
  const auto key_of = [&](const Value& item) { return follow(rt, item, path, absent); };
  std::vector<Keyed> keyed;
  for (const Value& item : Items(rt.meter, v)) {
    const Value key = key_of(item);
    keyed.push_back({b.truth_or(2, false) ? key : without_case(rt, key), item});
  }
  sort_by_key(rt, keyed, false);
  std::vector<Value> groups;
  for (std::size_t i = 0; i < keyed.size();) {
    std::vector<Value> members;
    const std::size_t first = i;
    for (; i < keyed.size() && compare(rt, CompareOp::eq, keyed[i].key, keyed[first].key); ++i)
      members.push_back(keyed[i].item);
    if (members.empty()) members.push_back(keyed[i++].item);  // a key that is not equal to itself
    auto group = std::make_shared<Seq>(
        *make_seq(rt.meter, SeqKind::tuple, {key_of(members.front()), make_list(rt.meter, members)}));
    group->group = true;
    groups.emplace_back(SeqRef(std::move(group)));
  }
  return make_list(rt.meter, std::move(groups));
}

Value extreme(Runtime& rt, const Value& v, const Args& args, bool largest) {
  const Bound b(largest ? "max" : "min", args, {"case_sensitive", "attribute"});
  const Key key(rt, b.value_or(1, {}), b.truth_or(0, false));
  const Items items(rt.meter, v);
  if (!items.size()) return Value::undefined("No aggregated item, sequence was empty.");
  Keyed best{key(items[0]), items[0]};
  for (std::size_t i = 1; i < items.size(); ++i) {
    Keyed next{key(items[i]), items[i]};
    if (largest ? less(rt, best.key, next.key) : less(rt, next.key, best.key)) best = std::move(next);
  }
  return best.item;
}

Value filter_sum(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("sum", args, {"attribute", "start"});
  const std::vector<Value> path = attribute_path(b.value_or(0, {}));
  Value total = b.value_or(1, std::int64_t{0});
  if (total.str()) raise(ErrorKind::type, "sum() can't sum strings [use ''.join(seq) instead]");
  for (const Value& item : Items(rt.meter, v)) total = binary(rt, BinaryOp::add, total, follow(rt, item, path));
  return total;
}

Value filter_batch(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("batch", args, {"linecount", "fill_with"}, 1);
  return generate(rt, [&](std::vector<Value>& rows) {
    const std::int64_t size = require_integer(b[0]);
    const bool fill = b.has(1) && !b[1].is_none();
    std::vector<Value> row;
    for (const Value& item : Items(rt.meter, v)) {
      if (static_cast<std::int64_t>(row.size()) == size) rows.push_back(make_list(rt.meter, std::exchange(row, {})));
      row.push_back(item);
    }
    if (!row.empty()) {
      for (std::int64_t i = static_cast<std::int64_t>(row.size()); fill && i < size; ++i) {
        rt.meter.produce(sizeof(Value));
        row.push_back(b[1]);
      }
      rows.push_back(make_list(rt.meter, std::move(row)));
    }
  });
}

Value filter_slice(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("slice", args, {"slices", "fill_with"}, 1);
  return generate(rt, [&](std::vector<Value>& result) {
    const std::int64_t slices = require_integer(b[0]);
    const Items items(rt.meter, v);
    if (slices == 0) raise(ErrorKind::zero_division, "integer division or modulo by zero");
    const auto length = static_cast<std::int64_t>(items.size());
    const std::int64_t each = slices > 0 ? length / slices : 0, extra = slices > 0 ? length % slices : 0;
    std::int64_t at = 0;
    for (std::int64_t i = 0; i < slices; ++i) {
      const std::int64_t end = at + each + (i < extra ? 1 : 0);
      std::vector<Value> part;
      for (; at < end; ++at) part.push_back(items[static_cast<std::size_t>(at)]);
      if (b.has(1) && !b[1].is_none() && i >= extra) part.push_back(b[1]);
      rt.meter.step();
      result.push_back(make_list(rt.meter, std::move(part)));
    }
  });
}

// The arguments after the first `n`.
Args rest_of(const Args& args, std::size_t n) {
  Args rest;
  rest.positional.assign(args.positional.begin() + static_cast<std::ptrdiff_t>(n), args.positional.end());
  rest.named = args.named;
  return rest;
}

const std::string& name_in(const Value& v) {
  if (!v.str()) raise(ErrorKind::runtime, "No filter or test named ", type_name(v), ".");
  return v.str()->bytes;
}

Value filter_map(Runtime& rt, const Value& v, const Args& args) {
  return generate(rt, [&](std::vector<Value>& items) {
    if (!truth(v)) return;
    if (args.positional.empty() && args.find("attribute")) {
      for (const auto& [name, value] : args.named)
        if (name != "attribute" && name != "default")
          raise(ErrorKind::runtime, "Unexpected keyword argument '", name, "'");
      const std::vector<Value> path = attribute_path(*args.find("attribute"));
      const Value* absent = args.find("default");
      if (absent && absent->is_none()) absent = nullptr;
      for (const Value& item : Items(rt.meter, v)) items.push_back(follow(rt, item, path, absent));
    } else {
      if (args.positional.empty()) raise(ErrorKind::runtime, "map requires a filter argument");
      const Args rest = rest_of(args, 1);
      for (const Value& item : Items(rt.meter, v))
        items.push_back(apply_filter(rt, name_in(args.positional[0]), item, rest));
    }
  });
}

Value pick(Runtime& rt, const Value& v, const Args& args, bool keep, bool by_attribute) {
  return generate(rt, [&](std::vector<Value>& items) {
    if (!truth(v)) return;
    if (by_attribute && args.positional.empty()) raise(ErrorKind::runtime, "Missing parameter for attribute name");
    const std::vector<Value> path = by_attribute ? attribute_path(args.positional[0]) : std::vector<Value>();
    const std::size_t used = by_attribute ? 1 : 0;
    const bool has_test = args.positional.size() > used;
    const Args rest = has_test ? rest_of(args, used + 1) : Args();
    for (const Value& item : Items(rt.meter, v)) {
      const Value subject = follow(rt, item, path);
      const bool passes = has_test ? apply_test(rt, name_in(args.positional[used]), subject, rest) : truth(subject);
      if (passes == keep) items.push_back(item);
    }
  });
}

Value filter_attr(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("attr", args, {"name"}, 1);
  const StrRef name = to_str(rt, b[0]);
  require_defined(v);
  if (v.dict() && !find_method(v, name->bytes))  // an attribute only: no look at the keys
    return Value::undefined(::cajal::detail::join("'dict object' has no attribute '", name->bytes, "'"));
  return get_attribute(rt, v, name->bytes);
}

#define CAJAL_FILTER(body) [](Runtime& rt, const Value& v, const Args& args) -> Value { return body; }
constexpr std::array<NamedFilter, 25> kFilters = {{
    {"attr", filter_attr},
    {"batch", filter_batch},
    {"count", filter_length},
    {"d", filter_default},
    {"default", filter_default},
    {"dictsort", filter_dictsort},
    {"first", filter_first},
    {"groupby", filter_groupby},
    {"items", filter_items},
    {"join", filter_join},
    {"last", filter_last},
    {"length", filter_length},
    {"list", filter_list},
    {"map", filter_map},
    {"max", CAJAL_FILTER(extreme(rt, v, args, true))},
    {"min", CAJAL_FILTER(extreme(rt, v, args, false))},
    {"reject", CAJAL_FILTER(pick(rt, v, args, false, false))},
    {"rejectattr", CAJAL_FILTER(pick(rt, v, args, false, true))},
    {"reverse", filter_reverse},
    {"select", CAJAL_FILTER(pick(rt, v, args, true, false))},
    {"selectattr", CAJAL_FILTER(pick(rt, v, args, true, true))},
    {"slice", filter_slice},
    {"sort", filter_sort},
    {"sum", filter_sum},
    {"unique", filter_unique},
}};
#undef CAJAL_FILTER

}  // namespace

std::span<const NamedFilter> sequence_filters() { return kFilters; }

Filter find_filter(std::string_view name) {
  const Filter filter = find_in(text_filters(), name);
  return filter ? filter : find_in(sequence_filters(), name);
}

Value apply_filter(Runtime& rt, std::string_view name, const Value& input, const Args& args) {
  const Filter filter = find_filter(name);
  if (!filter) raise(ErrorKind::runtime, "No filter named '", name, "'.");
  rt.meter.step();
  return filter(rt, input, args);
}

}  // namespace cajal::jinja
