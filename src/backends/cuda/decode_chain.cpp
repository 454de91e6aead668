#include "backends/cuda/decode_chain.h"

#include <algorithm>
#include <memory>

#include "base/checked.h"
#include "compiler/passes.h"

namespace cajal::cuda {
namespace {

// Thrown by what does not match, and caught where matching began.
struct NoMatch {};
void expect(bool matches) {
  if (!matches) throw NoMatch{};
}

std::int32_t narrow(std::int64_t n) { return checked_cast<std::int32_t>(n, "a size on the device"); }

const ops::RmsNorm& norm_of(const Graph& body) {
  for (const Node& node : body.nodes())
    if (const auto* norm = std::get_if<ops::RmsNorm>(&node.op)) return *norm;
  throw NoMatch{};
}

// Walks the nodes that compute something, in order, and checks that each is the one that the chain wants next.
class Matcher {
 public:
  explicit Matcher(const Graph& graph) : graph_(graph) {
    for (std::uint32_t n = 0; n < graph.nodes().size(); ++n) {
      const Op& op = graph.node(n).op;
      if (!is_leaf(op) && !std::holds_alternative<ops::Reshape>(op)) order_.push_back(n);
    }
  }

  DecodeChain run() {
    while (at_ < order_.size() && !peek<ops::RmsNorm>()) {
      expect(peek<ops::Embedding>() || peek<ops::RotaryTable>());
      ++at_;
    }
    Value x = first_norm();
    Value normed = result(0);
    while (!done()) {
      const Layer layer = decoder_layer(x, normed);
      x = layer.x, normed = layer.normed;
    }
    end(x);
    check_types();
    chain_.args.epsilon = *epsilon_;
    return std::move(chain_);
  }

 private:
  struct Layer {
    Value x, normed;
  };

  template <class OpType>
  bool peek() const {
    return at_ < order_.size() && std::holds_alternative<OpType>(graph_.node(order_[at_]).op);
  }
  bool done() const { return peek<ops::GatherRows>(); }

  // The next node, which must be an op of this type.
  template <class OpType>
  const OpType& next() {
    expect(peek<OpType>());
    node_ = &graph_.node(order_[at_]);
    chain_.nodes.push_back(order_[at_++]);
    return std::get<OpType>(node_->op);
  }
  const Graph& next_region(std::string_view kind) {
    const auto& region = next<ops::Region>();
    expect(region.kind == kind);
    return *region.body;
  }
  Value result(std::size_t i) const { return node_->results[i]; }
  Value input(std::size_t i) const { return node_->inputs[i]; }
  // Input i is `v`, perhaps in another shape.
  void reads(std::size_t i, Value v) const { expect(root(input(i)) == root(v)); }
  Value root(Value v) const {
    while (std::holds_alternative<ops::Reshape>(graph_.producer_node(v).op)) v = graph_.producer_node(v).inputs[0];
    return v;
  }
  const Shape& shape(Value v) const { return graph_.type(v).shape; }
  // All values of one kind are the same.
  void one(std::optional<Value>& known, Value v) const {
    expect(!known || *known == v);
    known = v;
  }
  void same(std::int32_t& known, std::int64_t n) const {
    expect(known == 0 || known == n);
    known = narrow(n);
  }
  void epsilon(float e) {
    expect(!epsilon_ || *epsilon_ == e);
    epsilon_ = e;
  }

  Value first_norm() {
    epsilon(next<ops::RmsNorm>().epsilon);
    expect(shape(input(0)).rank() == 2);
    norm_ = input(1);
    chain_.x = input(0);
    chain_.args.tokens.most = narrow(shape(input(0))[0]);
    chain_.args.hidden = narrow(shape(input(0))[1]);
    return input(0);
  }

  // A linear of `x`; its weight. A bias only where one may be.
  Value linear(Value x, std::int32_t* parts, std::optional<Value>* bias) {
    const auto& op = next<ops::Linear>();
    reads(0, x);
    expect(node_->inputs.size() == 2 || bias);
    if (node_->inputs.size() == 3) *bias = input(2);
    expect(parts || op.sum_parts == 1);
    if (parts) same(*parts, op.sum_parts);
    return input(1);
  }

