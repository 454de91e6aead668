#include "backends/cuda/decode_chain.h"

#include <algorithm>

#include "backends/cuda/match.h"
#include "compiler/passes.h"

namespace cajal::cuda {
namespace {

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
    while (!peek<ops::GatherRows>()) {
      const Hidden hidden = decoder_layer(x, normed);
      x = hidden.x, normed = hidden.normed;
    }
    end(x);
    check_types();
    chain_.epsilon = *epsilon_;
    return std::move(chain_);
  }

 private:
  struct Hidden {
    Value x, normed;
  };

  template <class OpType>
  bool peek() const {
    return at_ < order_.size() && std::holds_alternative<OpType>(graph_.node(order_[at_]).op);
  }
  void advance() { node_ = &graph_.node(order_[at_++]); }
  // The next node, which must be an op of this type, in the launch at hand.
  template <class OpType>
  const OpType& next() {
    expect(peek<OpType>());
    chain_.launches.back().push_back(order_[at_]);
    advance();
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
  static void same(std::int32_t& known, std::int64_t n) {
    expect(known == 0 || known == n);
    known = narrow(n);
  }
  void epsilon(float e) {
    expect(!epsilon_ || *epsilon_ == e);
    epsilon_ = e;
  }

  Value first_norm() {
    chain_.launches.emplace_back();
    epsilon(next<ops::RmsNorm>().epsilon);
    expect(shape(input(0)).rank() == 2);
    norm_ = input(1);
    chain_.x = input(0);
    chain_.rows = narrow(shape(input(0))[0]), chain_.hidden = narrow(shape(input(0))[1]);
    return input(0);
  }

  DecodeChain::Linear linear(Value x) {
    const auto& op = next<ops::Linear>();
    reads(0, x);
    DecodeChain::Linear linear{order_[at_ - 1], input(1), {}, op.sum_parts};
    if (node_->inputs.size() == 3) linear.bias = input(2);
    return linear;
  }

  Hidden decoder_layer(Value x, Value normed) {
    DecodeChain::Layer layer;
    layer.input_norm = norm_;
    layer.qkv = linear(normed);
    layer.qkv_result = result(0);
    layer.attended = attention(layer.qkv_result);
    chain_.launches.emplace_back();
    layer.o = linear(layer.attended);
    const Value o = result(0);
    epsilon(norm_of(next_region(kAddRmsNorm)).epsilon);
    reads(0, x), reads(1, o);
    layer.post_norm = input(2);
    const Value middle = result(0);
    layer.gate_up = linear(result(1));
    expect(!layer.gate_up.bias && layer.gate_up.parts == 1);
    const Value both = result(0);
    next_region(kSiluMulHalves);
    reads(0, both);
    layer.down = linear(result(0));
    const Value down = result(0);
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

  // Kernels of their own: nothing of theirs matters but what they read and leave.
  Value attention(Value qkv) {
    expect(peek<ops::Region>());
    advance();
    expect(std::get<ops::Region>(node_->op).kind == kQkNormRopeKvWrite);
    reads(0, qkv);
    const Value q = result(0);
    expect(peek<ops::PagedAttention>());
    advance();
    expect(input(0) == q);
    return result(0);
  }

  void end(Value x) {
    next<ops::GatherRows>();
    reads(0, x);
    chain_.logits_indices = input(1);
    chain_.logits_rows = narrow(shape(result(0))[0]);
    const Value gathered = result(0);
    epsilon(next<ops::RmsNorm>().epsilon);
    reads(0, gathered);
    chain_.final_norm = input(1);
    chain_.head = linear(result(0));
    chain_.logits = result(0);
    expect(!chain_.layers.empty() && at_ == order_.size());
    expect(graph_.outputs().size() == 1 && graph_.outputs()[0] == chain_.logits);
  }

  void check_types() {
    const auto is_bf16 = [&](Value v, const Storage& storage) {
      expect(graph_.type(v).dtype == DType::bf16 && graph_.type(v).storage == storage);
    };
    const auto is_linear = [&](const DecodeChain::Linear& l, std::int32_t& outputs, std::int32_t& inputs) {
      is_bf16(l.weight, Packed{8, 8});
      if (l.bias) is_bf16(*l.bias, Plain{});
      same(outputs, shape(l.weight)[0]), same(inputs, shape(l.weight)[1]);
    };
    std::int32_t both = 0;
    for (const auto& l : chain_.layers) {
      is_linear(l.qkv, chain_.qkv_columns, chain_.hidden), is_linear(l.o, chain_.hidden, chain_.heads_columns);
      is_linear(l.gate_up, both, chain_.hidden), is_linear(l.down, chain_.hidden, chain_.intermediate);
      is_bf16(l.input_norm, Plain{}), is_bf16(l.post_norm, Plain{});
    }
    expect(both == 2 * chain_.intermediate);
    is_linear(chain_.head, chain_.vocabulary, chain_.hidden);
    is_bf16(chain_.x, Plain{}), is_bf16(chain_.final_norm, Plain{});
  }

  const Graph& graph_;
  std::vector<std::uint32_t> order_;
  std::size_t at_ = 0;
  const Node* node_ = nullptr;
  Value norm_;
  std::optional<float> epsilon_;
  DecodeChain chain_;
};

// Where launches find their memory: nowhere yet, when only sizes matter.
class Builder {
 public:
  Builder(const DecodeChain& chain, const Places* places, std::int32_t spare_bytes)
      : chain_(chain), places_(places), spare_bytes_(spare_bytes) {
    if (places) exchange_ = places->keep(copies() * 3 * set_bytes());
  }

  // Launches from here on are chain_row's: all of a step, since one cleans what another writes.
  void use_row_kernel() { copy_apart_ = static_cast<std::int64_t>(3 * set_bytes()); }

  ChainArgs launch(std::size_t i) {
    ChainArgs a{};
    a.tokens = {chain_.rows, places_ ? &places_->header->num_tokens : nullptr, 1};
    a.logits_rows = {chain_.logits_rows, places_ ? &places_->header->num_logits : nullptr, 1};
    a.logits_indices = reinterpret_cast<const std::int32_t*>(at(chain_.logits_indices));
    a.epsilon = chain_.epsilon, a.spare_bytes = spare_bytes_;
    a.first_block = first_block_;
    a.copy_apart = copy_apart_;
    const void* x = at(chain_.x);
    if (i > 0) x = rest_of_layer(a, i - 1);
    const bool last = i == chain_.layers.size();
    ChainLinear& l = add(a, last ? chain_.head : chain_.layers[i].qkv, last ? chain_.vocabulary : chain_.qkv_columns,
                         chain_.hidden, x);
    l.norm = at(last ? chain_.final_norm : chain_.layers[i].input_norm);
    l.y = at(last ? chain_.logits : chain_.layers[i].qkv_result);
    l.result = last ? ChainResult::logits : ChainResult::store;
    l.exchanged = i > 0;
    if (!last) {
      a.clean = set(i), a.clean_bytes = static_cast<std::int64_t>(set_bytes());
    }
    for (int n = 0; n < a.num_linears; ++n) first_block_ += a.linears[n].out_features / 16;
    return a;
  }

 private:
  // Somewhere, at least, where only sizes matter: whether there is a norm is one of them.
  std::byte* at(Value v) const {
    static std::byte somewhere;
    return places_ ? places_->at(v) : &somewhere;
  }

  // Three sets of buffers take turns: layer l works in set l % 3, reads what layer l - 1 left in the one before, and cleans
  // the one after, which nobody has touched since launches that are long over. So no step depends on what an earlier one left.
  std::size_t row_elements() const {
    return 2 * static_cast<std::size_t>(chain_.hidden) + static_cast<std::size_t>(chain_.intermediate);
  }
  std::size_t set_bytes() const {
    return round_up(static_cast<std::size_t>(chain_.rows) * row_elements() * 2, std::size_t{128});
  }
  std::size_t copies() const { return chain_.rows == 1 ? kChainCopies : 1; }
  std::byte* set(std::size_t layer) const { return places_ ? exchange_ + layer % 3 * set_bytes() : nullptr; }
  std::byte* buffer(std::size_t layer, std::int64_t columns_before) const {
    return places_ ? set(layer) + chain_.rows * columns_before * 2 : nullptr;
  }
  std::byte* middle(std::size_t layer) const { return buffer(layer, 0); }
  std::byte* out(std::size_t layer) const { return buffer(layer, chain_.hidden); }
  std::byte* activated(std::size_t layer) const { return buffer(layer, std::int64_t{2} * chain_.hidden); }

  ChainLinear& add(ChainArgs& a, const DecodeChain::Linear& from, std::int32_t outputs, std::int32_t inputs,
                   const void* x) const {
    ChainLinear& l = a.linears[a.num_linears++];
    l.weight = at(from.weight), l.bias = from.bias ? at(*from.bias) : nullptr, l.x = x;
    l.in_features = inputs, l.out_features = outputs, l.parts = from.parts;
    return l;
  }

  // From o on; what the layer leaves.
  const void* rest_of_layer(ChainArgs& a, std::size_t i) const {
    const DecodeChain::Layer& layer = chain_.layers[i];
    ChainLinear& o = add(a, layer.o, chain_.hidden, chain_.heads_columns, at(layer.attended));
    o.result = ChainResult::residual, o.previous = i == 0 ? at(chain_.x) : out(i - 1), o.y = middle(i);
    ChainLinear& gate_up = add(a, layer.gate_up, 2 * chain_.intermediate, chain_.hidden, middle(i));
    gate_up.result = ChainResult::silu_mul, gate_up.norm = at(layer.post_norm), gate_up.y = activated(i);
    gate_up.exchanged = true;
    ChainLinear& down = add(a, layer.down, chain_.hidden, chain_.intermediate, activated(i));
    down.result = ChainResult::residual, down.previous = middle(i), down.y = out(i), down.exchanged = true;
    return down.y;
  }

  const DecodeChain& chain_;
  const Places* places_;
  std::int32_t spare_bytes_;
  std::byte* exchange_ = nullptr;
  std::int32_t first_block_ = 0;
  std::int64_t copy_apart_ = 0;
};

// Whether a kernel takes all launches.
bool accepts(const DecodeChain& chain, std::int32_t spare_bytes, bool (&kernel)(const ChainArgs&)) {
  Builder builder(chain, nullptr, spare_bytes);
  for (std::size_t i = 0; i <= chain.layers.size(); ++i)
    if (!kernel(builder.launch(i))) return false;
  return true;
}

// The same work, a linear at a time, so that each can be timed.
std::vector<Launch> apart(const ChainArgs& a, const std::vector<std::uint32_t>& nodes) {
  std::vector<Launch> launches;
  for (int i = 0; i < a.num_linears; ++i) {
    ChainArgs one = a;
    one.linears[0] = a.linears[i], one.num_linears = 1;
    if (i > 0) one.clean = nullptr;
    launches.push_back(
        {nodes[static_cast<std::size_t>(i)], [one](cudaStream_t stream) { cuda::chain(one, stream); }, {}});
  }
  return launches;
}

}  // namespace

std::optional<std::size_t> DecodeChain::launch_of(std::uint32_t node) const {
  for (std::size_t i = 0; i < launches.size(); ++i)
    if (std::binary_search(launches[i].begin(), launches[i].end(), node)) return i;
  return std::nullopt;
}

bool leaves_room(const DecodeChain& chain, std::int32_t spare_bytes) {
  return accepts(chain, spare_bytes, chain_accepts);
}

std::int64_t DecodeChain::layer_bytes() const {
  return std::int64_t{2} * hidden * (qkv_columns + heads_columns + 3 * intermediate);
}

std::optional<DecodeChain> find_decode_chain(const Graph& graph) {
  try {
    DecodeChain chain = Matcher(graph).run();
    if (accepts(chain, 0, chain_accepts)) return chain;
  } catch (const NoMatch&) {
  }
  return std::nullopt;
}

std::vector<Launch> chain_launches(const DecodeChain& chain, const Places& places, std::int32_t spare_bytes) {
  std::vector<Launch> launches;
  const std::int32_t spare = leaves_room(chain, spare_bytes) ? spare_bytes : 0;
  Builder builder(chain, &places, spare);
  if (accepts(chain, spare, chain_row_accepts)) builder.use_row_kernel();
  for (std::size_t i = 0; i <= chain.layers.size(); ++i) {
    const ChainArgs a = builder.launch(i);
    CAJAL_CHECK(chain_accepts(a));
    std::vector<std::uint32_t> linears;
    if (i > 0) {
      const DecodeChain::Layer& layer = chain.layers[i - 1];
      linears = {layer.o.node, layer.gate_up.node, layer.down.node};
    }
    linears.push_back(i < chain.layers.size() ? chain.layers[i].qkv.node : chain.head.node);
    launches.push_back(
        {chain.launches[i].back(), [a](cudaStream_t stream) { cuda::chain(a, stream); }, apart(a, linears)});
  }
  return launches;
}

}  // namespace cajal::cuda
