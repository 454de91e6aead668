#include "backends/cpu/choose_shard.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/checked.h"

namespace cajal::cpu {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();

bool likelier(const Candidate& a, const Candidate& b) {
  return a.value > b.value || (a.value == b.value && a.token_id < b.token_id);
}

bool finite(float x) {
  constexpr std::uint32_t kExponent = 0x7f800000u;
  return (std::bit_cast<std::uint32_t>(x) & kExponent) != kExponent;
}

std::uint64_t weight_of(float value, float largest) {
  return exp_weight(static_cast<double>(value) - static_cast<double>(largest));
}

float value_of(float logit, float temperature) { return temperature == 1 ? logit : logit / temperature; }

// Random numbers of one row; of four tokens at a time.
class Draw {
 public:
  explicit Draw(const DrawKey& key) : key_(key) {}
  double score(const Candidate& c) {
    const auto id = static_cast<std::uint32_t>(c.token_id);
    if (id / 4 != block_) bits_ = key_.bits(block_ = id / 4);
    return static_cast<double>(c.value) + gumbel_of(bits_.words[id % 4]);
  }

 private:
  const DrawKey& key_;
  std::uint32_t block_ = ~std::uint32_t{0};
  PhiloxBlock bits_{};
};

struct Best {
  double score = -std::numeric_limits<double>::infinity();
  Candidate who;
  void take(double other, const Candidate& c) {
    if (other > score || (other == score && c.token_id < who.token_id)) score = other, who = c;
  }
};

// The likeliest tokens in order, as many as there is room for. Returns the largest value that found none.
float keep_likeliest(const ShardLogits& shard, float temperature, std::span<Candidate> room, std::int32_t& kept) {
  std::size_t n = 0;
  float left_out = kNothing;
  for (std::size_t i = 0; i < shard.logits.size(); ++i) {
    const float logit = shard.logits[i];
    const Candidate c{value_of(logit, temperature), logit,
                      static_cast<std::int32_t>(shard.first_id + static_cast<std::int64_t>(i))};
    if (n < room.size()) {
      room[n++] = c;
      std::push_heap(room.begin(), room.begin() + static_cast<std::ptrdiff_t>(n), likelier);
    } else if (room.empty() || !likelier(c, room.front())) {
      left_out = std::max(left_out, c.value);
    } else {
      std::pop_heap(room.begin(), room.end(), likelier);
      left_out = std::max(left_out, room.back().value);
      room.back() = c;
      std::push_heap(room.begin(), room.end(), likelier);
    }
  }
  std::sort_heap(room.begin(), room.begin() + static_cast<std::ptrdiff_t>(n), likelier);
  kept = static_cast<std::int32_t>(n);
  return left_out;
}

void draw_among_all(const RowSampling& how, const ShardLogits& shard, const ShardHead& head, ShardBody& body) {
  Best best;
  Draw draw(how.key);
  const double threshold = static_cast<double>(value_of(head.largest, how.temperature)) + how.log_min_p;
  for (std::size_t i = 0; i < shard.logits.size(); ++i) {
    const float logit = shard.logits[i];
    const Candidate c{value_of(logit, how.temperature), logit,
                      static_cast<std::int32_t>(shard.first_id + static_cast<std::int64_t>(i))};
    const auto value = static_cast<double>(c.value);
    // Most tokens could not win with the luckiest draw.
    if (value < threshold || !(value + kMostGumbel > best.score)) continue;
    best.take(draw.score(c), c);
  }
  body.score = best.score, body.drawn = best.who;
}

// All ranks' candidates in order.
void merge_candidates(std::span<const Packet> packets, std::vector<Candidate>& merged) {
  merged.clear();
  for (const Packet& p : packets)
    merged.insert(merged.end(), p.candidates.begin(), p.candidates.begin() + p.body->num_candidates);
  std::sort(merged.begin(), merged.end(), likelier);
}

// Of ordered candidates, how many top-k and top-p keep; -1: that cannot be known.
std::ptrdiff_t num_kept(const RowSampling& how, std::span<const Packet> packets, std::span<const Candidate> all,
                        std::int64_t vocab_size) {
  float left_out = kNothing;
  std::uint64_t total = 0;
  for (const Packet& p : packets) left_out = std::max(left_out, p.body->best_left_out), total += p.body->drawn_weights;
  const float largest = all.front().value;
  auto kept = std::ssize(all);
  if (how.top_k > 0 && how.top_k < vocab_size) {
    const float kth = all[static_cast<std::size_t>(how.top_k) - 1].value;
    if (left_out >= kth) return -1;
    kept = std::count_if(all.begin(), all.end(), [kth](const Candidate& c) { return c.value >= kth; });
    total = 0;
    for (const Candidate& c : all.first(static_cast<std::size_t>(kept))) total += weight_of(c.value, largest);
    left_out = kNothing;
  }
  if (how.top_p >= 1) return kept;
  std::uint64_t sum = 0;
  std::ptrdiff_t n = 0;
  for (; n == 0 || top_p_keeps(sum, how.top_p, total); ++n) {
    if (n == kept) return left_out == kNothing ? kept : -1;
    const float value = all[static_cast<std::size_t>(n)].value;
    if (value <= left_out) return -1;
    sum += weight_of(value, largest);
  }
  return n;
}

bool draw(const RowSampling& how, std::span<const Packet> packets, std::int64_t vocab_size,
          std::vector<Candidate>& scratch, Candidate& chosen) {
  Best best;
  if (candidates_needed(how, vocab_size) == 0) {
    for (const Packet& p : packets)
      if (p.body->drawn.token_id >= 0) best.take(p.body->score, p.body->drawn);
    chosen = best.who;
    return true;
  }
  merge_candidates(packets, scratch);
  const std::ptrdiff_t kept = num_kept(how, packets, scratch, vocab_size);
  if (kept < 0) return false;
  Draw numbers(how.key);
  const double threshold = static_cast<double>(scratch.front().value) + how.log_min_p;
  for (std::ptrdiff_t i = 0; i < kept; ++i) {
    const Candidate& c = scratch[static_cast<std::size_t>(i)];
    if (static_cast<double>(c.value) >= threshold) best.take(numbers.score(c), c);
  }
  chosen = best.who;
  return true;
}

void merge_top(const RowSampling& how, std::span<const Packet> packets, std::vector<Candidate>& scratch,
               RowChoice& choice) {
  scratch.clear();
  for (const Packet& p : packets) scratch.insert(scratch.end(), p.top.begin(), p.top.begin() + p.body->num_top);
  std::sort(scratch.begin(), scratch.end(), likelier);
  choice.num_top = static_cast<std::int32_t>(std::min<std::ptrdiff_t>(how.num_logprobs, std::ssize(scratch)));
  for (std::int32_t i = 0; i < choice.num_top; ++i) {
    choice.top_ids[i] = scratch[static_cast<std::size_t>(i)].token_id;
    choice.top_logits[i] = scratch[static_cast<std::size_t>(i)].logit;
  }
}

}  // namespace

