// From nodes to calls: for each op, its kernel list, the shape that the list chooses by, and the arguments.
#include "backends/cpu/kernels/attention.h"
#include "backends/cpu/kernels/collectives.h"
#include "backends/cpu/kernels/elementwise.h"
#include "backends/cpu/kernels/linear.h"
#include "backends/cpu/kernels/moe.h"
#include "backends/cpu/program.h"
#include "compiler/passes.h"
#include "distributed/ranks.h"

namespace cajal::cpu {
namespace {

Packed tile_of(const TensorType& t) {
  const auto* packed = std::get_if<Packed>(&t.storage);
  return packed ? *packed : Packed{1, 1};
}

Quantized quantized_of(const TensorType& t) { return t.quantized() ? *t.quantized() : Quantized{}; }

// Whether weights that a step has read are gone from all caches when the next one needs them.
bool reads_weights_once(const Graph& graph) {
  constexpr std::size_t kMoreThanCachesHold = std::size_t{128} << 20;
  std::size_t bytes = 0;
  for (const Node& node : graph.nodes())
    if (std::holds_alternative<ops::Parameter>(node.op)) bytes += graph.type(node.results[0]).bytes();
  return bytes > kMoreThanCachesHold;
}

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

// Rows of the kernels that work row by row for each row of the step: heads, where each is normalised by itself.
std::int64_t rows_per_row(const Shape& shape) {
  std::int64_t rows = 1;
  for (int i = 1; i + 1 < shape.rank(); ++i) rows *= shape[i];
  return rows;
}

Communicator& group_of(const RankGroups& ranks, RankGroup which) {
  return which == RankGroup::tensor ? *ranks.tensor : *ranks.world;
}

// Who takes part in a node; nothing for those that a rank runs by itself.
struct RanksNeeded {
  RankGroup group = RankGroup::tensor;
  int ranks = 0;          // 0: any number
  int expert_groups = 0;  // that share the experts; 0: any number
};
std::optional<RanksNeeded> ranks_needed(const Op& op) {
  if (const auto* o = std::get_if<ops::Embedding>(&op); o && o->partial) return RanksNeeded{};
  if (const auto* o = std::get_if<ops::AllReduce>(&op)) return RanksNeeded{o->group};
  if (const auto* o = std::get_if<ops::ExpertOutputs>(&op); o && o->expert_parts > 1)
    return RanksNeeded{RankGroup::world, 0, o->expert_parts};
  if (const auto* o = std::get_if<ops::AllGather>(&op)) return RanksNeeded{o->group, o->ranks};
  if (const auto* o = std::get_if<ops::ReduceScatter>(&op)) return RanksNeeded{o->group, o->ranks};
  if (const auto* o = std::get_if<ops::AllToAll>(&op)) return RanksNeeded{o->group, o->ranks};
  return std::nullopt;
}

// Visits one node: picks its kernel and, where the addresses are known, makes its call.
class Lowering {
 public:
  Lowering(const Graph& graph, std::uint32_t isa, int threads)
      : graph_(graph), isa_(isa), threads_(threads), kinds_(row_kinds(graph)), read_once_(reads_weights_once(graph)) {}

  // With addresses: steps are made. Without: only kernels are chosen.
  void with_memory(const Addresses& at, const std::function<std::byte*(std::uint32_t)>& scratch,
                   const RankGroups* ranks) {
    at_ = &at, scratch_ = &scratch, ranks_ = ranks;
  }

  void run() {
    find_rows();
    for (index_ = 0; index_ < graph_.nodes().size(); ++index_) {
      node_ = &graph_.node(index_);
      selection.kernel_names.emplace_back();
      selection.scratch_bytes.push_back(0);
      std::visit(*this, node_->op);
    }
  }

  std::vector<Step> steps;
  Selection selection;

  void operator()(const ops::Input&) {}
  void operator()(const ops::State&) {}
  void operator()(const ops::Parameter&) {}
  void operator()(const ops::Reshape&) {}  // the same memory

