// From nodes to launches: for each op its kernel, the scratch that it needs, and its arguments.
#include <algorithm>
#include <map>
#include <set>

#include "backends/cuda/decode_chain.h"
#include "backends/cuda/kernels/attention.h"
#include "backends/cuda/kernels/attention_decode.h"
#include "backends/cuda/kernels/elementwise.h"
#include "backends/cuda/kernels/linear.h"
#include "backends/cuda/kernels/moe.h"
#include "backends/cuda/kernels/moe_route.h"
#include "backends/cuda/moe_chain.h"
#include "backends/cuda/moe_layout.h"
#include "backends/cuda/program.h"
#include "base/checked.h"
#include "compiler/passes.h"

namespace cajal::cuda {

std::vector<RowKind> row_kinds(const Graph& graph) {
  std::vector<RowKind> kinds(graph.num_values(), RowKind::tokens);
  for (const Node& node : graph.nodes()) {
    RowKind kind = RowKind::tokens;
    if (std::holds_alternative<ops::Input>(node.op))
      kind = node.name == "logits_indices" ? RowKind::logits : RowKind::tokens;
    else if (std::holds_alternative<ops::Embedding>(node.op) || std::holds_alternative<ops::GatherRows>(node.op))
      kind = kinds[node.inputs[1].id];
    else if (!node.inputs.empty())
      kind = kinds[node.inputs[0].id];
    for (const Value v : node.results) kinds[v.id] = kind;
  }
  return kinds;
}

bool row_frequencies(const ops::RotaryTable& op) { return op.original_length > 0; }

namespace {

constexpr std::int64_t kLargeLayer = std::int64_t{128} << 20;

std::int32_t narrow(std::int64_t n) { return checked_cast<std::int32_t>(n, "a size on the device"); }

Tile tile_of(const TensorType& t) {
  const auto* packed = std::get_if<Packed>(&t.storage);
  return packed ? Tile{packed->rows, packed->group} : Tile{};
}

// Rows of the kernels that work row by row for each row of the step: heads, where each is normalised by itself.
std::int64_t rows_per_row(const Shape& shape) {
  std::int64_t rows = 1;
  for (int i = 1; i + 1 < shape.rank(); ++i) rows *= shape[i];
  return rows;
}

// Visits one node: picks its kernel and, where the places are known, makes its launch.
class Lowering {
 public:
  Lowering(const Graph& graph, const KernelOptions& options, bool short_step)
      : graph_(graph), sm_(options.sm), short_step_(short_step), kinds_(row_kinds(graph)) {
    if (options.decode_chain && sm_ == 90) decode_ = find_decode_chain(graph);
    if (sm_ == 90) moe_chains_ = MoeChains(graph);
    find_joined_attention();
  }
  void with_memory(const Places& places) {
    places_ = &places;
    if (decode_) chain_launches_ = chain_launches(*decode_, places, short_step_ ? short_bytes_ : 0);
  }

  // What steps may be short, once for all layers.
  void find_short_steps() {
    const bool beside = decode_ ? leaves_room(*decode_, short_bytes_) : !moe_chains_.empty();
    if (joined_attention_.empty() || !beside) return;
    // Large layers lose more by a chain's shorter ring than they gain once attention does two blocks after each other.
    const bool large = decode_ && decode_->layer_bytes() > kLargeLayer;
    ShortSteps steps{.most_blocks = most_short_blocks() / (large ? kBlocksEach : 1)};
    for (const auto& [attention, region] : joined_attention_) {
      const Node& node = graph_.node(attention);
      const AttentionShape shape = attention_shape(node);
      const auto* positions = std::get_if<ops::Input>(&graph_.producer_node(node.inputs[5]).op);
      if (!positions) return;
      CAJAL_CHECK(steps.positions.empty() || steps.positions == positions->name);
      steps.positions = positions->name, steps.block_size = shape.block_size;
      steps.units = std::max<std::int64_t>(steps.units, attention_units(shape));
    }
    selection.short_steps = std::move(steps);
  }
  void run() {
    find_rows();
    find_routes();
    for (index_ = 0; index_ < graph_.nodes().size(); ++index_) {
      node_ = &graph_.node(index_);
      selection.kernel_names.emplace_back();
      selection.scratch_bytes.push_back(0);
      if (const auto launch = decode_ ? decode_->launch_of(index_) : std::nullopt)
        chained(*launch);
      else if (const MoeChain* chain = moe_chains_.of(index_))
        run_moe_chain(*chain);
      else
        std::visit(*this, node_->op);
    }
  }

