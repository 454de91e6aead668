// The functions that a template finds without any variables.
#include <array>

#include "text/jinja/objects.h"
#include "text/jinja/runtime.h"

namespace cajal::jinja {
namespace {

Value global_range(Runtime& rt, const Args& args) {
  if (!args.named.empty()) raise(ErrorKind::type, "range() takes no keyword arguments");
  if (args.positional.empty() || args.positional.size() > 3)
    raise(ErrorKind::type, "range expected 1 to 3 arguments, got ", args.positional.size());
  auto range = std::make_shared<Seq>();
  range->kind = SeqKind::range;
  const auto& p = args.positional;
  range->start = p.size() > 1 ? require_integer(p[0]) : 0;
  range->stop = require_integer(p[p.size() > 1 ? 1 : 0]);
  range->step = p.size() > 2 ? require_integer(p[2]) : 1;
  if (range->step == 0) raise(ErrorKind::value, "range() arg 3 must not be zero");
  // Unsigned arithmetic, in which distances across the whole range of integers fit.
  const auto bits = [](std::int64_t i) { return static_cast<std::uint64_t>(i); };
  const bool up = range->step > 0;
  const bool empty = up ? range->start >= range->stop : range->start <= range->stop;
  const std::uint64_t distance = up ? bits(range->stop) - bits(range->start) : bits(range->start) - bits(range->stop);
  const std::uint64_t by = up ? bits(range->step) : 0 - bits(range->step);
  const std::uint64_t size = empty ? 0 : (distance - 1) / by + 1;
  if (size > static_cast<std::uint64_t>(kMaxRange))
    raise(ErrorKind::overflow, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (", kMaxRange, ").");
  rt.meter.produce(size * sizeof(Value));
  range->items.reserve(size);
  for (std::size_t i = 0; i < size; ++i)
    range->items.emplace_back(range->start + static_cast<std::int64_t>(i) * range->step);
  range->weight = size + 1;
  return SeqRef(std::move(range));
}

// dict(mapping or pairs, name=value, ...)
DictRef make_dict(Runtime& rt, const Args& args, std::string_view function) {
  if (args.positional.size() > 1)
    raise(ErrorKind::type, function, " expected at most 1 argument, got ", args.positional.size());
  auto dict = std::make_shared<Dict>();
  if (!args.positional.empty()) {
    const Value& from = args.positional[0];
    if (from.dict()) {
      for (const auto& [key, value] : from.dict()->entries()) dict->set(rt.meter, key, value);
    } else {
      std::size_t i = 0;
      for (const Value& item : Items(rt.meter, from)) {
        if (!is_iterable(item))
          raise(ErrorKind::type, "cannot convert dictionary update sequence element #", i, " to a sequence");
        const Items pair(rt.meter, item);
        if (pair.size() != 2)
          raise(ErrorKind::value, "dictionary update sequence element #", i, " has length ", pair.size(),
                "; 2 is required");
        dict->set(rt.meter, pair[0], pair[1]);
        ++i;
      }
    }
  }
  for (const auto& [name, value] : args.named) dict->set(rt.meter, Value::text(name), value);
  return dict;
}

Value global_dict(Runtime& rt, const Args& args) { return make_dict(rt, args, "dict"); }

Value global_namespace(Runtime& rt, const Args& args) {
  auto object = std::make_shared<Namespace>();
  const DictRef attributes = make_dict(rt, args, "namespace");
  for (const auto& [key, value] : attributes->entries()) {
    if (!key.str()) raise(ErrorKind::type, "attributes of a namespace are named by strings, not ", type_name(key));
    object->set(key.str()->bytes, value);
  }
  rt.meter.produce(sizeof(Namespace));
  rt.keep(object);
  return ObjectRef(std::move(object));
}

class Cycler : public Object {
 public:
  explicit Cycler(std::vector<Value> items) : items_(std::move(items)) {
    for (const Value& item : items_) depth_ = std::max(depth_, depth_of(item) + 1);
  }
  std::string type_name() const override { return "Cycler"; }
  std::string repr(Runtime&, int) const override { return "<jinja2.utils.Cycler object>"; }
  int depth() const override { return depth_; }
  void clear() override { items_.clear(); }
  std::optional<Value> attribute(Runtime&, std::string_view name) override;
  Value next() {
    Value value = items_[at_];
    at_ = (at_ + 1) % items_.size();
    return value;
  }
  void reset() { at_ = 0; }

 private:
  std::vector<Value> items_;
  std::size_t at_ = 0;
  int depth_ = 1;
};

class CyclerMethod : public Object {
 public:
  CyclerMethod(Cycler& cycler, bool is_next) : cycler_(cycler), is_next_(is_next) {}
  std::string type_name() const override { return "method"; }
  std::string repr(Runtime&, int) const override { return "<bound method Cycler>"; }
  bool is_callable() const override { return true; }
  Value call(Runtime&, const Args& args) override {
    const Bound b("next", args, {});
    if (is_next_) return cycler_.next();
    cycler_.reset();
    return {};
  }

 private:
  Cycler& cycler_;  // the rendering keeps it
  bool is_next_;
};

std::optional<Value> Cycler::attribute(Runtime&, std::string_view name) {
  if (name == "current") return items_[at_];
  if (name == "pos") return Value::size(at_);
  if (name == "next" || name == "reset") return Value(ObjectRef(std::make_shared<CyclerMethod>(*this, name == "next")));
  return std::nullopt;
}

Value global_cycler(Runtime& rt, const Args& args) {
  if (!args.named.empty()) raise(ErrorKind::type, "cycler() takes no keyword arguments");
  if (args.positional.empty()) raise(ErrorKind::runtime, "at least one item has to be provided");
  rt.meter.produce(sizeof(Cycler) + args.positional.size() * sizeof(Value));
  auto cycler = std::make_shared<Cycler>(args.positional);
  if (cycler->depth() > kMaxValueDepth) raise(ErrorKind::limit, "a cycler is nested too deeply");
  rt.keep(cycler);
  return ObjectRef(std::move(cycler));
}

class Joiner : public Object {
 public:
  explicit Joiner(Value separator) : separator_(std::move(separator)) {}
  std::string type_name() const override { return "Joiner"; }
  std::string repr(Runtime&, int) const override { return "<jinja2.utils.Joiner object>"; }
  bool is_callable() const override { return true; }
  int depth() const override { return depth_of(separator_) + 1; }
  Value call(Runtime&, const Args& args) override {
    const Bound b("joiner", args, {});
    return std::exchange(used_, true) ? separator_ : Value::text("");
  }

 private:
  Value separator_;
  bool used_ = false;
};

Value global_joiner(Runtime& rt, const Args& args) {
  const Bound b("joiner", args, {"sep"});
  rt.meter.produce(sizeof(Joiner));
  auto joiner = std::make_shared<Joiner>(b.value_or(0, Value::text(", ")));
  if (joiner->depth() > kMaxValueDepth) raise(ErrorKind::limit, "a joiner is nested too deeply");
  return ObjectRef(std::move(joiner));
}

Value global_raise(Runtime& rt, const Args& args) {
  const Bound b("raise_exception", args, {"message"}, 1);
  raise(ErrorKind::raised, to_str(rt, b[0])->bytes);
}

Value global_strftime_now(Runtime& rt, const Args& args) {
  const Bound b("strftime_now", args, {"format"}, 1);
  if (!b[0].str()) raise(ErrorKind::type, "strftime() argument 1 must be str, not ", type_name(b[0]));
  if (!rt.now()) raise(ErrorKind::runtime, "strftime_now: the time is not known here");
  const std::string& format = b[0].str()->bytes;
  StrBuilder out(rt.meter);
  for (std::size_t at = 0; at < format.size();) {
    const std::size_t percent = std::min(format.find('%', at), format.size());
    out.add(*b[0].str(), at, percent);
    if (percent + 1 >= format.size()) {
      out.add(*b[0].str(), percent, format.size());
      break;
    }
    std::size_t end = percent + 1;
    if (std::string_view("-_0^#EO").find(format[end]) != std::string_view::npos && end + 1 < format.size()) ++end;
    const std::string directive = format.substr(percent, end + 1 - percent);
    at = end + 1;
    if (directive == "%f") {
      out.add("000000");
      continue;
    }
    if (directive == "%z" || directive == "%Z") continue;        // local time without a zone
    if (static_cast<unsigned char>(directive.back()) >= 0x80) {  // half a character
      out.add(*b[0].str(), percent, percent + 1);
      at = percent + 1;
      continue;
    }
    std::array<char, 256> buffer{};
    const std::size_t n = std::strftime(buffer.data(), buffer.size(), directive.c_str(), &*rt.now());
    out.add(std::string_view(buffer.data(), n));
  }
  return out.finish();
}

struct Global {
  std::string_view name;
  Function function;
};
constexpr std::array<Global, 7> kGlobals = {{{"cycler", global_cycler},
                                             {"dict", global_dict},
                                             {"joiner", global_joiner},
                                             {"namespace", global_namespace},
                                             {"raise_exception", global_raise},
                                             {"range", global_range},
                                             {"strftime_now", global_strftime_now}}};

}  // namespace

std::optional<Value> find_global(std::string_view name) {
  for (const Global& global : kGlobals)
    if (global.name == name) return make_function(name, global.function);
  return std::nullopt;
}

}  // namespace cajal::jinja
