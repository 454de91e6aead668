// The text form of a graph. One line a node:
//   %5, %6 = region(%3, %4, %2) {kind="add_rms_norm"} : bf16[8,64], bf16[8,64]  # model.layers.0
// A region's body follows in indented lines between '{' and '}'. Attributes that equal their default are left out.
#include <cctype>
#include <charconv>
#include <map>
#include <sstream>

#include "graph/attributes.h"
#include "graph/graph.h"

namespace cajal {
namespace {

void put(std::string& out, const std::string& s) {
  out += '"';
  for (const char c : s) {
    if (c == '"' || c == '\\' || c == '\n') out += '\\';
    out += c == '\n' ? 'n' : c;
  }
  out += '"';
}
void put(std::string& out, bool b) { out += b ? "true" : "false"; }
void put(std::string& out, std::int64_t i) { out += std::to_string(i); }
void put(std::string& out, int i) { out += std::to_string(i); }
void put(std::string& out, float f) {
  char digits[32];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, f).ptr);
}
void put(std::string& out, double d) {
  char digits[32];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, d).ptr);
}
void put(std::string& out, DType t) { out += to_string(t); }
void put(std::string& out, const Shape& s) { out += to_string(s); }
void put(std::string& out, RankGroup group) { out += group == RankGroup::tensor ? "tensor" : "world"; }
void put(std::string& out, const WeightPiece& p);
template <class T>
void put(std::string& out, const std::vector<T>& list) {
  out += '[';
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (i) out += ' ';
    put(out, list[i]);
  }
  out += ']';
}

// "name"[16,8] of which ranks hold shares: /0:2, or by units of 4 elements /0:2:4[0 1 -1 -1]
void put(std::string& out, const WeightPiece& p) {
  put(out, p.name);
  put(out, p.shape);
  const Sharding& s = p.sharding;
  if (s.replicated()) return;
  out += detail::join("/", s.dim, ":", s.parts);
  if (s.units.empty()) return;
  out += detail::join(":", s.unit);
  put(out, s.units);
}

std::string attributes_text(const Op& op) {
  return std::visit(
      []<class T>(const T& o) {
        const T defaults{};
        std::map<std::string, std::string> default_text;
        visit_attributes(defaults, [&](const char* name, const auto& value) { put(default_text[name], value); });
        std::string out;
        visit_attributes(o, [&](const char* name, const auto& value) {
          std::string text;
          put(text, value);
          if (text != default_text[name]) out += detail::join(out.empty() ? "" : ", ", name, "=", text);
        });
        return out;
      },
      op);
}

std::string text_of(const Graph& graph, const std::string& indent) {
  std::string out;
  const auto values = [](std::span<const Value> list) {
    std::string s;
    for (const Value v : list) s += detail::join(s.empty() ? "%" : ", %", v.id);
    return s;
  };
  for (const Node& node : graph.nodes()) {
    out += detail::join(indent, values(node.results), " = ", op_name(node.op), "(", values(node.inputs), ")");
    if (const std::string attributes = attributes_text(node.op); !attributes.empty()) out += " {" + attributes + "}";
    out += " : ";
    for (std::size_t i = 0; i < node.results.size(); ++i)
      out += (i ? ", " : "") + to_string(graph.type(node.results[i]));
    out += "  # " + node.name + "\n";
    if (const auto* region = std::get_if<ops::Region>(&node.op))
      out += indent + "{\n" + text_of(*region->body, indent + "  ") + indent + "}\n";
  }
  return out + indent + "return " + values(graph.outputs()) + "\n";
}

// One line, read from the left.
class Line {
 public:
  explicit Line(std::string_view text) : text_(text) {}