  std::vector<Launch> launches;
  Selection selection;

  void operator()(const ops::Input&) {}
  void operator()(const ops::State&) {}
  void operator()(const ops::Parameter&) {}
  void operator()(const ops::Reshape&) {}  // the same memory

  void operator()(const ops::Embedding& op) {
    if (op.partial) no_ranks();
    const TensorType& table = type(0);
    emit("embedding", embedding, [&] {
      return EmbeddingArgs{in(0), ints(1), out(0), rows_of(1), table.shape[1], tile_of(table), element(table)};
    });
  }
  void operator()(const ops::Linear& op) {
    if (routes_.contains(index_)) return;  // the router makes it
    if (op.partial) no_ranks();
    const TensorType &x = type(0), &weight = type(1);
    LinearArgs a{};
    a.in_features = narrow(weight.shape[1]), a.out_features = narrow(weight.shape[0]);
    a.sum_parts = op.sum_parts, a.element = element(x), a.rows = rows_of(0);
    check_parts(op.sum_parts);
    const auto [name, kernel] = linear_kernel(a);
    emit(name, kernel, [&] {
      a.x = in(0), a.weight = in(1), a.bias = node_->inputs.size() == 3 ? in(2) : nullptr, a.y = out(0);
      return a;
    });
  }
  void operator()(const ops::RmsNorm& op) {
    const TensorType& x = type(0);
    emit("rms_norm", rms_norm, [&] {
      return RmsNormArgs{
          in(0),      nullptr,   in(1), nullptr, out(0), rows_of(0, rows_per_row(x.shape)), narrow(x.shape[-1]),
          op.epsilon, element(x)};
    });
  }
  void operator()(const ops::RotaryTable& op) {
    const std::int64_t half = graph_.type(node_->results[0]).shape[2];
    emit("rotary_table", rotary_table, [&] {
      return RotaryTableArgs{.positions = ints(0),
                             .inv_freq = places_->frequencies(op),
                             .row_frequencies = row_frequencies(op),
                             .y = out(0),
                             .rows = rows_of(0),
                             .columns = narrow(2 * half),
                             .attention_scaling = op.attention_scaling,
                             .element = element(graph_.type(node_->results[0]))};
    });
  }
  void operator()(const ops::Rope&) {
    const TensorType& x = type(0);
    emit("rope", rope, [&] {
      return RopeArgs{in(0), in(1), out(0), rows_of(0), narrow(x.shape[1]), narrow(x.shape[2]), element(x)};
    });
  }
  void operator()(const ops::SiluMul&) {
    const TensorType& x = type(0);
    emit("silu_mul", silu_mul, [&] {
      return SiluMulArgs{in(0), in(1), out(0), rows_of(0, rows_per_row(x.shape)), x.shape[-1], x.shape[-1], element(x)};
    });
  }
  void operator()(const ops::Add&) {
    const TensorType& x = type(0);
    emit("add", add,
         [&] { return AddArgs{in(0), in(1), out(0), rows_of(0, rows_per_row(x.shape)), x.shape[-1], element(x)}; });
  }
  void operator()(const ops::Slice& op) {
    const TensorType& x = type(0);
    emit("slice", slice, [&] {
      return SliceArgs{in(0),    out(0),    rows_of(0, rows_per_row(x.shape)), op.end - op.begin, x.shape[-1],
                       op.begin, element(x)};
    });
  }
  void operator()(const ops::KvWrite&) {
    const TensorType &cache = type(0), &x = type(1);
    emit("kv_write", kv_write, [&] {
      return KvWriteArgs{
          in(0),     in(1), ints(2), rows_of(1), narrow(x.shape[1]), narrow(x.shape[2]), narrow(cache.shape[2]),
          element(x)};
    });
  }
  void operator()(const ops::PagedAttention& op) {
    element(type(0));
    const AttentionShape shape = attention_shape(*node_);
    if (shape.head_dim > kMaxHeadDim) no_kernel();
    const AttentionKernel kernel = attention_kernel(shape);
    selection.scratch_bytes.back() = kernel.scratch_bytes;
    const auto args = [&] {
      return AttentionArgs{.q = in(0),
                           .k_cache = in(1),
                           .v_cache = in(2),
                           .block_tables = ints(3),
                           .seq_indices = ints(4),
                           .positions = ints(5),
                           .y = out(0),
                           .scratch = reinterpret_cast<float*>(scratch()),
                           .rows = rows_of(0),
                           .num_heads = shape.num_heads,
                           .num_kv_heads = shape.num_kv_heads,
                           .head_dim = shape.head_dim,
                           .block_size = shape.block_size,
                           .max_blocks_per_seq = shape.max_blocks_per_seq,
                           .sliding_window = op.sliding_window,
                           .scale = op.scale,
                           .element = shape.element};
    };
    const auto joined = joined_attention_.find(index_);
    if (joined == joined_attention_.end()) return emit(kernel.name, kernel.run, args);
    const Node& before = graph_.node(joined->second);
    for (const Value v : before.inputs) selection.late_reads.push_back({v, index_});
    emit("attention_decode", short_step_ ? attention_short : attention_decode, [&] {
      return AttentionDecodeArgs{qk_norm_rope_kv_write_args(before), args(), attention_slots()};
    });
  }
  void operator()(const ops::Router& op) {
    const TensorType& x = type(0);
    if (x.shape[1] > kMaxExperts) no_kernel();
    if (op.capacity_factor > 0)
      fail(ErrorCode::unsupported, node_->name, ": the CUDA backend has no experts of a capacity",
           remedy("run without --capacity-factor, or with --device cpu"));
    const auto args = [&] {
      return RouterArgs{in(0),
                        out(0),
                        reinterpret_cast<std::int32_t*>(out(1)),
                        rows_of(0),
                        narrow(x.shape[1]),
                        op.top_k,
                        op.norm_topk_prob,
                        element(x)};
    };
    if (!routes_.contains(graph_.producer(node_->inputs[0]))) return emit("router", router, args);
    const auto& inputs = graph_.producer_node(node_->inputs[0]).inputs;
    emit("moe_route", moe_route, [&] {
      return MoeRouteArgs{places_->at(inputs[0]), places_->at(inputs[1]), args(),
                          narrow(graph_.type(inputs[0]).shape[1])};
    });
  }
  void operator()(const ops::MoeExperts& op) {
    const TensorType &x = type(0), &ids = type(2), &down = type(4);
    check_parts(op.sum_parts);
    if (down.shape[0] > kMaxExperts) no_kernel();
    const MoeShape shape{element(x),         narrow(x.shape[0]),    narrow(down.shape[0]),
                         narrow(x.shape[1]), narrow(down.shape[2]), narrow(ids.shape[1]),
                         op.sum_parts};
    const MoeWay way = moe_way(shape, sm_);
    selection.scratch_bytes.back() = moe_scratch(shape, way).bytes;
    emit(moe_kernel_name(way, shape.element), run_moe,
         [&] { return MoeArgs{in(0), in(1), ints(2), in(3), in(4), out(0), scratch(), rows_of(0), shape, way}; });
  }
  void operator()(const ops::GatherRows&) {
    const TensorType& x = type(0);
    emit("gather_rows", gather_rows,
         [&] { return GatherRowsArgs{in(0), ints(1), out(0), rows_of(1), x.shape[1], element(x)}; });
  }
  void operator()(const ops::SigmoidMul&) {
    const TensorType& x = type(1);
    emit("sigmoid_mul", sigmoid_mul,
         [&] { return SigmoidMulArgs{in(0), in(1), out(0), rows_of(0), x.shape[1], element(x)}; });
  }
  void operator()(const ops::ExpertOutputs&) { no_ranks(); }
  void operator()(const ops::CombineExperts&) { no_ranks(); }
  void operator()(const ops::AllReduce&) { no_ranks(); }
  void operator()(const ops::AllGather&) { no_ranks(); }
  void operator()(const ops::ReduceScatter&) { no_ranks(); }
  void operator()(const ops::AllToAll&) { no_ranks(); }