  Layer decoder_layer(Value x, Value normed) {
    DecodeChain::Layer layer;
    layer.input_norm = norm_;
    layer.qkv = linear(normed, nullptr, &layer.qkv_bias);
    attention(layer);
    layer.o = linear(result(0), &chain_.args.o_parts, &layer.o_bias);
    epsilon(norm_of(next_region(kAddRmsNorm)).epsilon);
    reads(0, x), reads(1, graph_.node(chain_.nodes[chain_.nodes.size() - 2]).results[0]);
    layer.post_norm = input(2);
    const Value middle = result(0);
    layer.gate_up = linear(result(1), nullptr, nullptr);
    const Value both = result(0);
    next_region(kSiluMulHalves);
    reads(0, both);
    layer.down = linear(result(0), &chain_.args.down_parts, nullptr);
    const Value down = result(0);
    same(chain_.args.intermediate, shape(layer.down)[1]);
    expect(shape(layer.gate_up)[0] == 2 * shape(layer.down)[1]);
    chain_.layers.push_back(layer);
    if (peek<ops::Add>()) {
      next<ops::Add>();
    } else {
      epsilon(norm_of(next_region(kAddRmsNorm)).epsilon);
      norm_ = input(2);
    }
    reads(0, middle), reads(1, down);
    return {result(0), node_->results.back()};
  }

  void attention(DecodeChain::Layer& layer) {
    const Value qkv = result(0);
    epsilon(norm_of(next_region(kQkNormRopeKvWrite)).epsilon);
    reads(0, qkv);
    layer.q_norm = input(1), layer.k_norm = input(2), layer.k_cache = input(4), layer.v_cache = input(5);
    one(table_, input(3)), one(slot_mapping_, input(6));
    const Value q = result(0), k = result(1), v = result(2);
    DecodeArgs& a = chain_.args;
    same(a.num_heads, shape(q)[1]), same(a.num_kv_heads, shape(k)[1]), same(a.head_dim, shape(k)[3]);
    expect(shape(k)[2] == kKvBlock && shape(layer.qkv)[0] == (shape(q)[1] + 2 * shape(k)[1]) * shape(k)[3]);
    const auto& op = next<ops::PagedAttention>();
    expect(input(0) == q && input(1) == k && input(2) == v);
    one(block_tables_, input(3)), one(seq_indices_, input(4)), one(positions_, input(5));
    expect(chain_.layers.empty() || a.scale == op.scale);
    a.scale = op.scale;
    windows_.push_back(op.sliding_window);
  }

  void end(Value x) {
    next<ops::GatherRows>();
    reads(0, x);
    chain_.logits_indices = input(1);
    chain_.args.logits_rows.most = narrow(shape(result(0))[0]);
    const Value gathered = result(0);
    epsilon(next<ops::RmsNorm>().epsilon);
    reads(0, gathered);
    chain_.final_norm = input(1);
    chain_.head = linear(result(0), nullptr, nullptr);
    chain_.logits = result(0);
    chain_.args.vocabulary = narrow(shape(chain_.head)[0]);
    expect(at_ == order_.size() && graph_.outputs().size() == 1 && graph_.outputs()[0] == chain_.logits);
    chain_.args.num_layers = narrow(static_cast<std::int64_t>(chain_.layers.size()));
    expect(!chain_.layers.empty());
    chain_.table = *table_, chain_.slot_mapping = *slot_mapping_, chain_.block_tables = *block_tables_;
    chain_.seq_indices = *seq_indices_, chain_.positions = *positions_;
    chain_.args.max_blocks_per_seq = narrow(shape(*block_tables_)[1]);
    choose_windows();
  }

  void choose_windows() {
    std::vector<std::int64_t> known;
    for (const std::int64_t w : windows_) {
      if (std::find(known.begin(), known.end(), w) == known.end()) known.push_back(w);
      expect(known.size() <= kMostWindows && w <= INT32_MAX);
    }
    expect(chain_.layers.size() <= kMostDecodeLayers);
    for (std::size_t i = 0; i < known.size(); ++i) chain_.args.windows[i] = narrow(known[i]);
    for (std::size_t l = 0; l < windows_.size(); ++l)
      chain_.args.layers[l].window = narrow(std::find(known.begin(), known.end(), windows_[l]) - known.begin());
  }

