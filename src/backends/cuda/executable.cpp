#include "backends/cuda/executable.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>

#include "backends/cuda/check.h"
#include "backends/cuda/device_turn.h"
#include "backends/cuda/frequencies.h"
#include "backends/cuda/kernels/sampling.h"
#include "backends/cuda/program.h"
#include "base/checked.h"

namespace cajal::cuda {
namespace {

struct Extent {
  std::size_t offset = 0, bytes = 0;
};

// Launches recorded once, to be repeated at the cost of one.
class CapturedGraph {
 public:
  CapturedGraph() = default;
  ~CapturedGraph() { reset(); }
  CapturedGraph(const CapturedGraph&) = delete;
  CapturedGraph& operator=(const CapturedGraph&) = delete;

  template <class Body>
  void capture(cudaStream_t stream, const Body& body) {
    reset();
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "capturing a step");
    cudaGraph_t graph = nullptr;
    try {
      body();
    } catch (...) {
      cudaStreamEndCapture(stream, &graph);
      if (graph) cudaGraphDestroy(graph);
      throw;
    }
    check(cudaStreamEndCapture(stream, &graph), "capturing a step");
    const cudaError_t error = cudaGraphInstantiate(&exec_, graph, 0);
    cudaGraphDestroy(graph);
    check(error, "making a captured step ready");
    check(cudaGraphUpload(exec_, stream), "uploading a captured step");
  }
  void launch(cudaStream_t stream) const { check(cudaGraphLaunch(exec_, stream), "launching a step"); }

 private:
  void reset() {
    if (exec_) cudaGraphExecDestroy(exec_);
    exec_ = nullptr;
  }
  cudaGraphExec_t exec_ = nullptr;
};

class CudaExecutable final : public Executable {
 public:
  CudaExecutable(const Graph& graph, const Stream& stream, const KernelOptions& options)
      : graph_(graph), stream_(stream), options_(options) {
    stream_.make_current();
    done_ = std::make_shared<CudaEvent>();
    Selection selection = select_kernels(graph_, options_);
    kernel_names_ = std::move(selection.kernel_names);
    max_rows_ = selection.max_rows;
    short_steps_ = std::move(selection.short_steps);
    kinds_ = row_kinds(graph_);
    plan_ = plan_memory(graph_, sequential_schedule(graph_), selection.scratch_bytes, selection.late_reads);
    lay_out_inputs();
    lay_out_outputs();
  }
  ~CudaExecutable() override {
    if (cudaSetDevice(stream_.device()) == cudaSuccess) cudaStreamSynchronize(stream_.get());
  }

  const Graph& graph() const override { return graph_; }
  const MemoryPlan& plan() const override { return plan_; }
  std::vector<std::string> kernel_names() const override { return kernel_names_; }

  void bind(const Bindings& bindings) override {
    stream_.make_current();
    arena_ = &device_buffer(bindings.arena);
    CAJAL_CHECK(arena_->bytes() >= plan_.arena_bytes);
    arena_->reserve_outputs(output_bytes_);
    addresses_.assign(graph_.num_values(), nullptr);
    for (const Node& node : graph_.nodes())
      for (const Value v : node.results) addresses_[v.id] = address(node, v, bindings);
    Places places;
    places.at = [this](Value v) { return addresses_[v.id]; };
    places.scratch = [this](std::uint32_t n) { return arena_->data() + plan_.scratch[n].offset; };
    places.frequencies = [this](const ops::RotaryTable& op) {
      return reinterpret_cast<const float*>(device_inputs_->data() + frequencies_.at(&op).offset);
    };
    places.header = reinterpret_cast<const StepHeader*>(device_inputs_->data());
    places.keep = [this](std::size_t bytes) { return keep(bytes); };
    kept_.clear();
    for (const bool short_step : {false, true}) {
      if (short_step && !short_steps_) continue;
      kept_count_ = 0;
      Way& way = ways_[short_step];
      way.launches = lower(graph_, options_, places, short_step);
      way.step.capture(stream_.get(), [&] {
        upload_inputs();
        for (const Launch& launch : way.launches) run(launch);
        if (chosen_output_) choose();
      });
    }
  }

  std::span<std::byte> input(std::string_view name) override {
    const auto it = inputs_.find(name);
    CAJAL_CHECK(it != inputs_.end(), "no input '", name, "'");
    return host_inputs_->span().subspan(it->second.offset, it->second.bytes);
  }