  void operator()(const ops::Region& op) {
    if (op.kind == kAddRmsNorm) return add_rms_norm(*op.body);
    if (op.kind == kSiluMulHalves) return silu_mul_halves();
    if (op.kind == kLinearSiluMulHalves) return linear_silu_mul_halves(*op.body);
    if (op.kind == kQkNormRopeKvWrite) return region_qk_norm_rope_kv_write();
    CAJAL_CHECK(false, "region ", op.kind, " should have been replaced by its body");
  }

 private:
  // All nodes of a launch where its last one stands: what the others would leave in the arena is nobody else's to read.
  void chained(std::size_t launch) {
    selection.kernel_names.back() = "chain";
    if (places_ && index_ == decode_->launches[launch].back()) launches.push_back(std::move(chain_launches_[launch]));
  }

  // All nodes in the launch of the last one. No block writes a result before all have read what they share memory with.
  void run_moe_chain(const MoeChain& chain) {
    selection.kernel_names.back() = "moe_chain";
    if (places_ && index_ == chain.nodes.back())
      launches.push_back({chain.experts, moe_chains_.launch(chain, *places_)});
  }

  // What is made in a step has the rows of the step in front: kernels stop after those that a step really has.
  void find_rows() {
    for (const Node& node : graph_.nodes()) {
      for (std::size_t r = 0; r < node.results.size(); ++r) {
        const Shape& shape = graph_.type(node.results[r]).shape;
        if (is_leaf(node.op) || overwrites_input(node.op, static_cast<int>(r))) continue;
        std::int64_t& rows = kinds_[node.results[r].id] == RowKind::tokens ? selection.max_rows.num_tokens
                                                                           : selection.max_rows.num_logits;
        if (rows == 0) rows = shape[0];
        if (rows != shape[0])
          fail(ErrorCode::unsupported, node.name, ": ", op_name(node.op), " makes ", to_string(shape),
               " in a graph whose steps have ", rows, " rows");
      }
    }
  }

