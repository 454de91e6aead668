// What verify() finds that a pass, a file or a builder could have broken.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graph/graph.h"

namespace cajal {
namespace {

using testing::HasSubstr;

class Broken : public testing::Test {
 protected:
  Value input(const std::string& name, DType dtype, Shape shape) {
    return g.add_leaf(ops::Input{name}, {dtype, shape, Plain{}}, name);
  }
  Value cache(const std::string& name) {
    return g.add_leaf(ops::State{name}, {DType::f32, {Shape::kDynamic, 1, 64, 8}, Plain{}}, name);
  }
  std::string why() const {
    try {
      verify(g);
      return "";
    } catch (const Error& e) {
      return e.message();
    }
  }
  // rows [4,1,8] written into `into` by a region whose body returns the values that `outputs` picks of (cache, x, written)
  std::vector<Value> write_in_region(Value into, std::vector<int> outputs) {
    auto body = std::make_shared<Graph>();
    const Value c = body->add_leaf(ops::Input{"in0"}, g.type(into), "in0");
    const Value x = body->add_leaf(ops::Input{"in1"}, g.type(rows), "in1");
    const Value s = body->add_leaf(ops::Input{"in2"}, g.type(slots), "in2");
    const Value written = body->add(ops::KvWrite{}, {c, x, s}, "write");
    const Value doubled = body->add(ops::Add{}, {x, x}, "double");
    const Value all[] = {c, x, written, doubled};
    std::vector<Value> results;
    for (const int i : outputs) results.push_back(all[i]);
    body->set_outputs(results);
    return g.add_multi(ops::Region{"k", body}, {into, rows, slots}, "region");
  }

