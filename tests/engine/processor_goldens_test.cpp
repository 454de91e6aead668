// The processors, the router and the RoPE tables, each against what Transformers computed.
#include <gtest/gtest.h>

#include <cmath>

#include "backends/cpu/kernels/elementwise.h"
#include "backends/cpu/kernels/moe.h"
#include "base/thread_pool.h"
#include "engine/sampler.h"
#include "golden.h"
#include "models/rope.h"

namespace cajal {
namespace {

const std::string kExtra = CAJAL_TEST_DATA "/goldens/extra/";

Json description(const std::string& name) { return parse_json(read_file(kExtra + name + ".json"), name); }

SamplingParams params_of(const Json& json) {
  const auto number = [&](const char* key, double otherwise) {
    return json.find(key) ? json.find(key)->as_double() : otherwise;
  };
  SamplingParams p;
  p.temperature = static_cast<float>(number("temperature", 1));
  p.top_k = static_cast<std::int64_t>(number("top_k", 0));
  p.top_p = static_cast<float>(number("top_p", 1));
  p.min_p = static_cast<float>(number("min_p", 0));
  p.repetition_penalty = static_cast<float>(number("repetition_penalty", 1));
  return p;
}

TEST(LogitsProcessorGoldens, AreTransformers) {
  const SafetensorsFile file(kExtra + "logits_processors.safetensors");
  const Json cases = description("logits_processors");
  for (const Json& c : cases.find("cases")->as_array()) {
    const std::string name = c.find("name")->as_string();
    auto logits = read_tensor<float>(file, name + ".logits");
    const auto history = read_tensor<std::int64_t>(file, name + ".history");
    const auto scores = read_tensor<float>(file, name + ".scores");
    LogitsProcessor processor(params_of(*c.find("params")), std::vector<std::int32_t>(history.begin(), history.end()));
    processor.apply(logits);
    for (std::size_t i = 0; i < logits.size(); ++i) {
      ASSERT_EQ(std::isinf(logits[i]), std::isinf(scores[i])) << "case " << name << ", token " << i;
      if (!std::isinf(scores[i])) {
        EXPECT_NEAR(logits[i], scores[i], 2e-6 * std::abs(scores[i])) << "case " << name << ", token " << i;
      }
    }
  }
}

TEST(RouterGoldens, AreTransformers) {
  const SafetensorsFile file(kExtra + "router.safetensors");
  const Json cases = description("router");
  ThreadPool pool(1);
  for (const Json& c : cases.find("cases")->as_array()) {
    const std::string name = c.find("name")->as_string();
    const DType dtype = c.find("dtype")->as_string() == "BF16" ? DType::bf16 : DType::f32;
    const std::int64_t experts = c.find("experts")->as_int(), top_k = c.find("top_k")->as_int(), rows = 12;
    auto logits = read_tensor<std::byte>(file, name + ".logits");
    const auto want_weights = read_tensor<std::byte>(file, name + ".weights");
    const auto want_ids = read_tensor<std::int64_t>(file, name + ".experts");
    const auto at = [dtype](const std::vector<std::byte>& bytes, std::size_t i) {
      if (dtype == DType::f32) return reinterpret_cast<const float*>(bytes.data())[i];
      return bf16_to_float(reinterpret_cast<const std::uint16_t*>(bytes.data())[i]);
    };
    for (const auto& kernel : cpu::router_kernels()) {
      if ((kernel.isa & ~cpu::detect_isa()) || !kernel.accepts({dtype, experts, static_cast<int>(top_k)})) continue;
      std::vector<std::byte> weights(want_weights.size());
      std::vector<std::int32_t> ids(want_ids.size());
      kernel.run({.logits = logits.data(),
                  .weights = weights.data(),
                  .ids = ids.data(),
                  .rows = rows,
                  .num_experts = experts,
                  .top_k = static_cast<std::int32_t>(top_k),
                  .dtype = dtype,
                  .norm_topk_prob = c.find("norm_topk_prob")->as_bool()},
                 pool);
      for (std::size_t i = 0; i < ids.size(); ++i) {
        // Which of two equal experts comes first is nobody's promise: torch.topk leaves it open.
        const auto row = static_cast<std::int64_t>(i) / top_k;
        const auto logit = [&](std::int64_t expert) {
          return at(logits, static_cast<std::size_t>(row * experts + expert));
        };
        EXPECT_EQ(logit(ids[i]), logit(want_ids[i])) << kernel.name << ", " << name << ", choice " << i;
        EXPECT_NEAR(at(weights, i), at(want_weights, i), dtype == DType::bf16 ? 4e-3 * at(want_weights, i) : 2e-7)
            << kernel.name << ", " << name;
      }
    }
  }
}

TEST(RopeGoldens, FrequenciesAreTransformersToTheBit) {
  const SafetensorsFile file(kExtra + "rope_tables.safetensors");
  const Json all = description("rope_tables");
  std::size_t tables = 0;
  for (const auto& [name, entry] : all.find("configs")->as_object()) {
    const Json& config = *entry.find("config");
    const auto head_dim = static_cast<int>(config.find("head_dim")->as_int());
    const std::int64_t longest = config.find("max_position_embeddings")->as_int();
    RopeConfig rope;
    try {
      rope = read_rope_config(config, name, head_dim, longest);
    } catch (const Error& e) {
      continue;  // kinds that we refuse are the configuration's tests' business
    }
    const ops::RotaryTable table = rotary_table(rope, head_dim, longest);
    for (const Json& t : entry.find("tables")->as_array()) {
      const auto want = read_tensor<float>(file, t.find("tensor")->as_string());
      const Json* length = t.find("seq_len");
      EXPECT_FLOAT_EQ(table.attention_scaling, static_cast<float>(t.find("attention_scaling")->as_double())) << name;
      std::vector<float> got = table.inv_freq;
      if (!length->is_null() && table.original_length > 0 && length->as_int() > table.original_length) {
        if (table.long_inv_freq.empty()) continue;  // computed in a step: the whole-model goldens see it
        got = table.long_inv_freq;
      }
      EXPECT_EQ(got, want) << name << " at length " << to_json(*length);
      ++tables;
    }
  }
  EXPECT_GT(tables, 30u);
}

TEST(RopeGoldens, CosinesAndSinesAreTransformers) {
  const SafetensorsFile file(kExtra + "rope_tables.safetensors");
  const Json all = description("rope_tables");
  const auto positions64 = read_tensor<std::int64_t>(file, "positions");
  const std::vector<std::int32_t> positions(positions64.begin(), positions64.end());
  ThreadPool pool(1);
  std::size_t compared = 0;
  for (const auto& [name, entry] : all.find("configs")->as_object()) {
    const Json* tensors = entry.find("cos_sin");
    const Json& config = *entry.find("config");
    if (!tensors || !tensors->is_array()) continue;
    const auto head_dim = static_cast<int>(config.find("head_dim")->as_int());
    ops::RotaryTable table;
    try {
      const std::int64_t longest = config.find("max_position_embeddings")->as_int();
      table = rotary_table(read_rope_config(config, name, head_dim, longest), head_dim, longest);
    } catch (const Error&) {
      continue;
    }
    if (table.original_length > 0) continue;  // made by Transformers without a length
    const auto cosines = read_tensor<float>(file, tensors->as_array()[0].as_string());
    const auto sines = read_tensor<float>(file, tensors->as_array()[1].as_string());
    std::vector<float> got(positions.size() * static_cast<std::size_t>(head_dim));
    cpu::rotary_table_kernels().front().run({.op = &table,
                                             .positions = positions.data(),
                                             .rope_lengths = nullptr,
                                             .y = reinterpret_cast<std::byte*>(got.data()),
                                             .rows = static_cast<std::int64_t>(positions.size()),
                                             .columns = head_dim,
                                             .dtype = DType::f32},
                                            pool);
    const auto half = static_cast<std::size_t>(head_dim / 2);
    for (std::size_t p = 0; p < positions.size(); ++p)
      for (std::size_t i = 0; i < half; ++i) {
        const std::size_t theirs = p * 2 * half + i, ours = p * 2 * half + i;
        EXPECT_NEAR(got[ours], cosines[theirs], 3e-7) << name << ", position " << positions[p] << ", " << i;
        EXPECT_NEAR(got[ours + half], sines[theirs], 3e-7) << name << ", position " << positions[p] << ", " << i;
        ++compared;
      }
  }
  EXPECT_GT(compared, 1000u);
}

}  // namespace
}  // namespace cajal