  bool take(std::string_view token) {
    if (!text_.starts_with(token)) return false;
    text_.remove_prefix(token.size());
    return true;
  }
  void expect(std::string_view token) {
    if (!take(token)) fail(ErrorCode::data_loss, "expected '", token, "' before '", text_.substr(0, 40), "'");
  }
  std::string_view word() {
    std::size_t n = 0;
    while (n < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[n])) || text_[n] == '_')) ++n;
    if (n == 0) fail(ErrorCode::data_loss, "expected a word before '", text_.substr(0, 40), "'");
    const auto w = text_.substr(0, n);
    text_.remove_prefix(n);
    return w;
  }
  template <class T>
  T number() {
    T value{};
    const auto [end, ec] = std::from_chars(text_.data(), text_.data() + text_.size(), value);
    if (ec != std::errc()) fail(ErrorCode::data_loss, "expected a number before '", text_.substr(0, 40), "'");
    text_.remove_prefix(static_cast<std::size_t>(end - text_.data()));
    return value;
  }
  TensorType type() {
    TensorType t;
    if (!parse_tensor_type(text_, t)) fail(ErrorCode::data_loss, "expected a type before '", text_.substr(0, 40), "'");
    return t;
  }
  std::string_view rest() const { return text_; }

  void get(std::string& into) {
    expect("\"");
    into.clear();
    while (!text_.empty() && text_[0] != '"') {
      const bool escaped = take("\\");
      if (text_.empty()) break;
      into += escaped && text_[0] == 'n' ? '\n' : text_[0];
      text_.remove_prefix(1);
    }
    expect("\"");
  }
  void get(bool& into) {
    into = take("true");
    if (!into) expect("false");
  }
  void get(std::int64_t& into) { into = number<std::int64_t>(); }
  void get(int& into) { into = number<int>(); }
  void get(float& into) { into = number<float>(); }
  void get(double& into) { into = number<double>(); }
  void get(DType& into) {
    const auto name = word();
    const auto dtype = dtype_from_string(name);
    if (!dtype) fail(ErrorCode::data_loss, "unknown element type '", name, "'");
    into = *dtype;
  }
  void get(RankGroup& into) {
    const auto name = word();
    if (name != "tensor" && name != "world") fail(ErrorCode::data_loss, "unknown group of ranks '", name, "'");
    into = name == "tensor" ? RankGroup::tensor : RankGroup::world;
  }
  void get(Shape& into) {
    if (!parse_shape(text_, into)) fail(ErrorCode::data_loss, "expected a shape before '", text_.substr(0, 40), "'");
  }
  void get(WeightPiece& into) {
    get(into.name);
    get(into.shape);
    if (!take("/")) return;
    Sharding& s = into.sharding;
    s.dim = number<int>();
    expect(":");
    s.parts = number<int>();
    if (take(":")) {
      s.unit = number<std::int64_t>();
      get(s.units);
    }
    if (!can_share(s, into.shape)) fail(ErrorCode::data_loss, "a sharding that '", into.name, "' cannot have");
  }
  template <class T>
  void get(std::vector<T>& into) {
    expect("[");
    into.clear();
    while (!take("]")) {
      if (!into.empty()) expect(" ");
      get(into.emplace_back());
    }
  }

 private:
  std::string_view text_;
};

template <std::size_t I = 0>
Op op_by_name(std::string_view name) {
  if constexpr (I == std::variant_size_v<Op>) {
    fail(ErrorCode::data_loss, "unknown op '", name, "'");
  } else {
    Op op(std::in_place_index<I>);
    return name == op_name(op) ? op : op_by_name<I + 1>(name);
  }
}

void read_attributes(Op& op, Line& line) {
  if (!line.take(" {")) return;
  do {
    const auto name = line.word();
    line.expect("=");
    bool known = false;
    std::visit(
        [&](auto& o) {
          visit_attributes(o, [&](const char* attribute, auto& value) {
            if (name == attribute) line.get(value), known = true;
          });
        },
        op);
    if (!known) fail(ErrorCode::data_loss, op_name(op), " has no attribute '", name, "'");
  } while (line.take(", "));
  line.expect("}");
}