  // Products that only a router reads, whose kernel can make them itself from an x that is still there by then.
  void find_routes() {
    const auto& nodes = graph_.nodes();
    for (std::uint32_t i = 0; i < nodes.size(); ++i) {
      const auto* router = std::get_if<ops::Router>(&nodes[i].op);
      if (!router || sm_ != 90) continue;
      const Value logits = nodes[i].inputs[0];
      const Node& linear = graph_.producer_node(logits);
      const auto* op = std::get_if<ops::Linear>(&linear.op);
      if (!op || op->sum_parts != 1 || linear.inputs.size() != 2 || last_use(linear.inputs[0]) <= i) continue;
      const TensorType& x = graph_.type(linear.inputs[0]);
      if (x.dtype != DType::bf16 || num_uses(logits) != 1) continue;
      MoeRouteArgs a{};
      a.in_features = narrow(x.shape[1]), a.router.rows.most = narrow(x.shape[0]);
      a.router.num_experts = narrow(graph_.type(logits).shape[1]);
      if (moe_route_accepts(a)) routes_.insert(graph_.producer(logits));
    }
  }
  // Attention of few rows that makes its queries, and the cache's new rows, by itself.
  void find_joined_attention() {
    for (std::uint32_t i = 0; i < graph_.nodes().size() && sm_ == 90; ++i) {
      if (!std::holds_alternative<ops::PagedAttention>(graph_.node(i).op)) continue;
      const auto& inputs = graph_.node(i).inputs;
      const Node& before = graph_.producer_node(inputs[0]);
      const auto* region = std::get_if<ops::Region>(&before.op);
      if (!region || region->kind != kQkNormRopeKvWrite || num_uses(inputs[0]) != 1) continue;
      const std::uint32_t at = graph_.producer(inputs[0]);
      const AttentionShape shape = attention_shape(graph_.node(i));
      if (graph_.type(inputs[0]).dtype != DType::bf16 || graph_.producer(inputs[1]) != at ||
          graph_.producer(inputs[2]) != at || !attention_decode_accepts(shape))
        continue;
      joined_attention_[i] = at, joins_attention_.insert(at);
      slot_bytes_ = std::max(slot_bytes_, attention_decode_bytes(shape));
      short_bytes_ = std::max(short_bytes_, attention_short_shared_bytes(shape));
    }
  }
  // One set for all layers, which run one after the other.
  float* attention_slots() {
    if (!slots_) slots_ = places_->keep(slot_bytes_);
    return reinterpret_cast<float*>(slots_);
  }
  AttentionShape attention_shape(const Node& node) const {
    const TensorType &q = graph_.type(node.inputs[0]), &k = graph_.type(node.inputs[1]);
    return {q.dtype == DType::bf16 ? Element::bf16 : Element::f32,
            narrow(q.shape[0]),
            narrow(q.shape[1]),
            narrow(k.shape[1]),
            narrow(q.shape[2]),
            narrow(k.shape[2]),
            narrow(graph_.type(node.inputs[3]).shape[1])};
  }
  std::uint32_t last_use(Value v) const {
    std::uint32_t last = 0;
    for (std::uint32_t i = 0; i < graph_.nodes().size(); ++i)
      if (std::ranges::find(graph_.node(i).inputs, v) != graph_.node(i).inputs.end()) last = i;
    return last;
  }
  std::size_t num_uses(Value v) const {
    auto uses = static_cast<std::size_t>(std::ranges::count(graph_.outputs(), v));
    for (const Node& node : graph_.nodes()) uses += static_cast<std::size_t>(std::ranges::count(node.inputs, v));
    return uses;
  }

