#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "graph/graph.h"

namespace cajal {
namespace {

using Types = std::vector<TensorType>;

Types types_of(std::string_view text) {
  Types types;
  while (!text.empty()) {
    TensorType t;
    CAJAL_CHECK(parse_tensor_type(text, t), text);
    types.push_back(t);
    if (text.starts_with(' ')) text.remove_prefix(1);
  }
  return types;
}

std::string text_of(const Types& types) {
  std::string text;
  for (const TensorType& t : types) text += (text.empty() ? "" : " ") + to_string(t);
  return text;
}

struct Case {
  Op op;
  const char* inputs;
  const char* results;  // or, after '!', what the message says
};

std::string outcome(const Case& c) {
  try {
    return text_of(infer_types(c.op, types_of(c.inputs)));
  } catch (const Error& e) {
    return "!" + e.message();
  }
}

std::vector<Case> cases() {
  using namespace ops;  // NOLINT: the ops are what this list is about
  const RotaryTable table{.dtype = DType::bf16, .inv_freq = {1, 0.5f}};
  RotaryTable dynamic = table, uneven = table;
  dynamic.original_length = 64;
  uneven.long_inv_freq = {1};
  return {
      {Embedding{}, "bf16[100,16] i32[4]", "bf16[4,16]"},
      {Embedding{}, "bf16[100,16]{tile 16x2} i32[4]", "bf16[4,16]"},
      {Embedding{}, "bf16[100,16] i64[4]", "!embedding: expected plain i32 for input 1, got (bf16[100,16], i64[4])"},
      {Embedding{}, "bf16[100,16] i32[4,4]", "!rank 1 for input 1"},
      {Embedding{}, "bf16[100,16,2] i32[4]", "!rank 2 for input 0"},
      {Embedding{}, "bf16[100,16]", "!2 inputs"},
      {Linear{2}, "f32[4,8] f32[6,8]{tile 2x2} f32[6]", "f32[4,6]"},
      {Linear{}, "f32[4,8] f32[6,8]", "f32[4,6]"},
      {Linear{}, "f32[4,8] f32[8,6]", "!linear: expected x[T,K] times weight[N,K], got (f32[4,8], f32[8,6])"},
      {Linear{}, "f32[4,8] bf16[6,8]", "!one element type for inputs 0 and 1"},
      {Linear{}, "f32[4,8] f32[6,8] f32[8]", "!bias[N] for weight[N,K]"},
      {Linear{}, "f32[4,8] f32[6,8] bf16[6]", "!one element type for inputs 0 and 2"},
      {Linear{}, "f32[4,8]{tile 2x2} f32[6,8]", "!plain storage for input 0"},
      {Linear{}, "f32[4,8] f32[?,8]", "!made anew in each step"},
      {Linear{3}, "f32[4,12] f32[6,12]", "!sum_parts (3) a power of two"},
      {Linear{4}, "f32[4,12] f32[6,12]", "!equal even parts"},
      {Linear{0}, "f32[4,8] f32[6,8]", "!sum_parts (0)"},
      {Linear{}, "f32[4,8] f32[6,8] f32[6] f32[6]", "!2 inputs"},
      {RmsNorm{1e-6f}, "bf16[4,2,8] bf16[8]", "bf16[4,2,8]"},
      {RmsNorm{1e-6f}, "bf16[4,8] bf16[4]", "!rms_norm: expected weight[H] against x[...,H], got (bf16[4,8], bf16[4])"},
      {RmsNorm{1e-6f}, "bf16[8] bf16[8]", "!at least two dimensions for input 0"},
      {RmsNorm{0}, "bf16[4,8] bf16[8]", "!epsilon above 0"},
      {RmsNorm{1e-6f}, "bf16[4,8] f32[8]", "!one element type"},
      {table, "i32[4]", "bf16[4,2,2]"},
      {dynamic, "i32[4] i32[4]", "bf16[4,2,2]"},
      {table, "i32[4] i32[4]", "!lengths exactly where the frequencies depend on them"},
      {dynamic, "i32[4]", "!lengths exactly where"},
      {dynamic, "i32[4] i32[5]", "!as many rows in input 0 as in input 1"},
      {uneven, "i32[4]", "!as many long frequencies as short"},
      {RotaryTable{}, "i32[4]", "!at least one frequency"},
      {table, "f32[4]", "!plain i32 for input 0"},
      {Rope{}, "f32[4,2,8] f32[4,2,4]", "f32[4,2,8]"},
      {Rope{}, "f32[4,2,8] f32[4,2,8]",
       "!rope: expected x[T,heads,D] with table[T,2,D/2], got (f32[4,2,8], f32[4,2,8])"},
      {Rope{}, "f32[4,2,9] f32[4,2,4]", "!table[T,2,D/2]"},
      {Rope{}, "f32[4,2,8] f32[5,2,4]", "!as many rows"},
      {Rope{}, "f32[4,16] f32[4,2,4]", "!rank 3 for input 0"},
      {SiluMul{}, "f32[4,8] f32[4,8]", "f32[4,8]"},
      {SiluMul{}, "f32[4,8] f32[4,4]", "!silu_mul: expected gate and up alike"},
      {SiluMul{}, "f32[8] f32[8]", "!at least two dimensions"},
      {SigmoidMul{}, "bf16[4,1] bf16[4,8]", "bf16[4,8]"},
      {SigmoidMul{}, "bf16[4,2] bf16[4,8]", "!sigmoid_mul: expected gate[T,1] for x[T,N]"},
      {SigmoidMul{}, "bf16[3,1] bf16[4,8]", "!as many rows"},
      {SigmoidMul{}, "f32[4,1] bf16[4,8]", "!one element type"},
      {Add{}, "f32[4,2,8] f32[4,2,8]", "f32[4,2,8]"},
      {Add{}, "f32[4,8] f32[4,9]", "!add: expected operands alike, got (f32[4,8], f32[4,9])"},
      {Add{}, "f32[4,8]{tile 2x2} f32[4,8]{tile 2x2}", "!plain storage"},
      {Slice{2, 6}, "f32[4,8]", "f32[4,4]"},
      {Slice{2, 9}, "f32[4,8]", "!slice: expected 0 <= begin (2) < end (9) <= columns, got (f32[4,8])"},
      {Slice{4, 4}, "f32[4,8]", "!< end"},
      {Slice{-1, 4}, "f32[4,8]", "!0 <= begin (-1)"},
      {Reshape{{2, 16}}, "f32[4,8]", "f32[2,16]"},
      {Reshape{{2, 17}}, "f32[4,8]", "!reshape: expected as many elements as [2,17], got (f32[4,8])"},
      {Reshape{{-2, -16}}, "f32[4,8]", "!as many elements"},
      {Reshape{{2, 16}}, "f32[4,8]{tile 2x2}", "!plain storage"},
      {KvWrite{}, "f32[?,2,64,8]{tile 64x1} f32[4,2,8] i32[4]", "f32[?,2,64,8]{tile 64x1}"},
      {KvWrite{}, "f32[?,2,64,8] f32[4,1,8] i32[4]",
       "!kv_write: expected cache[blocks,kv_heads,block_size,D] with x[T,kv_heads,D]"},
      {KvWrite{}, "f32[?,2,64,8] f32[4,2,9] i32[4]", "!cache[blocks"},
      {KvWrite{}, "f32[?,2,64,8] bf16[4,2,8] i32[4]", "!one element type"},
      {KvWrite{}, "f32[?,2,64,8] f32[4,2,8] i32[3]", "!as many rows in input 1 as in input 2"},
      {PagedAttention{}, "f32[4,4,8] f32[?,2,64,8] f32[?,2,64,8] i32[3,5] i32[4] i32[4]", "f32[4,4,8]"},
      {PagedAttention{}, "f32[4,3,8] f32[?,2,64,8] f32[?,2,64,8] i32[3,5] i32[4] i32[4]",
       "!paged_attention: expected heads a multiple of kv_heads"},
      {PagedAttention{}, "f32[4,4,8] f32[?,2,64,8] f32[?,2,32,8] i32[3,5] i32[4] i32[4]", "!with caches"},
      {PagedAttention{}, "f32[4,4,16] f32[?,2,64,8] f32[?,2,64,8] i32[3,5] i32[4] i32[4]", "!with caches"},
      {PagedAttention{}, "f32[4,4,8] f32[?,2,64,8] f32[?,2,64,8] i32[3,5] i32[4] i32[5]",
       "!as many rows in input 0 as in input 5"},
      {PagedAttention{}, "f32[4,4,8] f32[?,2,64,8] bf16[?,2,64,8] i32[3,5] i32[4] i32[4]", "!one element type"},
      {PagedAttention{1, -1}, "f32[4,4,8] f32[?,2,64,8] f32[?,2,64,8] i32[3,5] i32[4] i32[4]",
       "!a window of 0 (none) or more"},
      {Router{2, true}, "bf16[4,8]", "bf16[4,2] i32[4,2]"},
      {Router{9, true}, "bf16[4,8]", "!router: expected 1 <= top_k (9) <= experts, got (bf16[4,8])"},
      {Router{0, true}, "bf16[4,8]", "!top_k (0)"},
      {Router{2, true, 1.25}, "bf16[4,8] i32[4]", "bf16[4,2] i32[4,2]"},
      {Router{2, true, 1.25}, "bf16[4,8] i32[3]", "!as many rows"},
      {Router{2, true, 1.25}, "bf16[4,8]", "!seq_indices exactly where experts have a capacity"},
      {Router{2, true}, "bf16[4,8] i32[4]", "!seq_indices exactly where"},
      {Router{2, true, -1}, "bf16[4,8]", "!seq_indices exactly where"},
      {ExpertOutputs{5, 2, 2}, "bf16[4,8] i32[4,2] bf16[3,24,8] bf16[3,8,12]", "f32[4,16]"},
      {ExpertOutputs{5, 2, 1}, "bf16[4,8] i32[4,2] bf16[2,24,8] bf16[2,8,12]",
       "!the rank's share of 5 experts in 2 parts"},
      {ExpertOutputs{5, 0, 1}, "bf16[4,8] i32[4,2] bf16[5,24,8] bf16[5,8,12]", "!5 experts in 0 parts"},
      {ExpertOutputs{1, 1, 1}, "bf16[4,8] i32[4,2] bf16[1,24,8] bf16[1,8,12]", "!at most as many choices as experts"},
      {ExpertOutputs{3, 1, 8}, "bf16[4,8] i32[4,2] bf16[3,24,8] bf16[3,8,12]", "!sum_parts (8)"},
      {ExpertOutputs{3, 1, 1}, "bf16[4,8] i32[4,2] f32[3,24,8] f32[3,8,12]", "!one element type for inputs 0 and 2"},
      {CombineExperts{}, "f32[4,16] bf16[4,2]", "bf16[4,8]"},
      {CombineExperts{}, "bf16[4,16] bf16[4,2]", "!combine_experts: expected outputs f32[T,K*H] with weights[T,K]"},
      {CombineExperts{}, "f32[4,15] bf16[4,2]", "!outputs f32[T,K*H]"},
      {CombineExperts{}, "f32[4,16] i32[4,2]", "!bf16, f16 or f32 for input 1"},
      {MoeExperts{2}, "f32[4,8] f32[4,2] i32[4,2] f32[3,24,8] f32[3,8,12]", "f32[4,8]"},
      {MoeExperts{8}, "f32[4,8] f32[4,2] i32[4,2] f32[3,24,8] f32[3,8,12]", "!moe_experts: expected sum_parts (8)"},
      {MoeExperts{}, "f32[4,8] f32[4,2] i32[4,2] f32[3,25,8] f32[3,8,12]", "!x[T,H], gate_up[E,2I,H], down[E,H,I]"},
      {MoeExperts{}, "f32[4,8] f32[4,2] i32[4,2] f32[2,24,8] f32[3,8,12]", "!gate_up[E,2I,H]"},
      {MoeExperts{}, "f32[4,8] f32[4,2] i32[4,1] f32[3,24,8] f32[3,8,12]", "!a weight for every chosen expert"},
      {MoeExperts{}, "f32[4,8] f32[4,4] i32[4,4] f32[3,24,8] f32[3,8,12]", "!a weight for every chosen expert"},
      {MoeExperts{}, "f32[4,8] bf16[4,2] i32[4,2] f32[3,24,8] f32[3,8,12]", "!one element type for inputs 0 and 1"},
      {GatherRows{}, "f32[4,8] i32[2]", "f32[2,8]"},
      {GatherRows{}, "f32[4,8] f32[2]", "!gather_rows: expected plain i32 for input 1"},
      {GatherRows{}, "f32[4,8,2] i32[2]", "!rank 2 for input 0"},
      {AllReduce{}, "f32[4,8]", "f32[4,8]"},
      {AllReduce{RankGroup::world, DType::bf16}, "f32[4,8] bf16[8]", "bf16[4,8]"},
      {AllReduce{}, "f32[4,8] f32[4,8]", "!all_reduce: expected rank 1 for input 1"},
      {AllReduce{}, "f32[4,8] bf16[8]", "!all_reduce: expected bias[N] of the result's type"},
      {AllReduce{}, "i32[4,8]", "!all_reduce: expected bf16, f16 or f32 for input 0"},
      {AllReduce{RankGroup::tensor, DType::i8}, "f32[4,8]", "!all_reduce: expected a result of bf16, f16 or f32"},
      {AllGather{1, 4}, "f32[4,8]", "f32[4,32]"},
      {AllGather{2, 4}, "f32[4,8]",
       "!all_gather: expected a dimension (2) that the ranks (4) share evenly, got (f32[4,8])"},
      {AllGather{0, 0}, "f32[4,8]", "!a dimension (0)"},
      {ReduceScatter{0, 2}, "f32[4,8]", "f32[2,8]"},
      {ReduceScatter{0, 3}, "f32[4,8]", "!reduce_scatter: expected a dimension (0) that the ranks (3) share evenly"},
      {AllToAll{4}, "f32[4,8]", "f32[4,8]"},
      {AllToAll{3}, "f32[4,8]", "!all_to_all: expected columns that the ranks (3) share evenly"},
      {AllToAll{}, "f32[4,8]{tile 2x2}", "!all_to_all: expected plain storage"},
  };
}

TEST(TypeRules, GiveResultTypesOrNameTheRuleAndTheShapes) {
  std::set<std::string> seen, refused;
  for (const Case& c : cases()) {
    const std::string found = outcome(c);
    SCOPED_TRACE(std::string(op_name(c.op)) + "(" + c.inputs + ")");
    if (*c.results == '!') {
      EXPECT_THAT(found, testing::StartsWith(std::string("!") + op_name(c.op) + ": "));
      EXPECT_THAT(found, testing::HasSubstr(c.results + 1));
      refused.insert(op_name(c.op));
    } else {
      EXPECT_EQ(found, c.results);
      seen.insert(op_name(c.op));
    }
  }
  // Three leaves declare their types; a region's rule is its body.
  EXPECT_EQ(seen.size(), std::variant_size_v<Op> - 4);
  EXPECT_EQ(refused, seen);
}

TEST(TypeRules, SizesThatOverflowAreErrors) {
  EXPECT_THAT(outcome({ops::AllGather{0, 1 << 30}, "f32[8589934592,8]", ""}), testing::HasSubstr("overflows"));
  EXPECT_THAT(outcome({ops::Linear{}, "f32[1073741824,1] f32[1073741824,1]", ""}), testing::HasSubstr("is too large"));
  EXPECT_THAT(outcome({ops::Embedding{}, "f32[1,4611686018427387904] i32[4611686018427387904]", ""}),
              testing::HasSubstr("overflows"));
}

TEST(TypeRules, ABrokenRuleNamesTheNode) {
  Graph g;
  const Value x = g.add_leaf(ops::Input{"x"}, {DType::f32, {4, 8}, Plain{}}, "x");
  try {
    g.add(ops::Slice{0, 9}, {x}, "model.layers.3.mlp");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::invalid_argument);
    EXPECT_THAT(e.what(), testing::StartsWith("model.layers.3.mlp: slice: "));
  }
}

TEST(ARegion, HasTheTypesOfItsBody) {
  auto body = std::make_shared<Graph>();
  const Value a = body->add_leaf(ops::Input{"in0"}, {DType::f32, {4, 8}, Plain{}}, "in0");
  const Value w = body->add_leaf(ops::Input{"in1"}, {DType::f32, {8}, Plain{}}, "in1");
  const Value sum = body->add(ops::Add{}, {a, a}, "sum");
  body->set_outputs({sum, body->add(ops::RmsNorm{1e-6f}, {sum, w}, "norm")});
  const ops::Region region{"k", body};
  EXPECT_EQ(outcome({region, "f32[4,8] f32[8]", ""}), "f32[4,8] f32[4,8]");
  EXPECT_THAT(outcome({region, "f32[4,8]", ""}), testing::HasSubstr("inputs of the types that the body declares"));
  EXPECT_THAT(outcome({region, "f32[4,9] f32[8]", ""}),
              testing::HasSubstr("inputs of the types that the body declares"));
  EXPECT_THAT(outcome({region, "f32[4,8] f32[8] f32[8]", ""}), testing::HasSubstr("expected 2 inputs"));
}

}  // namespace
}  // namespace cajal
