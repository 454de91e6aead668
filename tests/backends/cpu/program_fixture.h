#pragma once
// Runs graphs step by step on the CPU, in memory full of NaNs where nobody has written yet.
#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backends/cpu/isa.h"
#include "backends/cpu/program.h"
#include "base/checked.h"
#include "checkpoint/dummy_weights.h"
#include "checkpoint/loader.h"
#include "compiler/memory_plan.h"
#include "compiler/passes.h"
#include "distributed/ranks.h"
#include "graph/bucket.h"

namespace cajal::cpu::test {

// 64-byte aligned bytes, each 0xff: a NaN in bf16 and in f32, and as an index far from anything.
class Poisoned {
 public:
  explicit Poisoned(std::size_t bytes) : memory_(bytes + 256, std::byte{0xff}), bytes_(bytes) {}
  std::byte* data() {
    const auto at = reinterpret_cast<std::uintptr_t>(memory_.data());
    return memory_.data() + (round_up<std::uintptr_t>(at, 256) - at);
  }
  std::span<std::byte> span() { return {data(), bytes_}; }
  void poison() { std::fill(memory_.begin(), memory_.end(), std::byte{0xff}); }

 private:
  std::vector<std::byte> memory_;
  std::size_t bytes_;
};

// The rows of one step. The rest of the bucket is padding.
struct StepData {
  std::vector<std::int32_t> ids, positions, slots, seqs, wanted;
  std::vector<std::vector<std::int32_t>> tables;  // by sequence
};

// Sequences that grow by random pieces: prefill of some while others decode.
inline std::vector<StepData> random_steps(const Bucket& bucket, std::int64_t vocab_size, std::int64_t num_blocks,
                                          unsigned seed) {
  std::mt19937 random(seed);
  const auto below = [&](std::int64_t n) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(n));
  };
  std::vector<std::int32_t> blocks;
  for (std::int64_t b = 1; b < num_blocks; ++b) blocks.push_back(static_cast<std::int32_t>(b));
  std::shuffle(blocks.begin(), blocks.end(), random);
  std::vector<std::vector<std::int32_t>> tables(static_cast<std::size_t>(bucket.num_seqs));
  for (std::size_t i = 0; i < blocks.size() && i < tables.size() * static_cast<std::size_t>(bucket.max_blocks_per_seq);
       ++i)
    tables[i % tables.size()].push_back(blocks[i]);
  std::vector<std::int64_t> length(tables.size());
  std::vector<StepData> steps;
  for (int n = 0; n < 6; ++n) {
    StepData step;
    step.tables = tables;
    std::int64_t room = 1 + below(bucket.num_tokens);
    for (std::size_t s = 0; s < tables.size() && room > 0; ++s) {
      const std::int64_t limit = static_cast<std::int64_t>(tables[s].size()) * kKvBlockSize - length[s];
      const std::int64_t rows = std::min({room, limit, n % 2 ? std::int64_t{1} : 1 + below(room)});
      for (std::int64_t i = 0; i < rows; ++i, ++length[s]) {
        step.ids.push_back(static_cast<std::int32_t>(below(vocab_size)));
        step.positions.push_back(static_cast<std::int32_t>(length[s]));
        const std::int32_t block = tables[s][static_cast<std::size_t>(length[s] / kKvBlockSize)];
        step.slots.push_back(static_cast<std::int32_t>(block * kKvBlockSize + length[s] % kKvBlockSize));
        step.seqs.push_back(static_cast<std::int32_t>(s));
      }
      if (rows > 0 && static_cast<std::int64_t>(step.wanted.size()) < bucket.num_logits)
        step.wanted.push_back(static_cast<std::int32_t>(step.ids.size()) - 1);
      room -= rows;
    }
    if (!step.ids.empty()) steps.push_back(std::move(step));
  }
  return steps;
}

// Outputs of every step, the rows that the step has and no others, one after the other.
using Outputs = std::vector<std::vector<std::byte>>;

class Program {
 public:
  static constexpr std::int64_t kBlocks = 8;

  // With ranks it is one of them: all of them run the same steps, each in a thread of its own.
  explicit Program(const Graph& graph, std::uint32_t isa = detect_isa(), int threads = 2,
                   const RankGroups* ranks = nullptr)
      : graph_(graph), isa_(isa), ranks_(ranks), pool_(threads) {
    selection_ = select_kernels(graph_, isa_, pool_.size());
    schedule_ = sequential_schedule(graph_);
    plan_ = plan_memory(graph_, schedule_, selection_.scratch_bytes);
    load_weights();
  }