  void operator()(const ops::Embedding& op) {
    const TensorType& table = type(0);
    row_input_ = 1;
    emit<EmbeddingArgs>(embedding_kernels(), EmbeddingShape{table.dtype, table.storage}, [&] {
      return EmbeddingArgs{.table = in(0),
                           .ids = ints(1),
                           .y = out(0),
                           .rows = 0,
                           .vocab_size = table.shape[0],
                           .hidden_size = table.shape[1],
                           .dtype = table.dtype,
                           .packed = tile_of(table),
                           .quantized = quantized_of(table),
                           .first_row = op.partial ? table.shape[0] * ranks_->tensor->rank() : 0};
    });
  }
  void operator()(const ops::Linear& op) {
    const TensorType &x = type(0), &weight = type(1);
    const LinearShape shape{x.dtype, weight.storage, x.shape[0], weight.shape[1], weight.shape[0], op.sum_parts};
    emit<LinearArgs>(linear_kernels(), shape, [&] {
      return LinearArgs{.x = in(0),
                        .weight = in(1),
                        .bias = node_->inputs.size() == 3 ? in(2) : nullptr,
                        .y = out(0),
                        .rows = 0,
                        .in_features = weight.shape[1],
                        .out_features = weight.shape[0],
                        .sum_parts = op.sum_parts,
                        .dtype = x.dtype,
                        .packed = tile_of(weight),
                        .quantized = quantized_of(weight),
                        .scratch = scratch(),
                        .partial = op.partial,
                        .read_once = read_once_};
    });
  }
  void operator()(const ops::RmsNorm& op) {
    const TensorType& x = type(0);
    const std::int64_t columns = x.shape[-1];
    emit_scaled<RmsNormArgs>(rms_norm_kernels(), row_shape(0), rows_per_row(x.shape), [&] {
      return RmsNormArgs{.x = in(0),
                         .weight = in(1),
                         .y = out(0),
                         .rows = 0,
                         .columns = columns,
                         .epsilon = op.epsilon,
                         .dtype = x.dtype};
    });
  }
  void operator()(const ops::RotaryTable& op) {
    const std::int64_t columns = 2 * graph_.type(node_->results[0]).shape[2];
    emit<RotaryTableArgs>(rotary_table_kernels(), RowShape{op.dtype, columns}, [&] {
      return RotaryTableArgs{.op = &op,
                             .positions = ints(0),
                             .rope_lengths = node_->inputs.size() == 2 ? ints(1) : nullptr,
                             .y = out(0),
                             .rows = 0,
                             .columns = columns,
                             .dtype = op.dtype};
    });
  }
  void operator()(const ops::Rope&) {
    const TensorType& x = type(0);
    emit<RopeArgs>(rope_kernels(), row_shape(0), [&] {
      return RopeArgs{.x = in(0),
                      .table = in(1),
                      .y = out(0),
                      .rows = 0,
                      .num_heads = x.shape[1],
                      .columns = x.shape[2],
                      .dtype = x.dtype};
    });
  }
  void operator()(const ops::SiluMul&) {
    const TensorType& x = type(0);
    emit_scaled<SiluMulArgs>(silu_mul_kernels(), row_shape(0), rows_per_row(x.shape), [&] {
      return SiluMulArgs{.gate = in(0),
                         .up = in(1),
                         .y = out(0),
                         .rows = 0,
                         .columns = x.shape[-1],
                         .input_stride = x.shape[-1],
                         .dtype = x.dtype};
    });
  }
  void operator()(const ops::Add&) {
    const TensorType& x = type(0);
    emit_scaled<AddArgs>(add_kernels(), row_shape(0), rows_per_row(x.shape), [&] {
      return AddArgs{.a = in(0), .b = in(1), .y = out(0), .rows = 0, .columns = x.shape[-1], .dtype = x.dtype};
    });
  }
  void operator()(const ops::SigmoidMul&) {
    const TensorType& x = type(1);
    emit<SigmoidMulArgs>(sigmoid_mul_kernels(), row_shape(1), [&] {
      return SigmoidMulArgs{.gate = in(0), .x = in(1), .y = out(0), .rows = 0, .columns = x.shape[1], .dtype = x.dtype};
    });
  }
  void operator()(const ops::Slice& op) {
    const TensorType& x = type(0);
    emit_scaled<SliceArgs>(slice_kernels(), RowShape{x.dtype, op.end - op.begin}, rows_per_row(x.shape), [&] {
      return SliceArgs{.x = in(0),
                       .y = out(0),
                       .rows = 0,
                       .columns = op.end - op.begin,
                       .input_columns = x.shape[-1],
                       .begin = op.begin,
                       .dtype = x.dtype};
    });
  }
  void operator()(const ops::KvWrite&) {
    const TensorType &cache = type(0), &x = type(1);
    const KvWriteShape shape{x.dtype, cache.storage, cache.shape[3], cache.shape[2]};
    row_input_ = 1;
    emit<KvWriteArgs>(kv_write_kernels(), shape, [&] {
      return KvWriteArgs{.cache = in(0),
                         .x = in(1),
                         .slot_mapping = ints(2),
                         .rows = 0,
                         .num_kv_heads = x.shape[1],
                         .head_dim = x.shape[2],
                         .block_size = cache.shape[2],
                         .dtype = x.dtype,
                         .packed = cache_tile(cache.storage),
                         .int8_cache = cache.quantized() != nullptr};
    });
  }
  void operator()(const ops::PagedAttention& op) {
    const TensorType &q = type(0), &k = type(1), &v = type(2), &tables = type(3);
    const AttentionShape shape{.dtype = q.dtype,
                               .k_storage = k.storage,
                               .v_storage = v.storage,
                               .rows = q.shape[0],
                               .num_heads = q.shape[1],
                               .num_kv_heads = k.shape[1],
                               .head_dim = q.shape[2],
                               .block_size = k.shape[2],
                               .max_blocks_per_seq = tables.shape[1],
                               .sliding_window = op.sliding_window};
    emit<AttentionArgs>(attention_kernels(), shape, [&] {
      return AttentionArgs{.q = in(0),
                           .k_cache = in(1),
                           .v_cache = in(2),
                           .block_tables = ints(3),
                           .seq_indices = ints(4),
                           .positions = ints(5),
                           .y = out(0),
                           .scratch = scratch(),
                           .rows = 0,
                           .num_heads = q.shape[1],
                           .num_kv_heads = k.shape[1],
                           .head_dim = q.shape[2],
                           .block_size = k.shape[2],
                           .max_blocks_per_seq = tables.shape[1],
                           .sliding_window = op.sliding_window,
                           .scale = op.scale,
                           .dtype = q.dtype,
                           .k_packed = cache_tile(k.storage),
                           .v_packed = cache_tile(v.storage),
                           .int8_cache = k.quantized() != nullptr};
    });
  }
  void operator()(const ops::Router& op) {
    const TensorType& x = type(0);
    emit<RouterArgs>(router_kernels(), RouterShape{x.dtype, x.shape[1], op.top_k}, [&] {
      return RouterArgs{.logits = in(0),
                        .weights = out(0),
                        .ids = reinterpret_cast<std::int32_t*>(out(1)),
                        .rows = 0,
                        .num_experts = x.shape[1],
                        .top_k = op.top_k,
                        .dtype = x.dtype,
                        .norm_topk_prob = op.norm_topk_prob,
                        .seq_indices = node_->inputs.size() == 2 ? ints(1) : nullptr,
                        .capacity_factor = op.capacity_factor};
    });
  }
  void operator()(const ops::MoeExperts& op) { experts(2, op.sum_parts, nullptr); }
  void operator()(const ops::ExpertOutputs& op) { experts(1, op.sum_parts, &op); }
  void operator()(const ops::CombineExperts&) {
    const TensorType &weights = type(1), &y = graph_.type(node_->results[0]);
    const int top_k = static_cast<int>(weights.shape[1]);
    emit<CombineArgs>(combine_kernels(), CombineShape{y.dtype, y.shape[1], top_k}, [&] {
      return CombineArgs{.outputs = in(0),
                         .weights = in(1),
                         .y = out(0),
                         .rows = 0,
                         .hidden_size = y.shape[1],
                         .top_k = top_k,
                         .dtype = y.dtype};
    });
  }
  void operator()(const ops::GatherRows&) {
    const TensorType& x = type(0);
    row_input_ = 1;
    emit<GatherRowsArgs>(gather_rows_kernels(), row_shape(0), [&] {
      return GatherRowsArgs{
          .x = in(0), .indices = ints(1), .y = out(0), .rows = 0, .columns = x.shape[1], .dtype = x.dtype};
    });
  }
  void operator()(const ops::AllReduce& op) {
    const TensorType& x = type(0);
    const bool in_place = op.dtype == DType::f32;
    const auto elements = static_cast<std::size_t>(x.shape.elements());
    emit_collective("all_reduce", all_reduce, in_place ? 0 : elements * sizeof(float), [&] {
      return AllReduceArgs{.x = in(0),
                           .bias = node_->inputs.size() == 2 ? in(1) : nullptr,
                           .y = out(0),
                           .sums = reinterpret_cast<float*>(in_place ? out(0) : scratch()),
                           .rows = 0,
                           .columns = x.shape[1],
                           .from = x.dtype,
                           .to = op.dtype,
                           .group = &group_of(*ranks_, op.group)};
    });
  }
  void operator()(const ops::AllGather& op) {
    columns_only(op.dim);
    const TensorType& x = type(0);
    emit_columns("all_gather", all_gather, op.group, all_gather_scratch(x.shape[0], x.shape[1], op.ranks, x.dtype));
  }
  void operator()(const ops::ReduceScatter& op) {
    columns_only(op.dim);
    const Shape& x = type(0).shape;
    emit_columns("reduce_scatter", reduce_scatter, op.group, reduce_scatter_scratch(x[0], x[1]));
  }
  void operator()(const ops::AllToAll& op) {
    const TensorType& x = type(0);
    emit_columns("all_to_all", all_to_all, op.group, all_to_all_scratch(x.shape[0], x.shape[1], x.dtype));
  }

