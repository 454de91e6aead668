// Models whose experts are shared out over ranks, run by threads that are ranks, against the same model on one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <thread>

#include "backends/cpu/cpu_target.h"
#include "backends/cpu/program_fixture.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/tied_embeddings.h"
#include "compiler/model_graphs.h"

namespace cajal::cpu {
namespace {

using test::Outputs;
using test::Program;
using test::StepData;

constexpr Bucket kBucket{.num_tokens = 24, .num_seqs = 3, .max_blocks_per_seq = 2, .num_logits = 3};

Graph prepared(const Qwen3Config& config, const Qwen3GraphOptions& options) {
  return make_cpu_target(detect_isa())->prepare(build_qwen3(config, options));
}

// What every rank gives. A rank that throws gives nothing, and the others hear of it.
std::vector<Outputs> run_ranks(const Graph& graph, ParallelDegrees degrees, const Checkpoint* checkpoint,
                               std::span<const StepData> steps) {
  auto groups = make_thread_rank_groups(degrees);
  std::vector<Outputs> outputs(groups.size());
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < groups.size(); ++r)
    threads.emplace_back([&, r] {
      try {
        Program program(graph, detect_isa(), 1, &groups[r]);
        if (checkpoint) program.load(*checkpoint);
        outputs[r] = program.run(steps);
      } catch (const std::exception& e) {
        groups[r].world->abandon(e.what());
        ADD_FAILURE() << "rank " << r << ": " << e.what();
      }
    });
  for (auto& thread : threads) thread.join();
  return outputs;
}

std::vector<std::pair<std::string, Qwen3Config>> models() {
  std::vector<std::pair<std::string, Qwen3Config>> all{{"qwen3_moe", cajal::test::small_config(true)},
                                                       {"qwen2_moe", cajal::test::small_qwen2_moe()}};
  for (auto& [name, c] : all) c.shared_expert_intermediate_size *= 2;  // eight parts, for one rank and for two
  Qwen3Config five = all[0].second;
  five.num_experts = 5, five.num_experts_per_tok = 3, five.sparse_layer = {false, true};
  all.emplace_back("five experts, one layer dense", five);
  return all;
}

class ExpertParallel : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Types, ExpertParallel, testing::Values(DType::f32, DType::bf16),
                         [](const auto& type) { return std::string(to_string(type.param)); });

TEST_P(ExpertParallel, GivesTheBitsOfOneRankOnEveryRank) {
  const auto steps = test::random_steps(kBucket, 96, Program::kBlocks, 3);
  for (const auto& [name, config] : models()) {
    Qwen3GraphOptions options{.bucket = kBucket, .dtype = GetParam()};
    const Outputs expected = Program(prepared(config, options)).run(steps);
    for (const ParallelDegrees degrees : {ParallelDegrees{1, 2}, {1, 3}, {1, 4}, {2, 1}, {2, 2}}) {
      options.parallel = {degrees.tensor, degrees.expert};
      const auto outputs = run_ranks(prepared(config, options), degrees, nullptr, steps);
      for (std::size_t r = 0; r < outputs.size(); ++r)
        EXPECT_TRUE(outputs[r] == expected)
            << name << ", rank " << r << " of tp " << degrees.tensor << ", ep " << degrees.expert;
    }
  }
}

template <class T>
std::vector<T> tensor(const SafetensorsFile& file, std::string_view name) {
  const auto* found = file.find(name);
  std::vector<T> values(found ? found->size / sizeof(T) : 0);
  if (found) file.read(*found, 0, std::as_writable_bytes(std::span(values)));
  return values;
}

// The prompt of a golden case with what Transformers answered, as one step that wants the logits of every row.
struct GoldenStep {
  explicit GoldenStep(const std::string& folder) {
    const SafetensorsFile file(folder + "/expected.safetensors");
    prompt_logits = tensor<float>(file, "logits"), greedy_logits = tensor<float>(file, "greedy_logits");
    std::vector<std::int64_t> ids = tensor<std::int64_t>(file, "input_ids");
    prompt_rows = ids.size();
    for (const std::int64_t id : tensor<std::int64_t>(file, "greedy"))
      greedy.push_back(static_cast<std::int32_t>(id)), ids.push_back(id);
    ids.pop_back();
    for (const std::int64_t id : ids) {
      const auto row = static_cast<std::int32_t>(step.ids.size());
      step.ids.push_back(static_cast<std::int32_t>(id));
      step.positions.push_back(row), step.slots.push_back(static_cast<std::int32_t>(kKvBlockSize) + row);
      step.seqs.push_back(0), step.wanted.push_back(row);
    }
    step.tables = {{1, 2}};
  }
  std::int64_t rows() const { return static_cast<std::int64_t>(step.ids.size()); }

  StepData step;
  std::size_t prompt_rows = 0;
  std::vector<std::int32_t> greedy;
  std::vector<float> prompt_logits, greedy_logits;  // [rows of the prompt, V], [greedy, V]
};

void expect_golden(const GoldenStep& golden, std::span<const std::byte> output, const std::string& what) {
  std::vector<float> logits(output.size() / sizeof(float));
  std::memcpy(logits.data(), output.data(), output.size());
  const std::size_t v = golden.greedy_logits.size() / golden.greedy.size();
  float largest = 0;
  for (std::size_t i = 0; i < golden.prompt_logits.size(); ++i)
    largest = std::max(largest, std::abs(logits[i] - golden.prompt_logits[i]));
  EXPECT_LE(largest, 2e-4f) << what;
  for (std::size_t t = 0; t < golden.greedy.size(); ++t) {
    const auto row = logits.begin() + static_cast<std::ptrdiff_t>((golden.prompt_rows - 1 + t) * v);
    EXPECT_EQ(std::max_element(row, row + static_cast<std::ptrdiff_t>(v)) - row, golden.greedy[t])
        << what << ", token " << t;
  }
}

// One case at a grid of degrees; the experts need not be shared evenly.
class ExpertParallelGoldens : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(HuggingFace, ExpertParallelGoldens,
                         testing::Values("m_norm_false", "m_odd_sizes", "q2_mixed", "q2_no_bias"),
                         [](const auto& name) { return std::string(name.param); });

TEST_P(ExpertParallelGoldens, AreTransformers) {
  const std::string folder = std::string(CAJAL_TEST_DATA "/goldens/") + GetParam();
  const Qwen3Config config = load_qwen3_config(folder);
  const Checkpoint checkpoint(folder);
  const EmbeddingSources sources = resolve_tied_embeddings(checkpoint, config.tie_word_embeddings);
  const GoldenStep golden(folder);
  for (const ParallelDegrees degrees : {ParallelDegrees{1, 2}, {1, 4}, {2, 2}, {3, 2}}) {
    const Graph graph = prepared(config, {.bucket = {golden.rows(), 1, 2, golden.rows()},
                                          .dtype = DType::f32,
                                          .parallel = {degrees.tensor, degrees.expert},
                                          .embedding_tensor = sources.embedding,
                                          .lm_head_tensor = sources.head});
    const auto outputs = run_ranks(graph, degrees, &checkpoint, std::span(&golden.step, 1));
    for (const Outputs& of_rank : outputs) EXPECT_EQ(of_rank, outputs[0]) << "ranks differ";
    if (!outputs[0].empty())
      expect_golden(golden, outputs[0][0], detail::join("tp ", degrees.tensor, ", ep ", degrees.expert));
  }
}

}  // namespace
}  // namespace cajal::cpu