  const Graph& graph() const { return graph_; }
  const MemoryPlan& plan() const { return plan_; }
  const Schedule& schedule() const { return schedule_; }
  const Selection& selection() const { return selection_; }

  // A checkpoint's weights in place of the dummy ones.
  void load(const Checkpoint& checkpoint) {
    Sink sink(leaves_);
    Staging staging(pool_);
    load_all(checkpoint, graph_, rank(), sink, staging);
  }

  Outputs run(std::span<const StepData> steps) { return run(steps, plan_, plan_.arena_bytes); }

  // With another plan, in an arena of `arena_bytes`.
  Outputs run(std::span<const StepData> steps, const MemoryPlan& plan, std::size_t arena_bytes) {
    allocate_states();
    Poisoned arena(arena_bytes);
    const auto at = [&](Value v) { return address(plan.root[v.id], plan, arena.data()); };
    const auto calls =
        lower(graph_, {isa_, ranks_}, at, [&](std::uint32_t n) { return arena.data() + plan.scratch[n].offset; });
    Outputs outputs;
    for (const StepData& step : steps) {
      fill(step);
      arena.poison();
      const RunContext context{
          pool_, {static_cast<std::int64_t>(step.ids.size()), static_cast<std::int64_t>(step.wanted.size())}};
      for (const Step& call : calls) call.call(call, context);
      for (const Value v : graph_.outputs()) {
        const TensorType& type = graph_.type(v);
        const bool logits =
            type.shape[0] == selection_.max_rows.num_logits && type.shape[0] != selection_.max_rows.num_tokens;
        const std::size_t rows = logits ? step.wanted.size() : step.ids.size();
        const std::size_t bytes = type.bytes() / static_cast<std::size_t>(type.shape[0]) * rows;
        outputs.emplace_back(at(v), at(v) + bytes);
      }
    }
    return outputs;
  }

 private:
  struct Sink : WeightSink {
    explicit Sink(std::map<std::string, Poisoned>& leaves) : into(leaves) {}
    std::span<std::byte> destination(const std::string& name, const TensorType& type) override {
      return into.emplace(name, Poisoned(type.bytes())).first->second.span();
    }
    std::map<std::string, Poisoned>& into;
  };

  void load_weights() {
    Sink sink(leaves_);
    Staging staging(pool_);
    fill_all_dummy(graph_, rank(), 1, sink, staging);
    for (const Node& node : graph_.nodes())
      if (std::holds_alternative<ops::Input>(node.op))
        leaves_.emplace(node.name, Poisoned(graph_.type(node.results[0]).bytes()));
  }
  TensorParallelRank rank() const {
    if (!ranks_) return {};
    return {ranks_->tensor->rank(), ranks_->tensor->size(), ranks_->expert->rank(), ranks_->expert->size()};
  }
  void allocate_states() {
    for (const Node& node : graph_.nodes()) {
      if (!std::holds_alternative<ops::State>(node.op)) continue;
      TensorType type = graph_.type(node.results[0]);
      type.shape[0] = kBlocks;
      leaves_.erase(node.name);
      leaves_.emplace(node.name, Poisoned(type.bytes()));
    }
  }
  std::byte* address(std::uint32_t root, const MemoryPlan& plan, std::byte* arena) {
    const Node& node = graph_.producer_node({root});
    return is_leaf(node.op) ? leaves_.at(node.name).data() : arena + plan.slots[root].offset;
  }
  void fill(const StepData& step) {
    const auto put = [&](const char* name, const std::vector<std::int32_t>& from, std::size_t at = 0) {
      const auto leaf = leaves_.find(name);
      if (leaf == leaves_.end() || from.empty()) return;
      if (at == 0) leaf->second.poison();
      std::memcpy(leaf->second.data() + at * sizeof from[0], from.data(), from.size() * sizeof from[0]);
    };
    put("input_ids", step.ids), put("positions", step.positions), put("slot_mapping", step.slots),
        put("seq_indices", step.seqs);
    put("logits_indices", step.wanted);
    const auto width = static_cast<std::size_t>(graph_.type(*graph_.find_leaf("block_tables")).shape[1]);
    for (std::size_t s = 0; s < step.tables.size(); ++s) put("block_tables", step.tables[s], s * width);
  }

  Graph graph_;
  std::uint32_t isa_;
  const RankGroups* ranks_;
  ThreadPool pool_;
  Selection selection_;
  Schedule schedule_;
  MemoryPlan plan_;
  std::map<std::string, Poisoned> leaves_;  // by name
};

}  // namespace cajal::cpu::test
