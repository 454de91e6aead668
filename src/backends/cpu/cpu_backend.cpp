#include "backends/cpu/cpu_backend.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "backends/cpu/cpu_target.h"
#include "backends/cpu/head_chooser.h"
#include "backends/cpu/isa.h"
#include "backends/cpu/program.h"
#include "backends/cpu/shard_sampler.h"
#include "base/checked.h"
#include "compiler/passes.h"
#include "distributed/ranks.h"
#include "tensor/pack.h"

namespace cajal::cpu {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kAddressSpace = std::size_t{1} << 47;  // nothing that is larger can be mapped

// Anonymous pages: zero until touched, so that memory that is planned but never used costs nothing; huge ones where the
// system has them, since weights are read from end to end.
class Mapping {
 public:
  explicit Mapping(std::size_t bytes)
      : mapped_(round_up(std::clamp<std::size_t>(bytes, 1, kAddressSpace), kHugePage) + kHugePage) {
    void* at = MAP_FAILED;
    if (bytes < kAddressSpace)
      at = ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
      fail(ErrorCode::out_of_memory, "cannot take ", bytes, " bytes of memory",
           remedy("free memory, or lower --max-model-len or the number of sequences"));
    base_ = static_cast<std::byte*>(at);
    data_ = reinterpret_cast<std::byte*>(round_up(reinterpret_cast<std::uintptr_t>(base_), std::uintptr_t{kHugePage}));
    if (bytes >= kHugePage)
      ::madvise(data_, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);  // no huge page for the rest
  }
  ~Mapping() { ::munmap(base_, mapped_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::byte* data() const { return data_; }

 private:
  std::size_t mapped_;
  std::byte *base_ = nullptr, *data_ = nullptr;
};

// Memory of its own, or a part of a mapping that is shared with other buffers and lives as long as any of them.
class HostBuffer final : public Buffer {
 public:
  explicit HostBuffer(std::size_t bytes) : HostBuffer(std::make_shared<Mapping>(bytes), 0, bytes) {}
  HostBuffer(std::shared_ptr<Mapping> mapping, std::size_t offset, std::size_t bytes)
      : mapping_(std::move(mapping)), bytes_(bytes), data_(mapping_->data() + offset) {}

  std::size_t bytes() const override { return bytes_; }
  void upload(std::span<const std::byte> from, std::size_t offset) override {
    CAJAL_CHECK(offset <= bytes_ && from.size() <= bytes_ - offset);
    std::copy(from.begin(), from.end(), data_ + offset);
  }
  void download(std::span<std::byte> to, std::size_t offset) const override {
    CAJAL_CHECK(offset <= bytes_ && to.size() <= bytes_ - offset);
    std::copy_n(data_ + offset, to.size(), to.begin());
  }
  void copy_within(std::size_t from, std::size_t to, std::size_t count) override {
    CAJAL_CHECK(count <= bytes_ && from <= bytes_ - count && to <= bytes_ - count);
    std::copy_n(data_ + from, count, data_ + to);
  }
  std::span<std::byte> host_view() override { return {data_, bytes_}; }

 private:
  std::shared_ptr<Mapping> mapping_;
  std::size_t bytes_;
  std::byte* data_;
};

// Buffers of a few megabytes, as most matrices are, lie behind one another in mappings of huge pages: each in one of its own
// would have its end, or all of it, in small pages, which are read a fifth slower. No part is used again while the mapping
// lives, so all of it is zero when it is handed out.
class BufferPool {
 public:
  std::unique_ptr<Buffer> allocate(std::size_t bytes) {
    if (bytes < kLeast || bytes > kMost) return std::make_unique<HostBuffer>(bytes);
    const std::lock_guard lock(mutex_);
    if (!mapping_ || bytes > kMapping - used_) {
      mapping_ = std::make_shared<Mapping>(kMapping);
      used_ = 0;
    }
    const std::size_t offset = used_;
    used_ += round_up(bytes, kAlignment);
    return std::make_unique<HostBuffer>(mapping_, offset, bytes);
  }

 private:
  static constexpr std::size_t kLeast = std::size_t{64} << 10, kMost = std::size_t{16} << 20;
  static constexpr std::size_t kMapping = std::size_t{64} << 20, kAlignment = 4096;
  std::mutex mutex_;
  std::shared_ptr<Mapping> mapping_;  // the one that is being filled
  std::size_t used_ = 0;
};

// Memory of someone else that is only read.
class ReadOnlyBuffer final : public Buffer {
 public:
  explicit ReadOnlyBuffer(std::span<const std::byte> memory) : memory_(memory) {}

  std::size_t bytes() const override { return memory_.size(); }
  void upload(std::span<const std::byte>, std::size_t) override { CAJAL_CHECK(false, "written to what is only read"); }
  void download(std::span<std::byte> to, std::size_t offset) const override {
    CAJAL_CHECK(offset <= memory_.size() && to.size() <= memory_.size() - offset);
    std::copy_n(memory_.data() + offset, to.size(), to.begin());
  }
  void copy_within(std::size_t, std::size_t, std::size_t) override {
    CAJAL_CHECK(false, "written to what is only read");
  }
  // Kernels take parameters as they take all else, and write to none.
  std::span<std::byte> host_view() override { return {const_cast<std::byte*>(memory_.data()), memory_.size()}; }

 private:
  std::span<const std::byte> memory_;
};

class CpuExecutable final : public Executable {
 public:
  // The sketch of a weight, where there is to be one; else null.
  using SketchOf = std::function<std::shared_ptr<HeadSketch>(const TensorType& type, const std::byte* weight)>;

  CpuExecutable(const Graph& graph, const Machine& machine, ThreadPool& pool, SketchOf sketch_of)
      : graph_(graph), machine_(machine), pool_(pool), sketch_of_(std::move(sketch_of)) {
    check_ranks(graph_, machine.ranks);
    Selection selection = select_kernels(graph_, machine.isa, pool.size());
    kernel_names_ = std::move(selection.kernel_names);
    max_rows_ = selection.max_rows;
    plan_ = plan_memory(graph_, sequential_schedule(graph_), selection.scratch_bytes);
    std::size_t input_bytes = 0;
    for (const Node& node : graph_.nodes()) {
      const auto* input = std::get_if<ops::Input>(&node.op);
      if (!input) continue;
      const std::size_t bytes = graph_.type(node.results[0]).bytes();
      inputs_[input->name] = {input_bytes, bytes};
      input_bytes += round_up(bytes, kPlanAlignment);
    }
    input_memory_ = std::make_unique<HostBuffer>(input_bytes);
  }

  const Graph& graph() const override { return graph_; }
  const MemoryPlan& plan() const override { return plan_; }
  std::vector<std::string> kernel_names() const override {
    std::vector<std::string> names = kernel_names_;
    if (choosing_bytes(1)) names[*head_] = "head_sketch_avx512_vnni";
    return names;
  }

  void bind(const Bindings& bindings) override {
    CAJAL_CHECK(bindings.arena && bindings.arena->bytes() >= plan_.arena_bytes);
    addresses_.assign(graph_.num_values(), nullptr);
    std::byte* arena = bindings.arena->host_view().data();
    for (const Node& node : graph_.nodes())
      for (const Value v : node.results) addresses_[v.id] = address(node, v, bindings, arena);
    steps_ = lower(
        graph_, machine_, [this](Value v) { return addresses_[v.id]; },
        [&](std::uint32_t n) { return arena + plan_.scratch[n].offset; });
    const auto gathers = [this](const Step& step) { return gathered_ && step.node >= gathered_->node; };
    first_after_choice_ =
        static_cast<std::size_t>(std::find_if(steps_.begin(), steps_.end(), gathers) - steps_.begin());
    chooser_.reset();
    if (head_) bind_chooser();
    find_upcoming();
    bound_ = true;
  }

  std::span<std::byte> input(std::string_view name) override {
    const auto it = inputs_.find(name);
    CAJAL_CHECK(it != inputs_.end(), "no input '", name, "'");
    return input_memory_->host_view().subspan(it->second.first, it->second.second);
  }

  Event launch(const StepRows& rows) override {
    CAJAL_CHECK(bound_, "launch before bind");
    CAJAL_CHECK(rows.num_tokens <= max_rows_.num_tokens && rows.num_logits <= max_rows_.num_logits, rows.num_tokens,
                " rows and ", rows.num_logits, " of logits in a bucket of ", max_rows_.num_tokens, " and ",
                max_rows_.num_logits);
    const RunContext context{pool_, rows};
    run(0, first_after_choice_, context);
    if (!choose(rows)) run(first_after_choice_, steps_.size(), context);
    return {++serial_};
  }
  void wait(Event event) override { CAJAL_CHECK(event.serial <= serial_); }

  void set_profiling(bool on) override {
    if (on) timings_.clear();
    profiling_ = on;
  }
  std::vector<NodeTiming> timings() const override { return timings_; }

  // Where every rank has a share of the vocabulary, or a sketch says that few logits matter: else the host does it as well.
  bool choose_from(std::size_t index) override {
    if (!machine_.ranks) {
      head_ = find_head(graph_, graph_.outputs()[index], machine_.isa);
      return head_.has_value();
    }
    gathered_ = find_gathered(graph_, graph_.outputs()[index]);
    if (!gathered_) return false;
    const TensorType& shard = graph_.type(gathered_->shard);
    const VocabularyShares shares{graph_.type(graph_.outputs()[index]).shape[1], shard.shape[1], shard.dtype};
    sampler_.emplace(*machine_.ranks->tensor, shares, shard.shape[0]);
    return true;
  }
  std::span<RowSampling> sampling() override {
    if (chooser_) return chooser_->sampling();
    return sampler_ ? sampler_->sampling() : std::span<RowSampling>();
  }
  std::span<const RowChoice> choices() const override {
    if (chooser_) return chooser_->choices();
    return sampler_ ? sampler_->choices() : std::span<const RowChoice>();
  }

  std::optional<std::uint64_t> choosing_bytes(std::int64_t num_logits) const override {
    return chooser_ ? chooser_->bytes_at_least(num_logits) : std::nullopt;
  }

  std::span<const std::byte> output(std::size_t index) override {
    const Value v = graph_.outputs()[index];
    return {addresses_[v.id], graph_.type(v).bytes()};
  }

 private:
  // Logits that are gathered at the end of a graph: this rank's share of them, and the first node that is only there to
  // bring them together.
  struct Gathered {
    Value shard;
    std::uint32_t node = 0;
  };
  static std::optional<Gathered> find_gathered(const Graph& graph, Value output) {
    std::uint32_t node = graph.producer(output), last = static_cast<std::uint32_t>(graph.nodes().size()) - 1;
    if (node != last) return std::nullopt;
    if (const auto* slice = std::get_if<ops::Slice>(&graph.node(node).op); slice && slice->begin == 0)
      node = graph.producer(graph.node(node).inputs[0]);
    const auto* gather = std::get_if<ops::AllGather>(&graph.node(node).op);
    if (!gather || gather->dim != 1 || gather->group != RankGroup::tensor || node + 1 < last) return std::nullopt;
    return Gathered{graph.node(node).inputs[0], node};
  }

  // The node that makes the logits, if it is the last one and a product with a weight that a sketch pays for.
  static std::optional<std::uint32_t> find_head(const Graph& graph, Value output, std::uint32_t isa) {
    const std::uint32_t node = graph.producer(output);
    const auto* linear = std::get_if<ops::Linear>(&graph.node(node).op);
    if (!linear || linear->partial || node + 1 != graph.nodes().size() || graph.node(node).inputs.size() != 2)
      return std::nullopt;
    const Value weight = graph.node(node).inputs[1];
    const bool is_parameter = std::holds_alternative<ops::Parameter>(graph.producer_node(weight).op);
    return is_parameter && HeadSketch::pays_for(graph.type(weight), isa) ? std::optional(node) : std::nullopt;
  }

  void bind_chooser() {
    const Value weight = graph_.node(*head_).inputs[1];
    const Step& step = steps_.back();
    CAJAL_CHECK(step.node == *head_);
    auto sketch = sketch_of_(graph_.type(weight), addresses_[weight.id]);
    if (!sketch) return;
    HeadProduct product{graph_.type(weight), nullptr, {}};
    std::memcpy(&product.args, step.args.data(), sizeof product.args);
    for (const LinearKernel& kernel : linear_kernels())
      if (step.name == kernel.name) product.kernel = &kernel;
    CAJAL_CHECK(product.kernel != nullptr);
    chooser_.emplace(std::move(sketch), product, max_rows_.num_logits, pool_.size());
    first_after_choice_ = steps_.size() - 1;
  }

  // Tokens of a step whose logits are not made or not gathered yet; whether they need not be.
  bool choose(const StepRows& rows) {
    if (chooser_) return choose_by_sketch(rows);
    if (!sampler_) return false;
    const auto wanted = sampler_->sampling().first(static_cast<std::size_t>(rows.num_logits));
    if (std::all_of(wanted.begin(), wanted.end(), [](const RowSampling& s) { return s.how == ChooseHow::on_host; }))
      return false;
    return sampler_->choose(rows.num_logits, addresses_[gathered_->shard.id], pool_) && rows.all_chosen;
  }

  bool choose_by_sketch(const StepRows& rows) {
    if (!rows.all_chosen) return chooser_->choose_nothing(), false;
    pool_.expect({});
    const auto start = std::chrono::steady_clock::now();
    const bool chosen = chooser_->choose(rows, pool_);
    if (profiling_ && chosen) add_time(steps_.size() - 1, start);
    return chosen;
  }

  void run(std::size_t begin, std::size_t end, const RunContext& context) {
    if (profiling_) return run_timed(begin, end, context);
    for (std::size_t i = begin; i < end; ++i) run_step(i, context);
  }

  void run_step(std::size_t i, const RunContext& context) {
    // More rows than these find their weights in a cache, but for the first ones.
    constexpr std::int64_t kFewRows = 8;
    const bool few = context.rows.num_tokens <= kFewRows;
    pool_.expect(few ? upcoming(i) : ThreadPool::Upcoming{});
    steps_[i].call(steps_[i], context);
  }

  // The weight of the next product behind a step.
  ThreadPool::Upcoming upcoming(std::size_t i) const {
    const bool head = chooser_ && upcoming_[i].first == addresses_[graph_.node(*head_).inputs[1].id];
    return head ? chooser_->upcoming() : upcoming_[i];
  }

  void find_upcoming() {
    upcoming_.assign(steps_.size(), {});
    ThreadPool::Upcoming next;
    for (std::size_t i = steps_.size(); i-- > 0;) {
      upcoming_[i] = next;
      const Node& node = graph_.node(steps_[i].node);
      if (!std::holds_alternative<ops::Linear>(node.op)) continue;
      const TensorType& weight = graph_.type(node.inputs[1]);
      const std::int64_t tiles = std::max<std::int64_t>(ceil_div(weight.shape[0], rows_per_tile(weight)), 1);
      next = {addresses_[node.inputs[1].id], tiles, static_cast<std::int64_t>(weight.bytes()) / tiles};
    }
  }

  void run_timed(std::size_t begin, std::size_t end, const RunContext& context) {
    if (timings_.empty())
      for (const Step& step : steps_) timings_.push_back({step.node});
    for (std::size_t i = begin; i < end; ++i) {
      const auto start = std::chrono::steady_clock::now();
      run_step(i, context);
      add_time(i, start);
    }
  }

  void add_time(std::size_t step, std::chrono::steady_clock::time_point start) {
    timings_[step].seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    ++timings_[step].calls;
  }

  std::byte* address(const Node& node, Value v, const Bindings& bindings, std::byte* arena) {
    const std::uint32_t root = plan_.root[v.id];
    if (root != v.id) return addresses_[root];
    if (const auto* op = std::get_if<ops::Input>(&node.op)) return input(op->name).data();
    if (const auto* op = std::get_if<ops::State>(&node.op)) {
      Buffer& buffer = bindings.state(op->name);
      TensorType least = graph_.type(v);
      if (least.shape.dynamic()) least.shape[0] = 1;
      CAJAL_CHECK(buffer.bytes() >= least.bytes(), node.name);
      return buffer.host_view().data();
    }
    if (std::holds_alternative<ops::Parameter>(node.op)) {
      Buffer& buffer = bindings.parameter(node.name);
      CAJAL_CHECK(buffer.bytes() >= graph_.type(v).bytes(), node.name);
      return buffer.host_view().data();
    }
    return arena + plan_.slots[v.id].offset;
  }

  Graph graph_;
  Machine machine_;
  ThreadPool& pool_;
  MemoryPlan plan_;
  std::vector<std::string> kernel_names_;
  StepRows max_rows_;
  bool bound_ = false;
  std::map<std::string, std::pair<std::size_t, std::size_t>, std::less<>> inputs_;  // name -> offset, bytes
  std::unique_ptr<HostBuffer> input_memory_;
  std::vector<std::byte*> addresses_;  // by value
  std::vector<Step> steps_;
  std::vector<ThreadPool::Upcoming> upcoming_;  // by step
  SketchOf sketch_of_;
  std::optional<std::uint32_t> head_;   // the node whose logits tokens are chosen of
  std::optional<HeadChooser> chooser_;  // if there is a sketch of its weight
  std::optional<Gathered> gathered_;
  std::optional<ShardSampler> sampler_;
  // Of steps_: from there on they make the logits, or bring the shares of gathered_ together.
  std::size_t first_after_choice_ = 0;
  std::uint64_t serial_ = 0;
  bool profiling_ = false;
  std::vector<NodeTiming> timings_;  // by step
};

class CpuBackend final : public Backend {
 public:
  CpuBackend(std::uint32_t isa, const BackendOptions& options)
      : isa_(isa),
        target_(make_cpu_target(isa)),
        ranks_(options.ranks),
        ranks_here_(static_cast<std::size_t>(options.ranks_here)),
        head_sketch_(options.head_sketch && HeadSketch::wanted()),
        pool_(options.num_threads > 0 ? options.num_threads : available_cores()) {}

  std::string name() const override { return "cpu"; }
  std::string description() const override {
    return detail::join("cpu (", isa_name(isa_), ", ", pool_.size(), pool_.size() == 1 ? " thread)" : " threads)");
  }
  std::size_t free_bytes() const override;
  std::unique_ptr<Buffer> allocate(std::size_t bytes) override { return memory_.allocate(bytes); }
  std::unique_ptr<Buffer> adopt(std::span<const std::byte> memory) override {
    return std::make_unique<ReadOnlyBuffer>(memory);
  }
  const RankGroups* ranks() const override { return ranks_; }
  ThreadPool& host_threads() override { return pool_; }

  std::string target() const override { return target_->name(); }
  Graph prepare(const Graph& graph) const override { return target_->prepare(graph); }

  std::unique_ptr<Executable> compile(const Graph& prepared) override {
    return std::make_unique<CpuExecutable>(
        inline_regions(prepared, has_region_kernel), Machine{isa_, ranks_}, pool_,
        [this](const TensorType& type, const std::byte* weight) { return sketch_of(type, weight); });
  }

 private:
  // One for all executables that read the weight. Its memory is taken when it is made.
  std::shared_ptr<HeadSketch> sketch_of(const TensorType& type, const std::byte* weight) {
    if (!head_sketch_) return nullptr;
    auto& known = sketches_[weight];
    if (auto sketch = known.lock()) return sketch;
    constexpr std::size_t kShareOfFree = 4;
    const auto bytes = static_cast<std::size_t>(HeadSketch::layout_of(type).bytes());
    if (bytes > free_bytes() / kShareOfFree) return nullptr;
    auto sketch = std::make_shared<HeadSketch>(type, std::make_unique<HostBuffer>(bytes));
    known = sketch;
    return sketch;
  }

  std::uint32_t isa_;
  std::unique_ptr<Target> target_;
  const RankGroups* ranks_;
  std::size_t ranks_here_;
  bool head_sketch_;
  BufferPool memory_;
  std::map<const std::byte*, std::weak_ptr<HeadSketch>> sketches_;  // by the weight's address
  ThreadPool pool_;
};

// What the system calls available, lowered by a cgroup's limit.
std::size_t CpuBackend::free_bytes() const {
  std::size_t free =
      static_cast<std::size_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  std::string word;
  std::ifstream info("/proc/meminfo");
  while (info >> word)
    if (std::size_t kilobytes = 0; word == "MemAvailable:" && info >> kilobytes) free = kilobytes * 1024;
  std::size_t limit = 0, used = 0;
  if (std::ifstream("/sys/fs/cgroup/memory.max") >> limit && std::ifstream("/sys/fs/cgroup/memory.current") >> used)
    free = std::min(free, limit > used ? limit - used : 0);
  return free / ranks_here_;
}

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options) {
  const std::uint32_t here = detect_isa();
  if (options.target.empty()) return std::make_unique<CpuBackend>(here, options);
  const std::string own = make_cpu_target(here)->name();
  if (!is_cpu_target(options.target)) fail_other_target(options.target, own);
  const std::uint32_t isa = isa_of_target(options.target);
  if ((isa & ~here) != 0) fail_other_target(options.target, own);
  return std::make_unique<CpuBackend>(isa, options);
}

}  // namespace cajal::cpu