  template <class OpType>
  static const OpType& find_op(const Graph& body) {
    for (const Node& node : body.nodes())
      if (const auto* op = std::get_if<OpType>(&node.op)) return *op;
    CAJAL_CHECK(false, "a region without the op that its kind promises");
    return std::get<OpType>(body.node(0).op);
  }

  void add_rms_norm(const Graph& body) {
    const TensorType& x = type(0);
    emit("add_rms_norm", rms_norm, [&] {
      return RmsNormArgs{
          in(0),     in(1), in(2), out(0), out(1), rows_of(0), narrow(x.shape[1]), find_op<ops::RmsNorm>(body).epsilon,
          element(x)};
    });
  }
  void linear_silu_mul_halves(const Graph& body) {
    const TensorType &x = type(0), &weight = type(1);
    LinearArgs a{};
    a.in_features = narrow(weight.shape[1]), a.out_features = narrow(weight.shape[0]);
    a.sum_parts = find_op<ops::Linear>(body).sum_parts, a.element = element(x), a.rows = rows_of(0), a.gated = true;
    emit("linear_wgmma_silu_mul", linear_wgmma, [&] {
      a.x = in(0), a.weight = in(1), a.y = out(0);
      return a;
    });
  }
  void silu_mul_halves() {
    const TensorType& x = type(0);
    const std::int64_t columns = x.shape[1] / 2;
    emit("silu_mul_halves", silu_mul, [&] {
      const std::byte* gate = in(0);
      return SiluMulArgs{gate,      gate + static_cast<std::size_t>(columns) * size_of(x.dtype),
                         out(0),    rows_of(0),
                         columns,   x.shape[1],
                         element(x)};
    });
  }
  void region_qk_norm_rope_kv_write() {
    if (type(4).shape[3] > kMaxHeadDim) no_kernel();
    if (joins_attention_.contains(index_)) {
      selection.kernel_names.back() = "attention_decode";
      return;
    }
    emit("qk_norm_rope_kv_write", qk_norm_rope_kv_write, [&] { return qk_norm_rope_kv_write_args(*node_); });
  }
  QkNormRopeKvWriteArgs qk_norm_rope_kv_write_args(const Node& node) const {
    const TensorType &k = graph_.type(node.inputs[4]), &q = graph_.type(node.results[0]);
    const auto at = [&](std::size_t i) { return places_->at(node.inputs[i]); };
    return {.qkv = at(0),
            .q_norm = at(1),
            .k_norm = at(2),
            .table = at(3),
            .k_cache = at(4),
            .v_cache = at(5),
            .slot_mapping = reinterpret_cast<const std::int32_t*>(at(6)),
            .q = places_->at(node.results[0]),
            .rows = rows_of(0),
            .num_heads = narrow(q.shape[1]),
            .num_kv_heads = narrow(k.shape[1]),
            .head_dim = narrow(k.shape[3]),
            .block_size = narrow(k.shape[2]),
            .epsilon = find_op<ops::RmsNorm>(*std::get<ops::Region>(node.op).body).epsilon,
            .element = element(q)};
  }

