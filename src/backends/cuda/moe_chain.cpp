#include "backends/cuda/moe_chain.h"

#include <algorithm>

#include "backends/cuda/match.h"
#include "compiler/passes.h"

namespace cajal::cuda {
namespace {

class Matcher {
 public:
  explicit Matcher(const Graph& graph) : graph_(graph), readers_(graph.num_values()), wanted_(graph.num_values()) {
    for (std::uint32_t n = 0; n < graph.nodes().size(); ++n)
      for (const Value v : graph.node(n).inputs) readers_[v.id].push_back(n);
    for (const Value v : graph.outputs()) wanted_[v.id] = true;
  }

  MoeChain match(std::uint32_t experts) {
    chain_ = {};
    chain_.experts = experts;
    const Node& node = take(experts);
    expect(std::get<ops::MoeExperts>(node.op).sum_parts == 1);
    const Value normed = node.inputs[0];
    chain_.gate_up = weight(node.inputs[3]), chain_.down = weight(node.inputs[4]);
    const Value middle = before(normed, route(node, normed));
    after(experts, middle);
    std::sort(chain_.nodes.begin(), chain_.nodes.end());
    for (std::uint32_t n = chain_.nodes.front(); n <= chain_.nodes.back(); ++n)
      expect(std::binary_search(chain_.nodes.begin(), chain_.nodes.end(), n) || is_leaf(graph_.node(n).op) ||
             std::holds_alternative<ops::Reshape>(graph_.node(n).op));
    sizes();
    expect(moe_chain_accepts(chain_.args));
    return std::move(chain_);
  }

 private:
  const Node& take(std::uint32_t n) {
    chain_.nodes.push_back(n);
    return graph_.node(n);
  }
  const Shape& shape(Value v) const { return graph_.type(v).shape; }
  // Nobody reads `v` but these.
  void only(Value v, std::vector<std::uint32_t> readers) const {
    std::sort(readers.begin(), readers.end());
    expect(readers_[v.id] == readers && !wanted_[v.id]);
  }
  Value weight(Value v) const {
    const TensorType& type = graph_.type(v);
    expect(type.dtype == DType::bf16 && type.storage == Storage(Packed{kTile, kTile}));
    return v;
  }
  // A product without a bias, in one sum; its weight.
  Value linear(std::uint32_t n) {
    const auto* op = std::get_if<ops::Linear>(&graph_.node(n).op);
    expect(op && !op->partial && op->sum_parts == 1 && graph_.node(n).inputs.size() == 2);
    return weight(take(n).inputs[1]);
  }
  float epsilon_of(const Node& node) const {
    const auto* region = std::get_if<ops::Region>(&node.op);
    expect(region && region->kind == kAddRmsNorm);
    for (const Node& inner : region->body->nodes())
      if (const auto* norm = std::get_if<ops::RmsNorm>(&inner.op)) return norm->epsilon;
    throw NoMatch{};
  }

  // The router of these experts; the node of its product.
  std::uint32_t route(const Node& experts, Value normed) {
    const Value weights = experts.inputs[1], ids = experts.inputs[2];
    const std::uint32_t router = graph_.producer(weights);
    const auto* op = std::get_if<ops::Router>(&graph_.node(router).op);
    expect(op && op->capacity_factor == 0 && graph_.producer(ids) == router);
    const Value logits = take(router).inputs[0];
    const std::uint32_t gate = graph_.producer(logits);
    chain_.router = linear(gate);
    expect(graph_.node(gate).inputs[0] == normed);
    only(logits, {router});
    for (const auto& [value, into] : {std::pair{weights, &chain_.weights}, std::pair{ids, &chain_.ids}})
      if (wanted_[value.id] || readers_[value.id].size() > 1) *into = value;
    chain_.args.top_k = op->top_k, chain_.args.norm_topk_prob = op->norm_topk_prob;
    return gate;
  }

  // What comes before the experts' input: the sum with the residual, which is returned.
  Value before(Value normed, std::uint32_t gate) {
    const std::uint32_t first = graph_.producer(normed);
    chain_.args.epsilon = epsilon_of(graph_.node(first));
    const Node& region = take(first);
    expect(region.results[1] == normed);
    only(normed, {gate, chain_.experts});
    chain_.x = region.inputs[0], chain_.norm = region.inputs[2];
    const std::uint32_t o = graph_.producer(region.inputs[1]);
    chain_.o = linear(o);
    chain_.attention = graph_.node(o).inputs[0];
    only(region.inputs[1], {first});
    return region.results[0];
  }

