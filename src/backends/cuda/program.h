#pragma once
// A compiled graph on a CUDA device: a list of launches with their arguments filled in.
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "compiler/memory_plan.h"
#include "graph/graph.h"

namespace cajal::cuda {

// What the leading dimension of a value counts.
enum class RowKind : std::uint8_t { tokens, logits };
std::vector<RowKind> row_kinds(const Graph& graph);  // by value

// The first bytes of a step's inputs: how many rows it has. Kernels read it on the device.
struct StepHeader {
  std::int32_t num_tokens = 0, num_logits = 0;
  std::int32_t serial = 0;  // of the step: one more each time
};

struct Launch {
  std::uint32_t node = 0;
  std::function<void(cudaStream_t)> run;
  // The same work in several launches, each of its own node, where one does that of many: for timing nodes one by one.
  std::vector<Launch> apart = {};
};

// What kernels are chosen for.
struct KernelOptions {
  int sm = 0;
  bool decode_chain = true;
};

// Steps that see little of the cache, which have launches of their own: the blocks of `block_size` positions that its rows see,
// from an input with the position of each, times `units`, are at most `most_blocks`.
struct ShortSteps {
  std::string positions;
  std::int64_t block_size = 0, units = 0, most_blocks = 0;
};

// What compiling learns before memory is known.
struct Selection {
  std::vector<std::string> kernel_names;   // by node; empty for leaves and views
  std::vector<std::size_t> scratch_bytes;  // by node
  std::vector<LateRead> late_reads;
  std::optional<ShortSteps> short_steps;
  StepRows max_rows;  // of a step; 0 where the graph has no such rows
};
Selection select_kernels(const Graph& graph, const KernelOptions& options);

// Where things are on the device.
struct Places {
  std::function<std::byte*(Value)> at;
  std::function<std::byte*(std::uint32_t node)> scratch;
  std::function<const float*(const ops::RotaryTable&)> frequencies;  // [T, D/2] or [D/2], as row_frequencies says
  const StepHeader* header = nullptr;
  // Memory that lives across steps and belongs to the executable alone, all ones before the first; for all its launches,
  // which ask for the same in the same order.
  std::function<std::byte*(std::size_t bytes)> keep;
};
// Frequencies that differ from row to row.
bool row_frequencies(const ops::RotaryTable& op);

// With the launches of short steps, or with those that all steps may have.
std::vector<Launch> lower(const Graph& graph, const KernelOptions& options, const Places& places, bool short_step);

// Regions that have kernels here.
bool has_region_kernel(std::string_view kind);

}  // namespace cajal::cuda