  struct LinearKernel {
    const char* name;
    void (*run)(const LinearArgs&, cudaStream_t);
  };
  LinearKernel linear_kernel(const LinearArgs& a) const {
    if (a.element == Element::f32) return {"linear_f32", linear_f32};
    if (sm_ == 90 && linear_stream_accepts(a)) return {"linear_stream", linear_stream};
    if (sm_ == 90 && linear_wgmma_accepts(a)) return {"linear_wgmma", linear_wgmma};
    return {"linear_mma", linear_mma};
  }
  struct AttentionKernel {
    const char* name;
    void (*run)(const AttentionArgs&, cudaStream_t);
    std::size_t scratch_bytes;
  };
  AttentionKernel attention_kernel(const AttentionShape& s) const {
    if (!attention_mma_accepts(s)) return {"attention_any", attention_any, 0};
    if (sm_ == 90) return {"attention_wgmma", attention_wgmma, attention_wgmma_scratch(s)};
    return {"attention_mma", attention_mma, attention_mma_scratch(s)};
  }
  void check_parts(int parts) const {
    if (parts != 1 && parts != 2 && parts != 4 && parts != kMaxSumParts) no_kernel();
  }

  [[noreturn]] void no_ranks() const {
    fail(ErrorCode::unsupported, node_->name, ": ", op_name(node_->op),
         " needs several ranks, which the CUDA backend does not have yet");
  }
  // A graph may ask for what no kernel does, a head_dim or an element type: that is the user's to hear about.
  [[noreturn]] void no_kernel() const {
    std::string types;
    for (const Value v : node_->inputs) types += (types.empty() ? "" : ", ") + to_string(graph_.type(v));
    fail(ErrorCode::unsupported, node_->name, ": the CUDA backend has no kernel for ", op_name(node_->op), " of (",
         types, ")");
  }

  const TensorType& type(std::size_t input) const { return graph_.type(node_->inputs[input]); }
  Element element(const TensorType& t) const {
    if (t.dtype != DType::bf16 && t.dtype != DType::f32) no_kernel();
    return t.dtype == DType::bf16 ? Element::bf16 : Element::f32;
  }
  Rows rows_of(std::size_t input, std::int64_t scale = 1) const {
    const bool tokens = kinds_[node_->inputs[input].id] == RowKind::tokens;
    const std::int64_t most = tokens ? selection.max_rows.num_tokens : selection.max_rows.num_logits;
    const StepHeader* header = places_ ? places_->header : nullptr;
    return {narrow(most * scale), header ? (tokens ? &header->num_tokens : &header->num_logits) : nullptr,
            narrow(scale)};
  }
  std::byte* in(std::size_t i) const { return places_->at(node_->inputs[i]); }
  std::byte* out(std::size_t i) const { return places_->at(node_->results[i]); }
  const std::int32_t* ints(std::size_t i) const { return reinterpret_cast<const std::int32_t*>(in(i)); }
  std::byte* scratch() const { return places_->scratch(index_); }

  template <class Run, class Make>
  void emit(const char* name, const Run& run, const Make& make) {
    selection.kernel_names.back() = name;
    for (const Value v : node_->inputs)
      if (const auto t = graph_.type(v).dtype; t != DType::i32 && t != DType::bf16 && t != DType::f32) no_kernel();
    if (!places_) return;
    launches.push_back({index_, [run, args = make()](cudaStream_t stream) { run(args, stream); }});
  }

  const Graph& graph_;
  int sm_;
  bool short_step_;
  std::vector<RowKind> kinds_;
  std::set<std::uint32_t> routes_;                           // linears that their router makes
  std::map<std::uint32_t, std::uint32_t> joined_attention_;  // the region that goes along
  std::set<std::uint32_t> joins_attention_;                  // those regions
  std::size_t slot_bytes_ = 0;
  std::int32_t short_bytes_ = 0;  // of shared memory, for attention of short steps
  std::byte* slots_ = nullptr;
  std::optional<DecodeChain> decode_;
  MoeChains moe_chains_;
  std::vector<Launch> chain_launches_;
  const Places* places_ = nullptr;
  const Node* node_ = nullptr;
  std::uint32_t index_ = 0;
};

}  // namespace

Selection select_kernels(const Graph& graph, const KernelOptions& options) {
  Lowering lowering(graph, options, false);
  lowering.run();
  lowering.find_short_steps();
  return std::move(lowering.selection);
}

std::vector<Launch> lower(const Graph& graph, const KernelOptions& options, const Places& places, bool short_step) {
  Lowering lowering(graph, options, short_step);
  lowering.with_memory(places);
  lowering.run();
  return std::move(lowering.launches);
}

bool has_region_kernel(std::string_view kind) {
  return kind == kAddRmsNorm || kind == kSiluMulHalves || kind == kLinearSiluMulHalves || kind == kQkNormRopeKvWrite;
}

}  // namespace cajal::cuda
