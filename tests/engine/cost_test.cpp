#include "engine/cost.h"

#include <gtest/gtest.h>

#include <cmath>

#include "backends/backend.h"
#include "compiler/quantize_weights.h"
#include "shapes.h"

namespace cajal {
namespace {

// Graphs of whole models without weights: building one takes milliseconds.
struct Shape06B {
  Qwen3Config config = load_qwen3_config(shape_folder("Qwen3-0.6B"));
  Graph graph = shape_graph(config);
};

constexpr double kParameters06B = 596049920;
constexpr double kLayers = 28, kHidden = 1024, kVocab = 151936, kQ = 2048, kKv = 1024, kInner = 3072;
constexpr double kLinearPerToken = 2 * kLayers * (kHidden * (kQ + 2 * kKv) + kQ * kHidden + 3 * kHidden * kInner);
constexpr double kHeadPerLogit = 2 * kHidden * kVocab;
constexpr double kKvBytesPerToken = 114688;

TEST(Cost, DecodeOf06BReadsEveryWeightOnceAndTheCache) {
  const Shape06B m;
  const Cost cost = step_cost(m.graph, uniform_step(1, {1000, 1}, 1));
  EXPECT_EQ(cost.weight_bytes, 2 * kParameters06B);  // 1.19 GB; the head's table is the embedding's
  EXPECT_EQ(cost.kv_read_bytes, 1000 * kKvBytesPerToken);
  EXPECT_EQ(cost.kv_written_bytes, kKvBytesPerToken);
  EXPECT_EQ(cost.linear_flops, kLinearPerToken + kHeadPerLogit);
  EXPECT_EQ(cost.attention_flops, 4 * kLayers * kQ * 1001);
}

TEST(Cost, PrefillOf06BIsTheClosedFormula) {
  const Shape06B m;
  const Cost cost = step_cost(m.graph, uniform_step(1, {0, 512}, 1));
  EXPECT_EQ(cost.linear_flops, 512 * kLinearPerToken + kHeadPerLogit);
  EXPECT_EQ(cost.attention_flops, 4 * kLayers * kQ * (512.0 * 513 / 2));
  EXPECT_EQ(cost.kv_read_bytes, 0);
  EXPECT_EQ(cost.kv_written_bytes, 512 * kKvBytesPerToken);
}

TEST(Cost, ChunksAddUpToTheWholePrompt) {
  const Shape06B m;
  const Cost whole = step_cost(m.graph, uniform_step(1, {0, 700}, 1));
  Cost chunks = step_cost(m.graph, uniform_step(1, {0, 512}, 0));
  chunks += step_cost(m.graph, uniform_step(1, {512, 188}, 1));
  EXPECT_EQ(chunks.flops(), whole.flops());
  EXPECT_EQ(chunks.kv_written_bytes, whole.kv_written_bytes);
  EXPECT_EQ(chunks.kv_read_bytes, 512 * kKvBytesPerToken);
}

TEST(Cost, IsAdditiveInSequencesButForTheWeights) {
  const Shape06B m;
  const SequenceRows a{17, 1}, b{0, 40}, c{300, 5};
  Cost apart = step_cost(m.graph, {{a}, 1});
  apart += step_cost(m.graph, {{b}, 1});
  apart += step_cost(m.graph, {{c}, 1});
  const Cost together = step_cost(m.graph, {{a, b, c}, 3});
  EXPECT_EQ(together.linear_flops, apart.linear_flops);
  EXPECT_EQ(together.attention_flops, apart.attention_flops);
  EXPECT_EQ(together.kv_read_bytes, apart.kv_read_bytes);
  EXPECT_EQ(together.kv_written_bytes, apart.kv_written_bytes);
  EXPECT_EQ(together.activation_bytes, apart.activation_bytes);
  EXPECT_EQ(together.weight_bytes * 3, apart.weight_bytes);
}

TEST(Cost, WithoutLogitsTheHeadIsNotRead) {
  const Shape06B m;
  const Cost with = step_cost(m.graph, uniform_step(1, {0, 8}, 1)),
             without = step_cost(m.graph, uniform_step(1, {0, 8}, 0));
  EXPECT_EQ(with.linear_flops - without.linear_flops, kHeadPerLogit);
  // The table is then read for the embedding's eight rows alone. The norm in front of the head has no rows either.
  EXPECT_EQ(with.weight_bytes - without.weight_bytes, 2 * (kHeadPerLogit / 2 - 8 * kHidden + kHidden));
}

TEST(Cost, AnUntiedEmbeddingAddsARowAToken) {
  const Qwen3Config config = load_qwen3_config(shape_folder("Qwen3-8B"));
  ASSERT_FALSE(config.tie_word_embeddings);
  const Graph graph = shape_graph(config);
  const double one = step_cost(graph, uniform_step(1, {0, 1}, 1)).weight_bytes;
  EXPECT_NEAR(one / 1e9, 15.14, 0.01);
  EXPECT_EQ(step_cost(graph, uniform_step(5, {0, 1}, 1)).weight_bytes - one, 4.0 * 4096 * 2);
}

TEST(Cost, MixturesReadTheExpectedNumberOfExperts) {
  const Qwen3Config config = load_qwen3_config(shape_folder("Qwen3-30B-A3B"));
  const Graph graph = shape_graph(config);
  const double expert = 3.0 * 2048 * 768 * 2 * 48;  // bytes of one expert of each layer
  const auto bytes = [&](std::int64_t tokens) {
    return step_cost(graph, uniform_step(tokens, {0, 1}, 1)).weight_bytes;
  };
  const auto experts = [&](std::int64_t tokens) {
    return 8 + (bytes(tokens) - bytes(1) - static_cast<double>((tokens - 1) * 2048 * 2)) / expert;
  };
  EXPECT_NEAR(bytes(1) / 1e9, 6.08, 0.01);
  EXPECT_NEAR(experts(2), 15.5, 1e-6);
  EXPECT_NEAR(experts(8), 128 * (1 - std::pow(1 - 8.0 / 128, 8)), 1e-6);
  EXPECT_NEAR(experts(100000), 128, 1e-6);
  EXPECT_NEAR(bytes(64) / 1e9, 59.5, 0.6);
  EXPECT_NEAR(step_cost(graph, uniform_step(1, {0, 1}, 1)).linear_flops / 2e9, 3.04, 0.01);
}

TEST(Cost, WindowsLimitWhatIsSeen) {
  Qwen3Config config = load_qwen3_config(shape_folder("Qwen3-0.6B"));
  config.num_hidden_layers = 1;
  for (const std::int64_t window : {0, 1, 7, 64, 1000}) {
    config.sliding_window = {window};
    const Graph graph = shape_graph(config);
    for (const SequenceRows s : {SequenceRows{0, 1}, {0, 20}, {5, 4}, {6, 1}, {7, 1}, {63, 3}, {100, 1}, {90, 40}}) {
      std::int64_t seen = 0, first = s.before;
      for (std::int64_t p = s.before; p < s.before + s.rows; ++p) {
        const std::int64_t from = window == 0 ? 0 : std::max<std::int64_t>(0, p - window + 1);
        seen += p - from + 1;
        first = std::min(first, from);
      }
      const Cost cost = step_cost(graph, {{s}, 1});
      EXPECT_EQ(cost.attention_flops, 4 * kQ * static_cast<double>(seen))
          << window << " at " << s.before << "+" << s.rows;
      EXPECT_EQ(cost.kv_read_bytes, static_cast<double>((s.before - first) * 2 * 1024 * 2))
          << window << " at " << s.before << "+" << s.rows;
    }
  }
}

TEST(Cost, PassesChangeNothingButActivations) {
  const auto backend = make_backend("cpu", {1});
  for (const char* name : {"Qwen3-0.6B", "Qwen3-30B-A3B"}) {
    const Graph graph = shape_graph(load_qwen3_config(shape_folder(name))), prepared = backend->prepare(graph);
    const StepShape step{{{100, 1}, {0, 30}}, 2};
    const Cost before = step_cost(graph, step), after = step_cost(prepared, step);
    EXPECT_EQ(after.linear_flops, before.linear_flops) << name;
    EXPECT_EQ(after.attention_flops, before.attention_flops) << name;
    EXPECT_NEAR(after.weight_bytes, before.weight_bytes, 1e-9 * before.weight_bytes) << name;  // these need no padding
    EXPECT_EQ(after.kv_read_bytes, before.kv_read_bytes) << name;
    EXPECT_EQ(after.kv_written_bytes, before.kv_written_bytes) << name;
    EXPECT_LT(after.activation_bytes, before.activation_bytes) << name;
  }
}

TEST(Cost, NodesAddUpToTheStep) {
  const Shape06B m;
  const StepShape step = uniform_step(3, {10, 2}, 1);
  Cost sum;
  for (const Cost& cost : node_costs(m.graph, step)) sum += cost;
  const Cost whole = step_cost(m.graph, step);
  EXPECT_EQ(sum.flops(), whole.flops());
  EXPECT_EQ(sum.kv_read_bytes, whole.kv_read_bytes);
  EXPECT_EQ(sum.weight_bytes - whole.weight_bytes, 6 * kHidden * 2);  // the table is read by embedding and head
}

TEST(Cost, TheFloorIsTheSlowerOfMemoryAndArithmetic) {
  const Cost cost{
      .linear_flops = 300, .attention_flops = 100, .weight_bytes = 1000, .kv_read_bytes = 20, .kv_written_bytes = 4};
  EXPECT_EQ(floor_seconds(cost, {.read_bytes_per_s = 512, .f32_flops_per_s = 400}, DType::f32), 2);
  EXPECT_EQ(floor_seconds(cost, {.read_bytes_per_s = 512, .f32_flops_per_s = 100}, DType::f32), 4);
  EXPECT_EQ(floor_seconds(cost, {.f32_flops_per_s = 100, .bf16_flops_per_s = 200}, DType::bf16), 2);
  EXPECT_EQ(floor_seconds(cost, {.f32_flops_per_s = 100}, DType::bf16), 4);
  EXPECT_EQ(floor_seconds(cost, {}, DType::bf16), 0);
}

TEST(Cost, QuantisedProductsCountAtThePeakOfIntegersIfThatIsHigher) {
  const Cost cost{.linear_flops = 300, .quantized_flops = 200, .attention_flops = 100};
  EXPECT_EQ(floor_seconds(cost, {.bf16_flops_per_s = 100, .int8_ops_per_s = 200}, DType::bf16), 3);
  EXPECT_EQ(floor_seconds(cost, {.bf16_flops_per_s = 100}, DType::bf16), 4);
}

TEST(Cost, QuantisedWeightsAreReadInTheirBits) {
  const Shape06B m;
  const auto cost_in = [&](std::string_view kind) {
    return step_cost(quantize_weights(m.graph, quantization_recipe(kind)), uniform_step(1, {0, 1}, 1));
  };
  const Cost plain = cost_in("none"), int8 = cost_in("int8"), int4 = cost_in("int4");
  EXPECT_EQ(plain.quantized_flops, 0);
  EXPECT_EQ(int8.quantized_flops, int8.linear_flops);
  EXPECT_EQ(int8.linear_flops, plain.linear_flops);
  EXPECT_NEAR(int8.weight_bytes / plain.weight_bytes, 8.25 / 16,
              0.001);  // 8 bits, a scale of 8 for 32 weights, 8 a row
  EXPECT_LT(int4.weight_bytes / int8.weight_bytes, 0.75);
}

}  // namespace
}  // namespace cajal