  Event launch(const StepRows& rows) override {
    CAJAL_CHECK(arena_, "launch before bind");
    CAJAL_CHECK(rows.num_tokens <= max_rows_.num_tokens && rows.num_logits <= max_rows_.num_logits, rows.num_tokens,
                " rows and ", rows.num_logits, " of logits in a bucket of ", max_rows_.num_tokens, " and ",
                max_rows_.num_logits);
    stream_.make_current();
    DeviceTurn turn(stream_);
    fill_hidden_inputs(rows);
    const Way& way = ways_[is_short(rows)];
    if (profiling_)
      run_timed(way.launches);
    else
      way.step.launch(stream_.get());
    stays_ = rows.all_chosen ? chosen_output_ : std::nullopt;
    last_rows_ = rows;
    for (std::size_t i = 0; i < outputs_.size(); ++i)
      if (stays_ != i) download_output(i, rows);
    check(cudaEventRecord(done_->get(), stream_.get()), "marking the end of a step");
    turn.end(done_);
    return {++serial_};
  }
  void wait(Event event) override {
    CAJAL_CHECK(event.serial <= serial_);
    stream_.make_current();
    check(cudaEventSynchronize(done_->get()), "running a step");
  }
  bool wait_for(Event event, std::chrono::nanoseconds at_most) override {
    CAJAL_CHECK(event.serial <= serial_);
    stream_.make_current();
    const auto begin = std::chrono::steady_clock::now();
    for (cudaError_t error = cudaEventQuery(done_->get()); error != cudaSuccess; error = cudaEventQuery(done_->get())) {
      if (error != cudaErrorNotReady) check(error, "running a step");
      if (std::chrono::steady_clock::now() - begin > at_most) return false;
    }
    return true;
  }

  void set_profiling(bool on) override {
    if (on) timings_.clear();
    profiling_ = on;
  }
  std::vector<NodeTiming> timings() const override { return timings_; }

  bool choose_from(std::size_t index) override {
    const TensorType& type = graph_.type(graph_.outputs()[index]);
    const auto rows = static_cast<std::size_t>(type.shape[0]);
    const bool known = type.plain() && (type.dtype == DType::bf16 || type.dtype == DType::f32);
    if (!known || type.shape.rank() != 2 || type.shape[1] > kMostWeights) return false;
    CAJAL_CHECK(kinds_[graph_.outputs()[index].id] == RowKind::logits);
    sampling_ = std::make_unique<PinnedMemory>(rows * sizeof(RowSampling));
    choices_ = std::make_unique<PinnedMemory>(rows * sizeof(RowChoice));
    std::fill_n(sampling().begin(), rows, RowSampling{});
    chosen_output_ = index;
    return true;
  }
  std::span<RowSampling> sampling() override {
    if (!sampling_) return {};
    const auto bytes = sampling_->span();
    return {reinterpret_cast<RowSampling*>(bytes.data()), bytes.size() / sizeof(RowSampling)};
  }
  std::span<const RowChoice> choices() const override {
    if (!choices_) return {};
    const auto bytes = choices_->span();
    return {reinterpret_cast<const RowChoice*>(bytes.data()), bytes.size() / sizeof(RowChoice)};
  }

  std::span<const std::byte> output(std::size_t index) override {
    const std::scoped_lock lock(output_mutex_);
    if (stays_ == index) {
      stream_.make_current();
      download_output(index, last_rows_);
      stream_.wait();
      stays_.reset();
    }
    return arena_->outputs().subspan(outputs_[index].offset, outputs_[index].bytes);
  }

 private:
  // What a step may be launched as: one by one, to be timed, or captured.
  struct Way {
    std::vector<Launch> launches;
    CapturedGraph step;
  };

  static DeviceBuffer& device_buffer(Buffer* buffer) {
    auto* ours = dynamic_cast<DeviceBuffer*>(buffer);
    CAJAL_CHECK(ours, "memory of another backend");
    return *ours;
  }