  void operator()(const ops::Region& op) {
    if (op.kind == kAddRmsNorm) return add_rms_norm(*op.body);
    if (op.kind == kSiluMulHalves) return silu_mul_halves();
    if (op.kind == kQkNormRopeKvWrite) return qk_norm_rope_kv_write(*op.body);
    CAJAL_CHECK(false, "region ", op.kind, " should have been replaced by its body");
  }

 private:
  // Of inputs ids, gate_up and down from `first` on; `partial`: of which the rank may have a share.
  void experts(std::size_t first, int sum_parts, const ops::ExpertOutputs* partial) {
    const TensorType &x = type(0), &ids = type(first), &gate_up = type(first + 1), &down = type(first + 2);
    const MoeShape shape{.dtype = x.dtype,
                         .gate_up_storage = gate_up.storage,
                         .down_storage = down.storage,
                         .rows = x.shape[0],
                         .num_experts = down.shape[0],
                         .hidden_size = x.shape[1],
                         .intermediate_size = down.shape[2],
                         .top_k = static_cast<int>(ids.shape[1]),
                         .sum_parts = sum_parts,
                         .partial = partial != nullptr};
    emit<MoeArgs>(moe_kernels(), shape, [&] {
      const bool shared_out = partial && partial->expert_parts > 1;
      return MoeArgs{.x = in(0),
                     .weights = partial ? nullptr : in(1),
                     .ids = ints(first),
                     .gate_up = in(first + 1),
                     .down = in(first + 2),
                     .y = out(0),
                     .scratch = scratch(),
                     .rows = 0,
                     .num_experts = down.shape[0],
                     .hidden_size = x.shape[1],
                     .intermediate_size = down.shape[2],
                     .top_k = static_cast<std::int32_t>(ids.shape[1]),
                     .sum_parts = sum_parts,
                     .dtype = x.dtype,
                     .packed = tile_of(gate_up),
                     .quantized = quantized_of(gate_up),
                     .lossless = gate_up.lossless(),
                     .read_once = read_once_,
                     .first_expert = shared_out ? static_cast<std::int32_t>(ranks_->expert->rank() * down.shape[0]) : 0,
                     .partial = partial != nullptr};
    });
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

  template <class OpType>
  static const OpType& find_op(const Graph& body) {
    for (const Node& node : body.nodes())
      if (const auto* op = std::get_if<OpType>(&node.op)) return *op;
    CAJAL_CHECK(false, "a region without the op that its kind promises");
    return std::get<OpType>(body.node(0).op);
  }

  void add_rms_norm(const Graph& body) {
    const TensorType& x = type(0);
    emit<AddRmsNormArgs>(add_rms_norm_kernels(), row_shape(0), [&] {
      return AddRmsNormArgs{.a = in(0),
                            .b = in(1),
                            .weight = in(2),
                            .sum = out(0),
                            .y = out(1),
                            .rows = 0,
                            .columns = x.shape[1],
                            .epsilon = find_op<ops::RmsNorm>(body).epsilon,
                            .dtype = x.dtype};
    });
  }
  void silu_mul_halves() {
    const TensorType& x = type(0);
    const std::int64_t columns = x.shape[1] / 2;
    emit<SiluMulArgs>(silu_mul_kernels(), RowShape{x.dtype, columns}, [&] {
      const std::byte* gate = in(0);
      return SiluMulArgs{.gate = gate,
                         .up = gate + static_cast<std::size_t>(columns) * size_of(x.dtype),
                         .y = out(0),
                         .rows = 0,
                         .columns = columns,
                         .input_stride = x.shape[1],
                         .dtype = x.dtype};
    });
  }
  void qk_norm_rope_kv_write(const Graph& body) {
    const TensorType &x = type(0), &k = type(4), &v = type(5), &q = graph_.type(node_->results[0]);
    const QkNormRopeKvWriteShape shape{x.dtype, k.storage, v.storage, k.shape[3], k.shape[2]};
    emit<QkNormRopeKvWriteArgs>(qk_norm_rope_kv_write_kernels(), shape, [&] {
      return QkNormRopeKvWriteArgs{.qkv = in(0),
                                   .q_norm = in(1),
                                   .k_norm = in(2),
                                   .table = in(3),
                                   .k_cache = in(4),
                                   .v_cache = in(5),
                                   .slot_mapping = ints(6),
                                   .q = out(0),
                                   .rows = 0,
                                   .num_heads = q.shape[1],
                                   .num_kv_heads = k.shape[1],
                                   .head_dim = k.shape[3],
                                   .block_size = k.shape[2],
                                   .epsilon = find_op<ops::RmsNorm>(body).epsilon,
                                   .dtype = x.dtype,
                                   .k_packed = cache_tile(k.storage),
                                   .v_packed = cache_tile(v.storage),
                                   .int8_cache = k.quantized() != nullptr};
    });
  }
  // How many rows a step has is known when it runs; they are not cut.
  void columns_only(int dim) const {
    if (dim != 1 || type(0).shape.rank() != 2)
      fail(ErrorCode::unsupported, node_->name, ": ", op_name(node_->op), " along dimension ", dim, " of ",
           to_string(type(0)), " has no kernel on the CPU", remedy("columns of a matrix do"));
  }
  template <class Args, class Make>
  void emit_collective(const char* name, void (*kernel)(const Args&, ThreadPool&), std::size_t scratch_bytes,
                       const Make& make) {
    if (type(0).dtype != DType::bf16 && type(0).dtype != DType::f32)
      fail(ErrorCode::unsupported, node_->name, ": ", op_name(node_->op), " of ", to_string(type(0)),
           " has no kernel on the CPU");
    selection.kernel_names.back() = name;
    selection.scratch_bytes.back() = scratch_bytes;
    if (!at_) return;
    steps.push_back(Step::make(kernel, name, kinds_[node_->inputs[0].id], make()));
    steps.back().node = index_;
  }
  void emit_columns(const char* name, void (*kernel)(const MoveColumnsArgs&, ThreadPool&), RankGroup which,
                    std::size_t scratch_bytes) {
    const TensorType& x = type(0);
    emit_collective(name, kernel, scratch_bytes, [&] {
      return MoveColumnsArgs{.x = in(0),
                             .y = out(0),
                             .scratch = scratch(),
                             .rows = 0,
                             .columns = x.shape[1],
                             .dtype = x.dtype,
                             .group = &group_of(*ranks_, which)};
    });
  }

  const TensorType& type(std::size_t input) const { return graph_.type(node_->inputs[input]); }
  RowShape row_shape(std::size_t input) const { return {type(input).dtype, type(input).shape[-1]}; }
  std::byte* in(std::size_t i) const { return (*at_)(node_->inputs[i]); }
  std::byte* out(std::size_t i) const { return (*at_)(node_->results[i]); }
  const std::int32_t* ints(std::size_t i) const { return reinterpret_cast<const std::int32_t*>(in(i)); }
  std::byte* scratch() const { return (*scratch_)(index_); }

  // A graph may ask for what no kernel does, a head_dim or an element type: that is the user's to hear about.
  template <class Shape, class Args>
  const Kernel<Shape, Args>& choose_for_node(std::span<const Kernel<Shape, Args>> kernels, const Shape& shape) const {
    for (const auto& kernel : kernels)
      if ((kernel.isa & ~isa_) == 0 && kernel.accepts(shape)) return kernel;
    std::string types;
    for (const Value v : node_->inputs) types += (types.empty() ? "" : ", ") + to_string(graph_.type(v));
    fail(ErrorCode::unsupported, node_->name, ": the CPU backend has no kernel for ", op_name(node_->op), " of (",
         types, ")");
  }

  template <class Args, class Shape, class Make>
  void emit(std::span<const Kernel<Shape, Args>> kernels, const Shape& shape, const Make& make) {
    const auto& kernel = choose_for_node(kernels, shape);
    selection.kernel_names.back() = kernel.name;
    if (kernel.scratch_bytes) selection.scratch_bytes.back() = kernel.scratch_bytes(shape, threads_);
    const RowKind rows = kinds_[node_->inputs[std::exchange(row_input_, 0)].id];
    if (!at_) return;
    steps.push_back(Step::make(kernel.run, kernel.name, rows, make()));
    steps.back().node = index_;
  }

  // For kernels whose rows are `scale` times those of the step. Only bodies of regions that no kernel runs have such nodes.
  template <class Args, class Shape, class Make>
  void emit_scaled(std::span<const Kernel<Shape, Args>> kernels, const Shape& shape, std::int64_t scale,
                   const Make& make) {
    emit<Args>(kernels, shape, make);
    if (at_ && scale != 1) steps.back().row_scale = scale;
  }

  const Graph& graph_;
  std::uint32_t isa_;
  int threads_;
  std::vector<RowKind> kinds_;
  bool read_once_;
  const Addresses* at_ = nullptr;
  const std::function<std::byte*(std::uint32_t)>* scratch_ = nullptr;
  const RankGroups* ranks_ = nullptr;
  const Node* node_ = nullptr;
  std::uint32_t index_ = 0;
  std::size_t row_input_ = 0;  // the input that says how many rows the next node has
};

}  // namespace

Selection select_kernels(const Graph& graph, std::uint32_t isa, int threads) {
  Lowering lowering(graph, isa, threads);
  lowering.run();
  return std::move(lowering.selection);
}

void check_ranks(const Graph& graph, const RankGroups* ranks) {
  for (const Node& node : graph.nodes()) {
    const auto need = ranks_needed(node.op);
    if (!need) continue;
    const auto refuse = [&](ErrorCode code, const auto&... found) {
      fail(code, node.name, ": ", op_name(node.op), " needs ", found...,
           remedy("start as many ranks as the graph was made for"));
    };
    if (!ranks) refuse(ErrorCode::unsupported, "several ranks, and there is one");
    const int there = group_of(*ranks, need->group).size();
    if (need->ranks != 0 && need->ranks != there)
      refuse(ErrorCode::invalid_argument, need->ranks, " ranks, and there are ", there);
    if (need->expert_groups != 0 && need->expert_groups != ranks->expert->size())
      refuse(ErrorCode::invalid_argument, need->expert_groups, " groups of ranks that share experts, and there are ",
             ranks->expert->size());
  }
}

std::vector<Step> lower(const Graph& graph, const Machine& machine, const Addresses& at,
                        const std::function<std::byte*(std::uint32_t)>& scratch) {
  check_ranks(graph, machine.ranks);
  Lowering lowering(graph, machine.isa, 1);
  lowering.with_memory(at, scratch, machine.ranks);
  lowering.run();
  return std::move(lowering.steps);
}

bool has_region_kernel(std::string_view kind) {
  return kind == kAddRmsNorm || kind == kSiluMulHalves || kind == kQkNormRopeKvWrite;
}

}  // namespace cajal::cpu