class Parser {
 public:
  Parser(std::string_view text, std::string_view what) : text_(text), what_(what) {}

  Graph parse(const std::string& indent) {
    if (indent.size() > 8) error("regions nested too deeply");
    Graph graph;
    for (;;) {
      const std::string_view text = next_line();
      try {
        Line line(text);
        line.expect(indent);
        if (line.take("return ")) {
          graph.set_outputs(read_values(line, graph));
          if (!line.rest().empty()) fail(ErrorCode::data_loss, "text after the outputs");
          return graph;
        }
        read_node(graph, line, indent);
      } catch (const Error& e) {
        error(e.message());
      }
    }
  }
  bool at_end() const { return text_.empty(); }
  [[noreturn]] void error(std::string_view why) {
    if (located_) throw Error(ErrorCode::data_loss, std::string(why));  // from a body: it names its own line
    located_ = true;
    fail(ErrorCode::data_loss, what_, ", line ", number_, ": ", why);
  }

 private:
  std::string_view next_line() {
    ++number_;
    if (text_.empty()) error("the graph has no 'return'");
    const auto end = text_.find('\n');
    const auto line = text_.substr(0, end);
    text_.remove_prefix(end == std::string_view::npos ? text_.size() : end + 1);
    return line;
  }

  static std::vector<Value> read_values(Line& line, const Graph& graph) {
    std::vector<Value> values;
    if (!line.rest().starts_with("%")) return values;
    do {
      line.expect("%");
      values.push_back({line.number<std::uint32_t>()});
      if (values.back().id >= graph.num_values()) fail(ErrorCode::data_loss, "%", values.back().id, " is not made yet");
    } while (line.take(", "));
    return values;
  }

  void read_node(Graph& graph, Line& line, const std::string& indent) {
    std::size_t results = 0;
    do {
      line.expect("%");
      if (line.number<std::uint32_t>() != graph.num_values() + results++)
        fail(ErrorCode::data_loss, "values out of order");
    } while (line.take(", "));
    line.expect(" = ");
    Op op = op_by_name(line.word());
    line.expect("(");
    std::vector<Value> inputs = read_values(line, graph);
    line.expect(")");
    read_attributes(op, line);
    line.expect(" : ");
    std::vector<TensorType> types{line.type()};
    while (line.take(", ")) types.push_back(line.type());
    line.expect("  # ");
    std::string name(line.rest());
    if (auto* region = std::get_if<ops::Region>(&op)) {
      if (next_line() != indent + "{") fail(ErrorCode::data_loss, "expected the region's body");
      region->body = std::make_shared<const Graph>(parse(indent + "  "));
      if (next_line() != indent + "}") fail(ErrorCode::data_loss, "expected the end of the region's body");
    }
    if (types.size() != results) fail(ErrorCode::data_loss, results, " values of ", types.size(), " types");
    if (is_leaf(op)) {
      if (results != 1 || !inputs.empty()) fail(ErrorCode::data_loss, "a leaf has no inputs and one result");
      graph.add_leaf(std::move(op), types[0], std::move(name));
      return;
    }
    const auto made = graph.add_multi(std::move(op), std::move(inputs), std::move(name));
    for (std::size_t i = 0; i < std::max(made.size(), types.size()); ++i)
      if (made.size() != types.size() || !(graph.type(made[i]) == types[i]))
        fail(ErrorCode::data_loss, "the types are not those that the op's rule gives");
  }

  std::string_view text_, what_;
  int number_ = 0;
  bool located_ = false;
};

}  // namespace

std::string to_text(const Graph& graph) { return text_of(graph, ""); }

Graph parse_graph(std::string_view text, std::string_view what) {
  Parser parser(text, what);
  Graph graph = parser.parse("");
  if (!parser.at_end()) parser.error("text after the graph");
  with_context(what, [&] { verify(graph); });
  return graph;
}

}  // namespace cajal