  // All inputs in one piece, so that one copy brings them: the header, the graph's inputs, RoPE frequencies.
  void lay_out_inputs() {
    std::size_t bytes = round_up(sizeof(StepHeader), kPlanAlignment);
    const auto place = [&](std::size_t count) {
      const Extent extent{bytes, count};
      bytes += round_up(count, kPlanAlignment);
      return extent;
    };
    for (const Node& node : graph_.nodes()) {
      if (const auto* op = std::get_if<ops::Input>(&node.op))
        inputs_[op->name] = place(graph_.type(node.results[0]).bytes());
      if (const auto* op = std::get_if<ops::RotaryTable>(&node.op)) {
        const std::size_t rows =
            row_frequencies(*op) ? static_cast<std::size_t>(graph_.type(node.results[0]).shape[0]) : 1;
        frequencies_[op] = place(rows * op->inv_freq.size() * sizeof(float));
      }
    }
    host_inputs_ = std::make_unique<PinnedMemory>(bytes);
    device_inputs_ = std::make_unique<DeviceBuffer>(stream_, bytes);
    for (const Node& node : graph_.nodes()) {
      const auto* op = std::get_if<ops::RotaryTable>(&node.op);
      if (!op) continue;
      if (row_frequencies(*op))
        row_frequencies_.push_back({RowFrequencies(*op), graph_.producer_node(node.inputs[1]).name, frequencies_[op]});
      else
        std::memcpy(host_inputs_->span().data() + frequencies_[op].offset, op->inv_freq.data(), frequencies_[op].bytes);
    }
  }

  void lay_out_outputs() {
    for (const Value v : graph_.outputs()) {
      const std::size_t bytes = graph_.type(v).bytes();
      outputs_.push_back({output_bytes_, bytes});
      output_bytes_ += round_up(bytes, kPlanAlignment);
    }
  }

  std::byte* address(const Node& node, Value v, const Bindings& bindings) const {
    const std::uint32_t root = plan_.root[v.id];
    if (root != v.id) return addresses_[root];
    if (const auto* op = std::get_if<ops::Input>(&node.op)) return device_inputs_->data() + inputs_.at(op->name).offset;
    if (const auto* op = std::get_if<ops::State>(&node.op)) {
      TensorType least = graph_.type(v);
      if (least.shape.dynamic()) least.shape[0] = 1;
      return leaf(bindings.state(op->name), least.bytes(), node);
    }
    if (std::holds_alternative<ops::Parameter>(node.op))
      return leaf(bindings.parameter(node.name), graph_.type(v).bytes(), node);
    return arena_->data() + plan_.slots[v.id].offset;
  }
  static std::byte* leaf(Buffer& buffer, std::size_t least, const Node& node) {
    DeviceBuffer& ours = device_buffer(&buffer);
    CAJAL_CHECK(ours.bytes() >= least, node.name);
    return ours.data();
  }

  std::byte* keep(std::size_t bytes) {
    if (kept_count_ == kept_.size()) {
      kept_.push_back(std::make_unique<DeviceBuffer>(stream_, bytes));
      check(cudaMemsetAsync(kept_.back()->data(), 0xff, bytes, stream_.get()), "preparing memory");
    }
    const DeviceBuffer& kept = *kept_[kept_count_++];
    CAJAL_CHECK(kept.bytes() == bytes);
    return kept.data();
  }

  bool is_short(const StepRows& rows) {
    if (!short_steps_) return false;
    const auto* positions = reinterpret_cast<const std::int32_t*>(input(short_steps_->positions).data());
    std::int64_t blocks = 0;
    for (std::int64_t i = 0; i < rows.num_tokens; ++i) blocks += positions[i] / short_steps_->block_size + 1;
    return blocks * short_steps_->units <= short_steps_->most_blocks;
  }

  void fill_hidden_inputs(const StepRows& rows) {
    const StepHeader header{static_cast<std::int32_t>(rows.num_tokens), static_cast<std::int32_t>(rows.num_logits),
                            static_cast<std::int32_t>(serial_ & 1)};
    std::memcpy(host_inputs_->span().data(), &header, sizeof header);
    for (auto& f : row_frequencies_) {
      const std::span<std::byte> lengths = input(f.lengths),
                                 into = host_inputs_->span().subspan(f.at.offset, f.at.bytes);
      f.frequencies.fill(
          {reinterpret_cast<const std::int32_t*>(lengths.data()), static_cast<std::size_t>(rows.num_tokens)},
          {reinterpret_cast<float*>(into.data()), into.size() / sizeof(float)});
    }
  }

  void upload_inputs() const {
    check(cudaMemcpyAsync(device_inputs_->data(), host_inputs_->span().data(), host_inputs_->span().size(),
                          cudaMemcpyHostToDevice, stream_.get()),
          "uploading a step's inputs");
  }
  void run(const Launch& launch) const {
    launch.run(stream_.get());
    check(cudaGetLastError(), kernel_names_[launch.node]);
  }

