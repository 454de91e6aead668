#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "graph/graph.h"
#include "graph/random_graph.h"

namespace cajal {
namespace {

using testing::HasSubstr;

std::string parse_error(std::string_view text) {
  try {
    parse_graph(text, "model.graph");
    return "";
  } catch (const Error& e) {
    EXPECT_NE(e.code(), ErrorCode::unsupported);
    return e.message();
  }
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

TEST(GraphText, ReadsBackWhatItPrints) {
  for (unsigned seed = 0; seed < 100; ++seed) {
    const Graph graph = test::random_graph(seed, {.dtype = seed % 2 ? DType::f32 : DType::bf16});
    const std::string text = to_text(graph);
    const Graph again = parse_graph(text, "text");
    EXPECT_EQ(to_text(again), text) << seed;
    ASSERT_EQ(again.nodes().size(), graph.nodes().size());
    for (std::uint32_t n = 0; n < graph.nodes().size(); ++n) {
      EXPECT_EQ(again.node(n).op.index(), graph.node(n).op.index());
      EXPECT_EQ(again.node(n).inputs, graph.node(n).inputs);
      EXPECT_EQ(again.node(n).name, graph.node(n).name);
    }
  }
}

TEST(GraphText, KeepsEveryAttributeToTheBit) {
  Graph g;
  const Value ids =
      g.add_leaf(ops::Input{"a \"quoted\" \\ name\tof it"}, {DType::i32, {3}, Plain{}}, "a \"quoted\" \\ name\tof it");
  ops::RotaryTable table{DType::bf16, {1.0f / 3, 1e-38f, 3.4e38f}, 0.1f, 4096, {0.7f, 1e-45f, 2}, 1e6f, 40, {}};
  g.add(table, {ids, ids}, "");
  const ops::Parameter parameter{{{"x.*.w", {8, 4}, {1, 2}}, {"line\nbreak", {8, 4}, {1, 2}}}, 5, "x.stacked"};
  const Value w = g.add_leaf(parameter, {DType::f16, {5, 16, 2}, Packed{16, 2}}, "x");
  g.add_leaf(ops::Parameter{{{"q", {64, 64}, {}}}, 1, ""}, {DType::i8, {64, 64}, Quantized{4, 32, DType::bf16, true}},
             "q");
  g.set_outputs({w, ids});
  const Graph again = parse_graph(to_text(g), "text");
  EXPECT_EQ(to_text(again), to_text(g));
  const auto& read = std::get<ops::RotaryTable>(again.node(1).op);
  EXPECT_EQ(read.inv_freq, table.inv_freq);
  EXPECT_EQ(read.long_inv_freq, table.long_inv_freq);
  EXPECT_EQ(read.attention_scaling, table.attention_scaling);
  EXPECT_EQ(read.original_length, 4096);
  EXPECT_EQ(read.dynamic_factor, 40);
  EXPECT_EQ(read.dtype, DType::bf16);
  const auto& weight = std::get<ops::Parameter>(again.node(2).op);
  EXPECT_EQ(weight.pieces, parameter.pieces);
  EXPECT_EQ(weight.repeat, 5);
  EXPECT_EQ(weight.stacked_name, "x.stacked");
  EXPECT_EQ(again.type({3}), g.type({3}));
  EXPECT_EQ(std::vector<Value>(again.outputs().begin(), again.outputs().end()), (std::vector<Value>{w, ids}));
}

TEST(GraphText, EndsAnywhereInAnErrorWithTheLine) {
  const auto lines = lines_of(to_text(test::random_graph(7)));
  std::string text;
  for (std::size_t n = 0; n < lines.size(); ++n) {
    EXPECT_THAT(parse_error(text), HasSubstr("model.graph, line " + std::to_string(n + 1) + ": "));
    text += lines[n] + '\n';
    if (n + 1 < lines.size()) {
      EXPECT_THAT(parse_error(text.substr(0, text.size() - 5 - lines[n].size() / 2)), HasSubstr(", line "));
    }
  }
  EXPECT_EQ(parse_error(text), "");
  EXPECT_THAT(parse_error(text + "x"), HasSubstr("line " + std::to_string(lines.size()) + ": text after the graph"));
}

TEST(GraphText, MeetsAnyMutationWithAGraphOrAnError) {
  std::mt19937 random(11);
  const std::string alphabet = "0123456789%,:=()[]{}\"/#? -\nabcf_i\xff";
  int refused = 0;
  constexpr int kMutations = 4000;
  const std::string whole = to_text(test::random_graph(3));
  for (int i = 0; i < kMutations; ++i) {
    std::string text = whole;
    for (auto n = 1 + random() % 3; n-- > 0;) {
      const std::size_t at = random() % text.size();
      if (random() % 3 == 0)
        text.erase(at, 1 + random() % 4);
      else if (random() % 2)
        text.insert(at, 1, alphabet[random() % alphabet.size()]);
      else
        text[at] = alphabet[random() % alphabet.size()];
    }
    const std::string why = parse_error(text);
    if (why.empty()) {
      const std::string printed = to_text(parse_graph(text, "text"));
      EXPECT_EQ(to_text(parse_graph(printed, "text")), printed);
      continue;
    }
    ++refused;
    EXPECT_THAT(why, testing::AnyOf(HasSubstr("model.graph, line "), HasSubstr("model.graph: node "),
                                    HasSubstr("graph is broken")));
  }
  EXPECT_GT(refused, kMutations / 2);
}

struct Malformed {
  const char *text, *why;
};

TEST(GraphText, SaysWhatIsWrongWhere) {
  const std::string x = "%0 = input() {name=\"x\"} : f32[4,8]  # x\n";
  for (const auto& [text, why] : std::initializer_list<Malformed>{
           {"", "line 1: the graph has no 'return'"},
           {"nonsense", "line 1: expected '%' before 'nonsense'"},
           {"%0 = input() {name=\"x\"} : f32[4,8]\n", "expected '  # ' before ''"},
           {"%1 = input() {name=\"x\"} : f32[4]  # x\n", "values out of order"},
           {"%0 = inputs() : f32[4]  # x\n", "unknown op 'inputs'"},
           {"%0 = input(%0) : f32[4]  # x\n", "%0 is not made yet"},
           {"%0 = input() {nam=\"x\"} : f32[4]  # x\n", "input has no attribute 'nam'"},
           {"%0 = input() {name=\"x} : f32[4]  # x\n", "expected '\"' before ''"},
           {"%0 = input() {name=\"x\"} : f32[0]  # x\n", "cannot have type f32[0]"},
           {"%0 = input() {name=\"x\"} : f32[?]  # x\nreturn %0\n", "an input has a fixed shape"},
           {"%0 = input() {name=\"x\"} : f32[4,?]  # x\n", "cannot have type"},
           {"%0 = input() {name=\"x\"} : f33[4]  # x\n", "expected a type before 'f33[4]"},
           {"%0 = input() {name=\"x\"} : f32[1,1,1,1,1]  # x\n", "expected a type"},
           {"%0 = input() {name=\"x\"} : f32[99999999999999999999]  # x\n", "expected a type"},
           {"%0 = input() {name=\"x\"} : f32[9000000000,9000000000]  # x\n", "overflows"},
           {"%0 = input() {name=\"x\"} : f32[9000000000,9000000]  # x\n", "is too large"},
           {"%0, %1 = input() {name=\"x\"} : f32[4]  # x\n", "2 values of 1 types"},
           {"%0, %1 = input() {name=\"x\"} : f32[4], f32[4]  # x\n", "a leaf has no inputs and one result"},
           {"%0 = parameter() : f32[4]  # w\nreturn %0\n", "a parameter made of nothing"},
           {"%0 = parameter() {pieces=[\"w\"[4]/1:2]} : f32[4]  # w\n", "a sharding that 'w' cannot have"},
           {"%0 = parameter() {pieces=[\"w\"[6]/0:2:3[0 2]]} : f32[3]  # w\n", "a sharding that 'w' cannot have"},
           {"%0 = parameter() {pieces=[\"w\"[6]/0:2:4[0 2]]} : f32[4]  # w\n", "a sharding that 'w' cannot have"},
           {"%0 = parameter() {pieces=[\"w\"[6]/0:2:9223372036854775807[0 -1]]} : f32[6]  # w\n",
            "a sharding that 'w' cannot have"},
           {"%0 = parameter() {pieces=[\"w\"[6]/0:2:3[0 1 -1]]} : f32[3]  # w\n", "a sharding that 'w' cannot have"},
           {"%0 = parameter() {pieces=[\"w\"[4]\"v\"[4]]} : f32[8]  # w\n", "expected ' ' before"},
           {"return %0\n", "%0 is not made yet"},
           {"return \nreturn \n", "text after the graph"},
       })
    EXPECT_THAT(parse_error(text), HasSubstr(why)) << text;
  for (const auto& [text, why] : std::initializer_list<Malformed>{
           {"%1 = add(%0, %0) : f32[4,9]  # y\nreturn %1\n",
            "line 2: the types are not those that the op's rule gives"},
           {"%1 = add(%0) : f32[4,8]  # y\nreturn %1\n", "line 2: y: add: expected 2 inputs, got (f32[4,8])"},
           {"%1 = add(%0, %0) {x=1} : f32[4,8]  # y\nreturn %1\n", "add has no attribute 'x'"},
           {"%1, %2 = add(%0, %0) : f32[4,8], f32[4,8]  # y\nreturn %1\n", "line 2: the types are not those"},
           {"%1 = slice(%0) {begin=4, end=4} : f32[4,0]  # y\n", "0 <= begin (4) < end (4)"},
           {"%1 = reshape(%0) {shape=[?,8]} : f32[4,8]  # y\n", "as many elements as [?,8]"},
           {"%1 = all_gather(%0) {ranks=2000000000} : f32[8000000000,8]  # y\n%2 = all_gather(%1) {ranks=2000000000} : "
            "f32[1,8]  # z\n",
            "overflows"},
           {"%1 = region(%0) {kind=\"k\"} : f32[4,8]  # y\nreturn %1\n", "line 3: expected the region's body"},
           {"%1 = region(%0) {kind=\"k\"} : f32[4,8]  # y\n{\n  return \n}\nreturn %1\n",
            "line 5: y: region: expected 0 inputs"},
           {"%1 = region(%0) {kind=\"k\"} : f32[4,8]  # y\n{\n  %0 = state() {name=\"s\"} : f32[4,8]  # s\n  return "
            "%0\n}\nreturn %1\n",
            "a body begins with its inputs"},
           {"%1 = region(%0) {kind=\"k\"} : f32[4,8]  # y\n{\n  %0 = input() {name=\"a\"} : f32[4,9]  # a\n  return "
            "%0\n}\nreturn %1\n",
            "inputs of the types that the body declares"},
           {"%1 = region(%0) {kind=\"k\"} : f32[4,8]  # y\n{\n  %0 = input() {name=\"a\"} : f32[4,8]  # a\n  return "
            "%1\n}\nreturn %1\n",
            "line 5: %1 is not made yet"},
           {"%1 = region(%0) {kind=\"k\"} : f32[4,8]  # y\n{\n  %0 = input() {name=\"a\"} : f32[4,8]  # a\n  return "
            "%0\nreturn %1\n",
            "expected the end of the region's body"},
           {"return %0, \n", "expected '%'"},
       })
    EXPECT_THAT(parse_error(x + text), HasSubstr(why)) << text;
}

TEST(GraphText, RefusesRegionsNestedWithoutEnd) {
  std::string text, indent;
  for (int depth = 0; depth < 1000; ++depth, indent += "  ")
    text += indent + "%0 = input() {name=\"x\"} : f32[4,8]  # x\n" + indent +
            "%1 = region(%0) {kind=\"k\"} : f32[4,8]  # y\n" + indent + "{\n";
  EXPECT_THAT(parse_error(text), HasSubstr("regions nested too deeply"));
}

}  // namespace
}  // namespace cajal
