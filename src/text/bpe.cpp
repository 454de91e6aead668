#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>
#include <string>

#include "base/error.h"
#include "text/byte_level.h"

namespace cajal {
namespace {

// Up to here a look at every pair for each merge is quicker than a heap.
constexpr std::size_t kShort = 32;
constexpr std::int32_t kNoMerge = std::numeric_limits<std::int32_t>::max();
constexpr std::uint32_t kEnd = std::numeric_limits<std::uint32_t>::max();

std::uint64_t pair_of(std::int32_t left, std::int32_t right) {
  return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

std::size_t slot_of(std::uint64_t pair, std::size_t slots) {
  return static_cast<std::size_t>((pair * 0x9e3779b97f4a7c15) >> (64 - std::countr_zero(slots)));
}

}  // namespace

Bpe::Bpe(Vocabulary vocabulary, std::size_t merges)
    : vocabulary_(std::move(vocabulary)),
      merges_(std::bit_ceil(merges + merges / 2 + 2)),
      whole_(std::make_unique<std::atomic<Whole>[]>(static_cast<std::size_t>(vocabulary_.size()))) {
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    byte_ids_[byte] = vocabulary_.find_bytes({&c, 1});
  }
}

void Bpe::add_merge(std::string_view left, std::string_view right) {
  const auto id_of = [&](std::string_view token) {
    const std::optional<std::int32_t> id = vocabulary_.find(token);
    if (!id)
      fail(ErrorCode::data_loss, "merge ", next_rank_, " is \"", left, "\" + \"", right, "\", but \"", token,
           "\" is not in the vocabulary");
    return *id;
  };
  const std::uint64_t pair = pair_of(id_of(left), id_of(right));
  const std::int32_t joined = id_of(std::string(left).append(right));
  std::size_t at = slot_of(pair, merges_.size());
  while (merges_[at].pair != pair && merges_[at].pair != ~std::uint64_t{0}) at = (at + 1) & (merges_.size() - 1);
  merges_[at] = {pair, next_rank_++, joined};
  CAJAL_CHECK(static_cast<std::size_t>(next_rank_) < merges_.size(), "more merges than announced");
}

bool Bpe::has_all_bytes() const {
  return std::none_of(byte_ids_.begin(), byte_ids_.end(), [](std::int32_t id) { return id < 0; });
}

const Bpe::Merge* Bpe::find_merge(std::int32_t left, std::int32_t right) const {
  const std::uint64_t pair = pair_of(left, right);
  for (std::size_t at = slot_of(pair, merges_.size());; at = (at + 1) & (merges_.size() - 1)) {
    if (merges_[at].pair == pair) return &merges_[at];
    if (merges_[at].pair == ~std::uint64_t{0}) return nullptr;
  }
}

void Bpe::to_symbols(std::string_view piece, std::vector<std::int32_t>& ids) const {
  ids.clear();
  bool after_unknown = false;
  for (const char c : piece) {
    const std::int32_t id = byte_ids_[static_cast<unsigned char>(c)];
    if (id >= 0) {
      ids.push_back(id);
      after_unknown = false;
    } else if (options_.unknown >= 0) {
      if (!(after_unknown && options_.fuse_unknown)) ids.push_back(options_.unknown);
      after_unknown = true;
    }
  }
}

// Both merge `s.ids` in place and return how many are left.
std::size_t Bpe::merge_short(Scratch& s) const {
  std::size_t n = s.ids.size();
  std::int32_t ranks[kShort], joined[kShort];
  const auto look = [&](std::size_t i) {
    const Merge* merge = find_merge(s.ids[i], s.ids[i + 1]);
    ranks[i] = merge ? merge->rank : kNoMerge;
    joined[i] = merge ? merge->id : 0;
    ++s.steps;
  };
  for (std::size_t i = 0; i + 1 < n; ++i) look(i);
  while (n > 1) {
    const auto best = static_cast<std::size_t>(std::min_element(ranks, ranks + n - 1) - ranks);
    if (ranks[best] == kNoMerge) break;
    s.ids[best] = joined[best];
    for (std::size_t i = best + 1; i + 1 < n; ++i) {
      s.ids[i] = s.ids[i + 1];
      ranks[i] = ranks[i + 1 < n - 1 ? i + 1 : i];
      joined[i] = joined[i + 1 < n - 1 ? i + 1 : i];
    }
    --n;
    if (best + 1 < n) look(best);
    if (best > 0) look(best - 1);
  }
  return n;
}

// Symbols are a linked list over their first positions; the heap holds (rank, position), and an entry whose rank is no
// longer that of its position is stale.
std::size_t Bpe::merge_long(Scratch& s) const {
  const std::size_t n = s.ids.size();
  s.ranks.assign(n, kNoMerge);
  s.previous.resize(n);
  s.next.resize(n);
  s.heap.clear();
  const auto look = [&](std::uint32_t i) {
    const Merge* merge = s.next[i] == kEnd ? nullptr : find_merge(s.ids[i], s.ids[s.next[i]]);
    s.ranks[i] = merge ? merge->rank : kNoMerge;
    ++s.steps;
    if (merge) s.heap.push_back(std::uint64_t{static_cast<std::uint32_t>(merge->rank)} << 32 | i);
    return merge != nullptr;
  };
  for (std::size_t i = 0; i < n; ++i) {
    s.previous[i] = i == 0 ? kEnd : static_cast<std::uint32_t>(i - 1);
    s.next[i] = i + 1 == n ? kEnd : static_cast<std::uint32_t>(i + 1);
  }
  for (std::uint32_t i = 0; i < n; ++i) look(i);
  std::make_heap(s.heap.begin(), s.heap.end(), std::greater<>());

  while (!s.heap.empty()) {
    std::pop_heap(s.heap.begin(), s.heap.end(), std::greater<>());
    s.steps += std::bit_width(s.heap.size());
    const auto rank = static_cast<std::int32_t>(s.heap.back() >> 32);
    const auto at = static_cast<std::uint32_t>(s.heap.back());
    s.heap.pop_back();
    if (s.ranks[at] != rank) continue;
    const std::uint32_t gone = s.next[at];
    s.ids[at] = find_merge(s.ids[at], s.ids[gone])->id;
    s.ranks[gone] = kNoMerge;
    s.next[at] = s.next[gone];
    if (s.next[at] != kEnd) s.previous[s.next[at]] = at;
    if (look(at)) std::push_heap(s.heap.begin(), s.heap.end(), std::greater<>());
    if (s.previous[at] != kEnd && look(s.previous[at])) std::push_heap(s.heap.begin(), s.heap.end(), std::greater<>());
  }
  std::size_t kept = 0;
  for (std::uint32_t i = 0; i != kEnd; i = s.next[i]) s.ids[kept++] = s.ids[i];
  return kept;
}

void Bpe::encode(std::string_view piece, std::vector<std::int32_t>& out, Scratch& s) const {
  const std::int32_t token = vocabulary_.find_bytes(piece);
  Whole known = Whole::no;
  if (token >= 0) {
    known =
        options_.ignore_merges ? Whole::yes : whole_[static_cast<std::size_t>(token)].load(std::memory_order_relaxed);
    if (known == Whole::yes) {
      out.push_back(token);
      return;
    }
  }
  to_symbols(piece, s.ids);
  if (s.ids.empty()) return;
  const std::size_t n = s.ids.size() <= kShort ? merge_short(s) : merge_long(s);
  out.insert(out.end(), s.ids.begin(), s.ids.begin() + static_cast<std::ptrdiff_t>(n));
  if (token >= 0 && known == Whole::unknown)
    whole_[static_cast<std::size_t>(token)].store(n == 1 && s.ids[0] == token ? Whole::yes : Whole::no,
                                                  std::memory_order_relaxed);
}

}  // namespace cajal
