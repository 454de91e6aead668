#pragma once
// A compiled graph on the CPU: a flat list of calls with their arguments already filled in.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <type_traits>
#include <vector>

#include "backends/backend.h"
#include "base/thread_pool.h"

namespace cajal::cpu {

// What the leading dimension of a value counts: how many of its rows a step really has is known when the step runs.
enum class RowKind : std::uint8_t { tokens, logits };

struct RunContext {
  ThreadPool& pool;
  StepRows rows;
  std::int64_t of(RowKind kind) const { return kind == RowKind::tokens ? rows.num_tokens : rows.num_logits; }
};

struct Step {
  using Call = void (*)(const Step& step, const RunContext& context);
  Call call = nullptr;
  void (*kernel)() = nullptr;  // the kernel's function, as the call knows its type
  const char* name = nullptr;  // the kernel's, for profiles
  std::uint32_t node = 0;
  RowKind row_kind = RowKind::tokens;
  std::int64_t row_scale = 1;  // rows of the kernel for each row of the step: heads, where each is normalised by itself
  alignas(16) std::array<std::byte, 208> args;

  template <class Args>
  static Step make(void (*run)(const Args&, ThreadPool&), const char* kernel_name, RowKind rows, const Args& args) {
    static_assert(std::is_trivially_copyable_v<Args> && sizeof(Args) <= sizeof(Step::args));
    Step step{};
    step.kernel = reinterpret_cast<void (*)()>(run);
    step.name = kernel_name;
    step.row_kind = rows;
    std::memcpy(step.args.data(), &args, sizeof args);
    step.call = [](const Step& s, const RunContext& context) {
      Args a;
      std::memcpy(&a, s.args.data(), sizeof a);
      a.rows = context.of(s.row_kind) * s.row_scale;
      if (a.rows > 0) reinterpret_cast<void (*)(const Args&, ThreadPool&)>(s.kernel)(a, context.pool);
    };
    return step;
  }
};

// Where a value's bytes are.
using Addresses = std::function<std::byte*(Value)>;

// What compiling learns before memory is known: kernel names and the scratch that each node's kernel needs.
struct Selection {
  std::vector<std::string> kernel_names;   // by node; empty for leaves and views
  std::vector<std::size_t> scratch_bytes;  // by node
  StepRows max_rows;                       // of a step; 0 where the graph has no such rows
};
Selection select_kernels(const Graph& graph, std::uint32_t isa, int threads);

// What a program is made for: the instruction sets, and the ranks that its collectives are over; null: there are none.
struct Machine {
  std::uint32_t isa = 0;
  const RankGroups* ranks = nullptr;
};
// Error(unsupported) names the first node that needs ranks which there are not.
void check_ranks(const Graph& graph, const RankGroups* ranks);

// The calls of a graph, which must outlive them. `scratch` is by node.
std::vector<Step> lower(const Graph& graph, const Machine& machine, const Addresses& at,
                        const std::function<std::byte*(std::uint32_t node)>& scratch);

// Regions that have kernels here.
bool has_region_kernel(std::string_view kind);

}  // namespace cajal::cpu