  // Pinned memory has the same address everywhere: kernels read and write it where it is.
  void choose() {
    const Value v = graph_.outputs()[*chosen_output_];
    const TensorType& type = graph_.type(v);
    const auto* header = reinterpret_cast<const StepHeader*>(device_inputs_->data());
    choose_tokens({.logits = addresses_[v.id],
                   .sampling = sampling().data(),
                   .choices = reinterpret_cast<RowChoice*>(choices_->span().data()),
                   .rows = {static_cast<std::int32_t>(type.shape[0]), &header->num_logits, 1},
                   .vocab_size = static_cast<std::int32_t>(type.shape[1]),
                   .element = type.dtype == DType::bf16 ? Element::bf16 : Element::f32},
                  options_.sm, stream_.get());
    check(cudaGetLastError(), "choosing tokens");
  }

  // The rows that the step has, and no more.
  void download_output(std::size_t i, const StepRows& rows) const {
    const Value v = graph_.outputs()[i];
    const std::int64_t count = kinds_[v.id] == RowKind::tokens ? rows.num_tokens : rows.num_logits;
    const auto of = static_cast<std::size_t>(graph_.type(v).shape[0]);
    const std::size_t bytes = outputs_[i].bytes / of * std::min(of, static_cast<std::size_t>(count));
    if (bytes == 0) return;
    check(cudaMemcpyAsync(arena_->outputs().data() + outputs_[i].offset, addresses_[v.id], bytes,
                          cudaMemcpyDeviceToHost, stream_.get()),
          "downloading a step's results");
  }

  // One launch after the other, each between events.
  void run_timed(const std::vector<Launch>& launches) {
    std::vector<const Launch*> timed;
    for (const Launch& launch : launches) {
      if (launch.apart.empty()) timed.push_back(&launch);
      for (const Launch& one : launch.apart) timed.push_back(&one);
    }
    if (timings_.empty())
      for (const Launch* launch : timed) timings_.push_back({launch->node});
    upload_inputs();
    const CudaEvent before(cudaEventDefault), after(cudaEventDefault);
    for (std::size_t i = 0; i < timed.size(); ++i) {
      check(cudaEventRecord(before.get(), stream_.get()), "profiling");
      run(*timed[i]);
      check(cudaEventRecord(after.get(), stream_.get()), "profiling");
      check(cudaEventSynchronize(after.get()), kernel_names_[timed[i]->node]);
      float milliseconds = 0;
      check(cudaEventElapsedTime(&milliseconds, before.get(), after.get()), "profiling");
      timings_[i].seconds += static_cast<double>(milliseconds) * 1e-3;
      ++timings_[i].calls;
    }
    if (chosen_output_) choose();
  }

  struct RowFrequencyInput {
    RowFrequencies frequencies;
    std::string lengths;  // the input that they depend on
    Extent at;
  };

  Graph graph_;
  const Stream& stream_;
  KernelOptions options_;
  MemoryPlan plan_;
  std::vector<std::string> kernel_names_;
  std::vector<RowKind> kinds_;
  StepRows max_rows_;
  std::map<std::string, Extent, std::less<>> inputs_;
  std::map<const ops::RotaryTable*, Extent> frequencies_;
  std::vector<RowFrequencyInput> row_frequencies_;
  std::unique_ptr<PinnedMemory> host_inputs_;
  std::unique_ptr<DeviceBuffer> device_inputs_;
  std::vector<Extent> outputs_;  // in the arena's host memory
  std::size_t output_bytes_ = 0;
  std::optional<std::size_t> chosen_output_;  // whose tokens are chosen here
  std::unique_ptr<PinnedMemory> sampling_, choices_;
  std::mutex output_mutex_;
  std::optional<std::size_t> stays_;  // the output of the last launch that is on the device alone
  StepRows last_rows_;
  DeviceBuffer* arena_ = nullptr;
  std::vector<std::unique_ptr<DeviceBuffer>> kept_;  // beside the arena, for what must outlive a step
  std::size_t kept_count_ = 0;                       // of those that the launches being made have asked for
  std::vector<std::byte*> addresses_;                // by value
  std::optional<ShortSteps> short_steps_;
  std::array<Way, 2> ways_;  // of all steps; of short ones
  std::shared_ptr<CudaEvent> done_;
  std::uint64_t serial_ = 0;
  bool profiling_ = false;
  std::vector<NodeTiming> timings_;  // by launch
};

}  // namespace

std::unique_ptr<Executable> make_executable(const Graph& graph, const Stream& stream, const KernelOptions& options) {
  return std::make_unique<CudaExecutable>(graph, stream, options);
}

}  // namespace cajal::cuda