  // The sum after the experts, and if a layer follows, its norm and its first product.
  void after(std::uint32_t experts, Value middle) {
    const Value y = graph_.node(experts).results[0];
    expect(readers_[y.id].size() == 1);
    const std::uint32_t last = readers_[y.id][0];
    only(y, {last}), only(middle, {last});
    const Node& node = take(last);
    expect(node.inputs[0] == middle && node.inputs[1] == y);
    chain_.sum = node.results[0];
    if (std::holds_alternative<ops::Add>(node.op)) return;
    chain_.args.next_epsilon = epsilon_of(node);
    chain_.next_norm = node.inputs[2];
    const Value normed = node.results[1];
    expect(readers_[normed.id].size() == 1);
    const std::uint32_t qkv = readers_[normed.id][0];
    only(normed, {qkv});
    chain_.qkv = linear(qkv);
    chain_.qkv_out = graph_.node(qkv).results[0];
  }

  void sizes() {
    expect(graph_.type(chain_.x).dtype == DType::bf16 && shape(chain_.x).rank() == 2);
    expect(graph_.type(chain_.norm).storage == Storage(Plain{}));
    MoeChainArgs& a = chain_.args;
    a.rows.most = narrow(shape(chain_.x)[0]), a.hidden = narrow(shape(chain_.x)[1]);
    a.attention_columns = narrow(shape(chain_.o)[1]), a.num_experts = narrow(shape(chain_.router)[0]);
    a.intermediate = narrow(shape(chain_.down)[2]);
    if (chain_.qkv) a.qkv_columns = narrow(shape(*chain_.qkv)[0]);
  }

  static constexpr int kTile = 8;

  const Graph& graph_;
  std::vector<std::vector<std::uint32_t>> readers_;  // by value
  std::vector<bool> wanted_;                         // outputs
  MoeChain chain_;
};

}  // namespace

MoeChains::MoeChains(const Graph& graph) {
  Matcher matcher(graph);
  for (std::uint32_t n = 0; n < graph.nodes().size(); ++n) try {
      if (!std::holds_alternative<ops::MoeExperts>(graph.node(n).op)) continue;
      MoeChain chain = matcher.match(n);
      expect(chains_.empty() || moe_chain_exchange_bytes(chain.args) == moe_chain_exchange_bytes(chains_[0].args));
      chains_.push_back(std::move(chain));
    } catch (const NoMatch&) {
    }
}

const MoeChain* MoeChains::of(std::uint32_t node) const {
  for (const MoeChain& chain : chains_)
    if (std::binary_search(chain.nodes.begin(), chain.nodes.end(), node)) return &chain;
  return nullptr;
}

std::function<void(cudaStream_t)> MoeChains::launch(const MoeChain& chain, const Places& places) {
  if (!exchange_) exchange_ = places.keep(moe_chain_exchange_bytes(chain.args));
  const auto at = [&](const std::optional<Value>& v) -> std::byte* { return v ? places.at(*v) : nullptr; };
  MoeChainArgs a = chain.args;
  a.rows.live = &places.header->num_tokens, a.serial = &places.header->serial;
  a.attention = at(chain.attention), a.x = at(chain.x), a.o = at(chain.o), a.norm = at(chain.norm);
  a.router = at(chain.router), a.gate_up = at(chain.gate_up), a.down = at(chain.down);
  a.next_norm = at(chain.next_norm), a.qkv = at(chain.qkv), a.qkv_out = at(chain.qkv_out);
  a.sum = at(chain.sum), a.weights = at(chain.weights);
  a.ids = reinterpret_cast<std::int32_t*>(at(chain.ids));
  a.ordinal = narrow(&chain - chains_.data()), a.chains = narrow(static_cast<std::int64_t>(chains_.size()));
  a.exchange = exchange_;
  return [a](cudaStream_t stream) { moe_chain(a, stream); };
}

}  // namespace cajal::cuda