ShardHead head_of(const ShardLogits& shard) {
  ShardHead head{.largest = kNothing, .token_id = -1, .not_finite = 0};
  for (std::size_t i = 0; i < shard.logits.size(); ++i) {
    const float logit = shard.logits[i];
    head.not_finite |= !finite(logit);
    if (head.token_id >= 0 && !(logit > head.largest)) continue;
    head.largest = logit;
    head.token_id = static_cast<std::int32_t>(shard.first_id + static_cast<std::int64_t>(i));
  }
  return head;
}

ShardHead merge_heads(std::span<const ShardHead> heads) {
  ShardHead all{.largest = kNothing, .token_id = -1, .not_finite = 0};
  for (const ShardHead& head : heads) {
    all.not_finite |= head.not_finite;
    if (head.token_id >= 0 && (all.token_id < 0 || head.largest > all.largest))
      all.largest = head.largest, all.token_id = head.token_id;
  }
  return all;
}

std::int64_t candidates_needed(const RowSampling& how, std::int64_t vocab_size) {
  constexpr std::int64_t kEquals = 32;  // of the k-th value, which top-k keeps
  if (how.how != ChooseHow::draw) return 0;
  if (how.top_k > 0 && how.top_k < vocab_size) return std::min(how.top_k + kEquals, kMostCandidates);
  return how.top_p < 1 ? kMostCandidates : 0;
}

std::int64_t PacketRoom::bytes() const {
  const auto all = static_cast<std::int64_t>(sizeof(Candidate)) * (candidates + top);
  return static_cast<std::int64_t>(sizeof(ShardBody)) + round_up<std::int64_t>(all, alignof(ShardBody));
}

Packet::Packet(std::byte* bytes, const PacketRoom& room) : body(reinterpret_cast<ShardBody*>(bytes)) {
  auto* const first = reinterpret_cast<Candidate*>(bytes + sizeof(ShardBody));
  candidates = {first, static_cast<std::size_t>(room.candidates)};
  top = {first + room.candidates, static_cast<std::size_t>(room.top)};
}

void describe(const RowSampling& how, const ShardLogits& shard, const ShardHead& head, std::int64_t vocab_size,
              const Packet& packet) {
  ShardBody& body = *packet.body = {};
  if (how.how == ChooseHow::on_host || head.not_finite) return;
  if (how.num_logprobs >= 0)
    for (const float logit : shard.logits) body.sum_of_weights += weight_of(logit, head.largest);
  if (how.num_logprobs > 0)
    keep_likeliest(shard, 1, packet.top.first(static_cast<std::size_t>(how.num_logprobs)), body.num_top);
  if (how.how != ChooseHow::draw) return;
  const std::int64_t wanted = candidates_needed(how, vocab_size);
  if (wanted == 0) return draw_among_all(how, shard, head, body);
  body.best_left_out = keep_likeliest(shard, how.temperature, packet.candidates.first(static_cast<std::size_t>(wanted)),
                                      body.num_candidates);
  if (how.top_p < 1) {
    const float largest = value_of(head.largest, how.temperature);
    for (const float logit : shard.logits) body.drawn_weights += weight_of(value_of(logit, how.temperature), largest);
  }
}

RowChoice decide(const RowSampling& how, const ShardHead& head, std::span<const Packet> packets,
                 std::int64_t vocab_size, std::vector<Candidate>& scratch) {
  RowChoice choice;
  if (how.how == ChooseHow::on_host) return choice;
  choice.status = head.not_finite ? ChoiceStatus::not_finite : ChoiceStatus::chosen;
  if (head.not_finite) return choice;
  Candidate chosen{head.largest, head.largest, head.token_id};
  if (how.how == ChooseHow::draw && !draw(how, packets, vocab_size, scratch, chosen)) {
    choice.status = ChoiceStatus::on_host;
    return choice;
  }
  choice.token_id = chosen.token_id, choice.logit = chosen.logit, choice.largest = head.largest;
  for (const Packet& p : packets) choice.sum_of_weights += p.body->sum_of_weights;
  if (how.num_logprobs > 0) merge_top(how, packets, scratch, choice);
  return choice;
}

}  // namespace cajal::cpu