  void check_types() const {
    const auto is_bf16 = [&](Value v, const Storage& storage) {
      expect(graph_.type(v).dtype == DType::bf16 && graph_.type(v).storage == storage);
    };
    const Storage packed = Packed{8, 8}, plain = Plain{};
    for (const auto& l : chain_.layers) {
      for (const Value v : {l.qkv, l.o, l.gate_up, l.down}) is_bf16(v, packed);
      for (const Value v : {l.input_norm, l.q_norm, l.k_norm, l.post_norm, l.k_cache, l.v_cache}) is_bf16(v, plain);
      expect(shape(l.qkv)[1] == chain_.args.hidden && shape(l.gate_up)[1] == chain_.args.hidden);
      expect(shape(l.o)[0] == chain_.args.hidden && shape(l.down)[0] == chain_.args.hidden);
      expect(shape(l.o)[1] == std::int64_t{chain_.args.num_heads} * chain_.args.head_dim);
    }
    is_bf16(chain_.head, packed), is_bf16(chain_.x, plain), is_bf16(chain_.table, plain);
    is_bf16(chain_.final_norm, plain);
  }

  static constexpr std::int64_t kKvBlock = 64;

  const Graph& graph_;
  std::vector<std::uint32_t> order_;
  std::size_t at_ = 0;
  const Node* node_ = nullptr;
  Value norm_;
  std::optional<float> epsilon_;
  std::optional<Value> table_, slot_mapping_, block_tables_, seq_indices_, positions_;
  std::vector<std::int64_t> windows_;
  DecodeChain chain_;
};

}  // namespace

bool DecodeChain::has(std::uint32_t node) const { return std::binary_search(nodes.begin(), nodes.end(), node); }

std::optional<DecodeChain> find_decode_chain(const Graph& graph) {
  try {
    DecodeChain chain = Matcher(graph).run();
    if (decode_persistent_accepts(chain.args)) return chain;
  } catch (const NoMatch&) {
  }
  return std::nullopt;
}

std::function<void(cudaStream_t)> decode_launch(const DecodeChain& chain, const Places& places) {
  struct Launched {
    DecodeArgs args;
    DecodeMaps maps;
  };
  auto made = std::make_shared<Launched>();
  DecodeArgs& a = made->args = chain.args;
  const auto at = [&](Value v) { return static_cast<void*>(places.at(v)); };
  const auto maybe = [&](const std::optional<Value>& v) { return v ? at(*v) : nullptr; };
  const auto ints = [&](Value v) { return reinterpret_cast<const std::int32_t*>(places.at(v)); };
  a.tokens.live = &places.header->num_tokens, a.logits_rows.live = &places.header->num_logits;
  a.serial = &places.header->serial;
  a.x = at(chain.x), a.table = at(chain.table), a.final_norm = at(chain.final_norm), a.head = at(chain.head);
  a.slot_mapping = ints(chain.slot_mapping), a.block_tables = ints(chain.block_tables);
  a.seq_indices = ints(chain.seq_indices), a.positions = ints(chain.positions);
  a.logits_indices = ints(chain.logits_indices), a.logits = at(chain.logits);
  a.exchange = places.keep(decode_exchange_bytes(a));
  for (std::size_t l = 0; l < chain.layers.size(); ++l) {
    const DecodeChain::Layer& from = chain.layers[l];
    DecodeLayer& to = a.layers[l];
    to.input_norm = at(from.input_norm), to.qkv = at(from.qkv), to.q_norm = at(from.q_norm);
    to.k_norm = at(from.k_norm), to.o = at(from.o), to.post_norm = at(from.post_norm);
    to.gate_up = at(from.gate_up), to.down = at(from.down);
    to.qkv_bias = maybe(from.qkv_bias), to.o_bias = maybe(from.o_bias);
    to.k_cache = at(from.k_cache), to.v_cache = at(from.v_cache);
    if (!encode_cache(made->maps.k[l], to.k_cache, a.head_dim) ||
        !encode_cache(made->maps.v[l], to.v_cache, a.head_dim))
      fail(ErrorCode::unavailable, "CUDA: the driver describes no tensor of rows of ", a.head_dim,
           " numbers to the copy engine", remedy("update the driver"));
  }
  return [made](cudaStream_t stream) { decode_persistent(made->args, made->maps, stream); };
}

}  // namespace cajal::cuda