  Graph g;
  Value rows = input("rows", DType::f32, {4, 1, 8}), slots = input("slots", DType::i32, {4});
  Value q = input("q", DType::f32, {4, 2, 8}), tables = input("tables", DType::i32, {2, 2});
  Value attend(Value k, Value v) { return g.add(ops::PagedAttention{}, {q, k, v, tables, slots, slots}, "attention"); }
};

TEST_F(Broken, NothingIs) {
  const Value k = cache("k"), v = cache("v");
  const Value before = attend(k, v);
  const Value k1 = g.add(ops::KvWrite{}, {k, rows, slots}, "write_k");
  const Value v1 = g.add(ops::KvWrite{}, {v, rows, slots}, "write_v");
  g.set_outputs({before, attend(k1, v1), k1});
  EXPECT_EQ(why(), "");
}

TEST_F(Broken, ACacheReadAfterItWasOverwritten) {
  const Value k = cache("k"), v = cache("v");
  g.add(ops::KvWrite{}, {k, rows, slots}, "write");
  attend(k, v);
  EXPECT_THAT(why(),
              HasSubstr("node 7 (paged_attention attention): graph is broken: %4 is read after it was overwritten"));
}

TEST_F(Broken, ACacheWrittenTwiceFromTheSameValue) {
  const Value k = cache("k");
  g.add(ops::KvWrite{}, {k, rows, slots}, "one");
  g.add(ops::KvWrite{}, {k, rows, slots}, "two");
  EXPECT_THAT(why(), HasSubstr("two): graph is broken: %4 is read after it was overwritten"));
}

TEST_F(Broken, AnOldCacheAsOutput) {
  const Value k = cache("k");
  g.add(ops::KvWrite{}, {k, rows, slots}, "write");
  g.set_outputs({k});
  EXPECT_THAT(why(), HasSubstr("output %4 was overwritten"));
}

TEST_F(Broken, AWriteIntoWhatIsNoState) {
  const Value weight =
      g.add_leaf(ops::Parameter{{{"w", {16, 64, 8}, {}}}, 1, ""}, {DType::f32, {16, 1, 64, 8}, Plain{}}, "w");
  g.add(ops::KvWrite{}, {weight, rows, slots}, "write");
  EXPECT_THAT(why(), HasSubstr("(kv_write write): graph is broken: writes into parameter %4, which is no state"));
}

TEST_F(Broken, ARegionThatOverwritesWhatIsReadLater) {
  const Value k = cache("k"), v = cache("v");
  const auto results = write_in_region(k, {2, 3});
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(why(), "");
  attend(results[0], v);
  EXPECT_EQ(why(), "");
  attend(k, v);
  EXPECT_THAT(why(), HasSubstr("is read after it was overwritten"));
}

TEST_F(Broken, ARegionThatWritesAndDoesNotSaySo) {
  write_in_region(cache("k"), {3});
  EXPECT_THAT(why(), HasSubstr("the body writes into %0 and does not return it"));
}

TEST_F(Broken, ARegionThatReturnsACacheFromBeforeItsWrite) {
  write_in_region(cache("k"), {0, 3});
  EXPECT_THAT(why(), HasSubstr("output %0 was overwritten"));
}

TEST_F(Broken, ARegionThatOnlyLooksAtItsInputOverwritesNothing) {
  auto body = std::make_shared<Graph>();
  const Value x = body->add_leaf(ops::Input{"in0"}, g.type(q), "in0");
  body->set_outputs({body->add(ops::Reshape{{4, 16}}, {x}, "flat")});
  const Op op = ops::Region{"view", body};
  EXPECT_EQ(aliased_input(op, 0), 0);
  EXPECT_FALSE(overwrites_input(op, 0));
  g.add(op, {q}, "view");
  g.add(ops::Add{}, {q, q}, "later");
  EXPECT_EQ(why(), "");
}

TEST_F(Broken, TwoLeavesOfOneName) {
  cache("rows");
  EXPECT_THAT(why(), HasSubstr("two leaves are called 'rows'"));
}

TEST_F(Broken, AnInputThatTheHostKnowsByAnotherName) {
  g.add_leaf(ops::Input{"rows"}, {DType::i32, {4}, Plain{}}, "lines");
  EXPECT_THAT(why(), HasSubstr("node 4 (input lines): graph is broken: the input is called 'rows'"));
}

TEST_F(Broken, ANameOfSeveralLines) {
  g.add(ops::Add{}, {q, q}, "a\nb");
  EXPECT_THAT(why(), HasSubstr("a name of several lines"));
}

TEST_F(Broken, AParameterOfNothingOrOfPiecesThatCannotBeCut) {
  const auto with = [&](std::vector<WeightPiece> pieces, std::int64_t repeat) {
    Graph one;
    one.add_leaf(ops::Parameter{std::move(pieces), repeat, ""}, {DType::f32, {4}, Plain{}}, "w");
    try {
      verify(one);
      return std::string();
    } catch (const Error& e) {
      return e.message();
    }
  };
  EXPECT_EQ(with({{"w", {8}, {0, 2}}}, 1), "");
  EXPECT_THAT(with({}, 1), HasSubstr("made of nothing"));
  EXPECT_THAT(with({{"w", {8}, {0, 2}}}, 0), HasSubstr("made of nothing"));
  EXPECT_THAT(with({{"w", {8}, {1, 2}}}, 1), HasSubstr("w[8] cannot be cut into 2 parts along dimension 1"));
  EXPECT_EQ(with({{"w", {9}, {0, 2}}}, 1), "");  // the second part ends in a zero
  EXPECT_EQ(with({{"w", {9}, {0, 2, 3, {2, -1, 1, 1}}}}, 1), "");
  EXPECT_THAT(with({{"w", {9}, {0, 2, 3, {3, -1}}}}, 1), HasSubstr("cannot be cut into 2 parts"));
  EXPECT_THAT(with({{"w", {9}, {0, 0}}}, 1), HasSubstr("cannot be cut into 0 parts"));
  EXPECT_THAT(with({{"w", {0}, {}}}, 1), HasSubstr("a piece of shape [0]"));
}

TEST_F(Broken, ALeafOfATypeThatItCannotHave) {
  const auto add = [&](const Op& op, TensorType type) {
    try {
      g.add_leaf(op, std::move(type), "leaf");
      return std::string();
    } catch (const Error& e) {
      return e.message();
    }
  };
  EXPECT_EQ(add(ops::Input{"leaf"}, {DType::i32, {0}, Plain{}}), "leaf: input: cannot have type i32[0]");
  EXPECT_EQ(add(ops::State{"leaf"}, {DType::f32, {4, Shape::kDynamic}, Plain{}}),
            "leaf: state: cannot have type f32[4,?]");
  EXPECT_EQ(add(ops::Parameter{}, {DType::f32, {Shape::kDynamic, 4}, Plain{}}),
            "leaf: parameter: cannot have type f32[?,4]");
  EXPECT_THAT(add(ops::Parameter{}, {DType::f32, {1 << 30, 1 << 30}, Plain{}}), HasSubstr("is too large"));
}

TEST_F(Broken, AnInputThatIsNotStoredPlainly) {
  const Value packed = g.add_leaf(ops::Input{"packed"}, {DType::f32, {4, 4}, Packed{4, 1}}, "packed");
  EXPECT_THAT(why(), HasSubstr("an input is stored plainly"));
  Graph plain;
  const Value x = plain.add_leaf(ops::Input{"x"}, {DType::f32, {2, 4}, Plain{}}, "x");
  const Value w = plain.add_leaf(ops::Parameter{{{"w", {4, 4}, {}}}}, g.type(packed), "w");
  auto body = std::make_shared<Graph>();
  const Value in0 = body->add_leaf(ops::Input{"in0"}, plain.type(x), "in0");
  const Value in1 = body->add_leaf(ops::Input{"in1"}, plain.type(w), "in1");
  body->set_outputs({body->add(ops::Linear{}, {in0, in1}, "linear")});
  plain.set_outputs({plain.add(ops::Region{"k", body}, {x, w}, "region")});
  verify(plain);  // but a region's may
}

TEST(FindLeaf, FindsLeavesAlone) {
  Graph g;
  const Value x = g.add_leaf(ops::Input{"x"}, {DType::f32, {4, 8}, Plain{}}, "x");
  g.add(ops::Add{}, {x, x}, "y");
  EXPECT_EQ(g.find_leaf("x"), x);
  EXPECT_EQ(g.find_leaf("y"), std::nullopt);
}

}  // namespace
}  // namespace cajal
