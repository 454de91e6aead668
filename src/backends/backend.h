#pragma once
// What the engine needs of a device. Nothing here assumes that memory is the host's or that a step is over when launch()
// returns: PJRT in miniature, so that CUDA and PJRT plugins are further implementations.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backends/sampling.h"
#include "base/thread_pool.h"
#include "compiler/memory_plan.h"
#include "graph/graph.h"
#include "tensor/dummy_numbers.h"

namespace cajal {

struct RankGroups;

// Memory of one device, freed with the object.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual std::size_t bytes() const = 0;
  virtual void upload(std::span<const std::byte> from, std::size_t offset) = 0;
  virtual void download(std::span<std::byte> to, std::size_t offset) const = 0;
  // Copies one part to another that it does not overlap, after all work that was launched before.
  virtual void copy_within(std::size_t from, std::size_t to, std::size_t count) = 0;
  // The memory itself where the host can write to it, else empty: then upload() is the way in.
  virtual std::span<std::byte> host_view() { return {}; }
};

// Brings weights into memory that the host cannot write to: several threads make rows at once, while those that are made
// are copied and stored. One parameter after the other.
class Uploader {
 public:
  virtual ~Uploader() = default;
  virtual void begin(Buffer& to, const TensorType& type) = 0;
  virtual std::size_t slot_bytes() const = 0;
  // slot_bytes() of host memory; waits while all of it is filled or being copied. For any thread, as are those below.
  virtual std::span<std::byte> acquire() = 0;
  virtual void give_back(std::span<std::byte> slot) = 0;  // unused
  // Plain rows of the parameter from `first_row` on, counted through all matrices of a stack; takes the slot back.
  virtual void store(std::int64_t first_row, std::int64_t num_rows, std::span<std::byte> slot) = 0;
  // Whether the device makes dummy weights of the parameter's type by itself, and makes them.
  virtual bool makes_dummy_rows() const = 0;
  virtual void make(std::span<const DummyRows> rows) = 0;
  virtual void finish() = 0;  // waits until all is there
};

// Marks a point in an executable's work.
struct Event {
  std::uint64_t serial = 0;
};

// How much of a bucket a step really uses; the rest is padding, which an executable may skip.
struct StepRows {
  std::int64_t num_tokens = 0, num_logits = 0;
  // Every row of logits has its token chosen on the device: what choose_from() named is brought to the host only if output()
  // asks for it.
  bool all_chosen = false;
};

// What one node's kernel took, over all launches since profiling was switched on.
struct NodeTiming {
  std::uint32_t node = 0;  // of Executable::graph()
  std::uint64_t calls = 0;
  double seconds = 0;
};

// Where the leaves of a graph lie.
struct Bindings {
  std::function<Buffer&(const std::string& name)> parameter;
  std::function<Buffer&(const std::string& name)> state;
  Buffer* arena = nullptr;  // at least plan().arena_bytes; shared by executables that never run at the same time
};

// A graph made ready: kernels chosen, memory placed. Running it allocates nothing, chooses nothing and cannot fail for a
// reason that compile() or bind() could have found.
class Executable {
 public:
  virtual ~Executable() = default;
  virtual const Graph& graph() const = 0;
  virtual const MemoryPlan& plan() const = 0;
  // Which kernel runs each node, in the graph's order; leaves and views have none.
  virtual std::vector<std::string> kernel_names() const = 0;

  virtual void bind(const Bindings& bindings) = 0;
  // Host memory to fill before launch(); its bytes may be overwritten as soon as the event of that launch is waited for.
  virtual std::span<std::byte> input(std::string_view name) = 0;
  virtual Event launch(const StepRows& rows) = 0;  // of at most as many rows as the graph has
  virtual void wait(Event event) = 0;
  // The same; false if it takes longer. Where launch() returns when a step is over, there is nothing to wait for.
  virtual bool wait_for(Event event, std::chrono::nanoseconds /*at_most*/) {
    wait(event);
    return true;
  }
  // While on, launches time each kernel, which costs some speed; switching it on forgets older times. A backend without
  // timers ignores it and has no timings.
  virtual void set_profiling(bool /*on*/) {}
  virtual std::vector<NodeTiming> timings() const { return {}; }
  // From now on launches choose the tokens of output `index`, logits with a row for each of the step, as sampling() says and
  // with the tokens that engine/sampler.h would choose. Before bind(); false: this device leaves it to the host.
  virtual bool choose_from(std::size_t /*index*/) { return false; }
  // Host memory to fill before launch(), by row of logits, and what came of it once the launch is waited for.
  virtual std::span<RowSampling> sampling() { return {}; }
  virtual std::span<const RowChoice> choices() const { return {}; }
  // Of the weight that makes the logits, the bytes that choosing the tokens of so many rows reads at the least, where that is
  // not all of it.
  virtual std::optional<std::uint64_t> choosing_bytes(std::int64_t /*num_logits*/) const { return std::nullopt; }
  // Host memory that holds output `index` once the event of the last launch is waited for, until the next launch of any
  // executable that shares the arena. Rows that the step did not have hold anything. For any thread.
  virtual std::span<const std::byte> output(std::size_t index) = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string name() const = 0;                             // "cpu"
  virtual std::string target() const = 0;                           // "cpu-avx512_bf16", see target.h
  virtual std::string description() const = 0;                      // for people: "cpu (avx512_bf16, 2 threads)"
  virtual std::size_t free_bytes() const = 0;                       // memory that could still be taken
  virtual std::unique_ptr<Buffer> allocate(std::size_t bytes) = 0;  // zero-filled; Error(out_of_memory)
  // Host memory that outlives the buffer, such as a mapped file, as a buffer that is only read; null: the device reads only
  // what was uploaded to it.
  virtual std::unique_ptr<Buffer> adopt(std::span<const std::byte> /*memory*/) { return nullptr; }
  virtual bool steps_run_alone() const { return false; }  // launch() returns at once, and the host is free meanwhile
  // The ranks that compute together with this device; null: there are no others.
  virtual const RankGroups* ranks() const { return nullptr; }
  virtual ThreadPool& host_threads() = 0;  // the host's, for what is done outside of steps: loading, probes
  virtual std::unique_ptr<Uploader> make_uploader() { return nullptr; }  // none where buffers have a host_view()
  // The graph as this backend wants to run it: fused, with the storage that its kernels read. Weights are loaded and
  // states allocated as the result says.
  virtual Graph prepare(const Graph& graph) const = 0;
  virtual std::unique_ptr<Executable> compile(const Graph& prepared) = 0;
};

struct BackendOptions {
  int num_threads = 0;  // of the host; 0: as many as the cores that this process may use
  // What the machine is to be taken for, if it can be that: a CPU for one without its newest instructions. Empty: itself.
  std::string target = {};
  // cuda: in steps of few rows, what lies between two attentions in one launch where the graph allows.
  bool decode_chain = true;
  // cpu: whether tokens are chosen by a sketch of the head where that reads less than the head, which changes no token.
  bool head_sketch = true;
  // cpu: the ranks that the device is one of, as this one sees them; must outlive the backend. Null: there are no others.
  const RankGroups* ranks = nullptr;
  int ranks_here = 1;  // of them on this machine, which share its memory: free_bytes() is one's share
};
// "cpu", "cuda", "cuda:1", or "auto": cuda if there is a device, else cpu. A backend that this build or this machine lacks is
// refused by name, with the reason.
std::unique_ptr<Backend> make_backend(std::string_view device, const BackendOptions& options = {});
bool built_with_cuda();
// Why "auto" does not choose CUDA; empty if it does.
std::string why_no_cuda();

}  // namespace cajal
