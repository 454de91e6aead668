#include "text/jinja/methods.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "text/jinja/operators.h"

namespace cajal::jinja {
namespace {

Value seq_index(Runtime& rt, const Value& self, const Args& args) {
  const Bound b("index", args, {"value", "start", "stop"}, 1);
  const auto& items = self.seq()->items;
  const auto size = static_cast<std::int64_t>(items.size());
  const auto clamp = [&](std::int64_t i) { return std::clamp<std::int64_t>(i < 0 ? i + size : i, 0, size); };
  for (std::int64_t i = clamp(b.integer_or(1, 0)); i < clamp(b.integer_or(2, size)); ++i)
    if (compare(rt, CompareOp::eq, items[static_cast<std::size_t>(i)], b[0])) return i;
  raise(ErrorKind::value, repr_of(rt, b[0]), " is not in ", type_name(self));
}

Value seq_count(Runtime& rt, const Value& self, const Args& args) {
  const Bound b("count", args, {"value"}, 1);
  std::int64_t n = 0;
  for (const Value& item : self.seq()->items) n += compare(rt, CompareOp::eq, item, b[0]);
  return n;
}

Value itself(Runtime&, const Value& self, const Args& args) {  // a copy cannot be told apart: values do not change
  const Bound b("copy", args, {});
  return self;
}

Value dict_get(Runtime& rt, const Value& self, const Args& args) {
  const Bound b("get", args, {"key", "default"}, 1);
  rt.meter.step(weight_of(b[0]));
  const Value* value = self.dict()->find(b[0]);
  return value ? *value : b.value_or(1, {});
}

Value dict_view(Runtime& rt, const Value& self, const Args& args, SeqKind kind) {
  const Bound b("view", args, {});
  std::vector<Value> items;
  for (const auto& [key, value] : self.dict()->entries())
    items.push_back(kind == SeqKind::keys ? key : kind == SeqKind::values ? value : make_tuple(rt.meter, {key, value}));
  return make_seq(rt.meter, kind, std::move(items));
}

constexpr std::array kSeq = {
    NamedMethod{"count", seq_count},
    NamedMethod{"index", seq_index},
};
constexpr std::array kList = {
    NamedMethod{"copy", itself},
    NamedMethod{"count", seq_count},
    NamedMethod{"index", seq_index},
};
constexpr std::array kDict = {
    NamedMethod{"copy", itself},
    NamedMethod{"get", dict_get},
    NamedMethod{"items",
                [](Runtime& rt, const Value& s, const Args& a) { return dict_view(rt, s, a, SeqKind::items); }},
    NamedMethod{"keys", [](Runtime& rt, const Value& s, const Args& a) { return dict_view(rt, s, a, SeqKind::keys); }},
    NamedMethod{"values",
                [](Runtime& rt, const Value& s, const Args& a) { return dict_view(rt, s, a, SeqKind::values); }},
};
constexpr std::array kFloat = {
    NamedMethod{"is_integer", [](Runtime&, const Value& s,
                                 const Args&) { return Value(std::trunc(*s.get<double>()) == *s.get<double>()); }},
};

}  // namespace

Method find_method(const Value& self, std::string_view name) {
  std::span<const NamedMethod> methods;
  if (self.str())
    methods = str_methods();
  else if (self.dict())
    methods = kDict;
  else if (self.is_float())
    methods = kFloat;
  else if (const Seq* seq = self.seq())
    methods = seq->kind == SeqKind::list ? std::span<const NamedMethod>(kList)
              : seq->is_indexable()      ? std::span<const NamedMethod>(kSeq)
                                         : methods;
  const auto it = std::lower_bound(methods.begin(), methods.end(), name,
                                   [](const NamedMethod& m, std::string_view n) { return m.name < n; });
  return it != methods.end() && it->name == name ? it->method : nullptr;
}

}  // namespace cajal::jinja
