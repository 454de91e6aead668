#pragma once
// A kind of machine by its name, and what becomes of a graph on it. All of it is known without having the machine: plans
// are made, models inspected and exported for targets that are elsewhere.
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/memory_plan.h"
#include "graph/graph.h"

namespace cajal {

// A graph as it will run: the regions inlined that the target has no kernel for, kernels chosen, memory placed.
struct TargetPlan {
  Graph graph;
  std::vector<std::string> kernel_names;  // by node of `graph`; empty for leaves and views
  MemoryPlan memory;
};

class Target {
 public:
  virtual ~Target() = default;
  virtual std::string name() const = 0;  // "cpu-avx512_bf16", "sm_90"
  // Backend::prepare of such a machine.
  virtual Graph prepare(const Graph& graph) const = 0;
  // What Backend::compile decides there. Some kernels need memory for each of `num_threads` host threads.
  virtual TargetPlan plan(const Graph& prepared, int num_threads) const = 0;
};

// "cpu-baseline", "cpu-avx2", "cpu-avx512", "cpu-avx512_vnni", "cpu-avx512_bf16", "cpu-amx"; "cpu" for what this machine's CPU can
// do; "sm_80" and later.
// Error(unsupported) names a target that this build has no kernels for, Error(invalid_argument) one that there is not.
std::unique_ptr<Target> make_target(std::string_view name);

// "cpu" or "cuda": the device that runs what was made for a target.
std::string_view device_of_target(std::string_view target);

// The compute capability of an NVIDIA GPU's target: 90 for "sm_90". Nothing for other targets.
constexpr int kLeastSm = 80;  // of a GPU that has kernels here
std::optional<int> sm_of_target(std::string_view name);

// Refuses to run what was made for one target on a device of another.
[[noreturn]] void fail_other_target(std::string_view made_for, std::string_view here);

}  // namespace cajal
