#pragma once
// What KVCacheManager promises, done without any index, list or count: everything is looked for anew each time.
#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/scheduling/kv_cache_manager.h"

namespace cajal {

class SlowKVCache {
 public:
  using Tokens = std::vector<std::int32_t>;
  using Name = std::pair<std::string, Tokens>;  // the salt, and all tokens up to the block's last

  explicit SlowKVCache(const KVCacheOptions& options) : o_(options) {}

  std::int64_t find(const Tokens& tokens, const std::string& salt) const {
    SlowKVCache copy = *this;
    return copy.add(~0u, tokens, salt).value_or(0);
  }

  std::optional<std::int64_t> add(std::uint64_t id, const Tokens& tokens, const std::string& salt) {
    if (o_.num_slots > 0 && std::ssize(sequences_) == o_.num_slots) return std::nullopt;
    Sequence& s = sequences_[id];
    s.salt = salt;
    const auto size = static_cast<std::size_t>(o_.block_size);
    while ((s.table.size() + 1) * size <= tokens.size() && std::ssize(s.table) < o_.max_blocks_per_seq) {
      const auto hit = named_.find({salt, Tokens(tokens.begin(), tokens.begin() + (s.table.size() + 1) * size)});
      if (hit == named_.end()) break;
      s.table.push_back(hit->second);
    }
    std::int64_t found = std::ssize(s.table) * o_.block_size;
    if (found > 0 && found == std::ssize(tokens)) {  // the last token is computed again, if possible in a copy
      const BlockId last = s.table.back();
      s.table.pop_back();
      s.settled = std::ssize(s.table);
      found -= o_.block_size;
      if (o_.block_size > 1 && num_available() > 0) {
        if (num_users(last) == 0) blocks_[last].last_used = ++clock_;
        take(s);
        found += o_.block_size - 1;
      }
    } else {
      s.settled = std::ssize(s.table);
    }
    s.num_committed = found;
    s.num_named = s.settled;
    return found;
  }

  bool fork(std::uint64_t parent, std::uint64_t child, std::int64_t num_tokens) {
    if (o_.num_slots > 0) return add(child, {}, "").has_value();
    const std::int64_t shared = num_tokens / o_.block_size;
    if (num_tokens % o_.block_size > 0 && num_available() == 0) return false;
    Sequence s = sequences_.at(parent);
    s.table.resize(static_cast<std::size_t>(shared));
    s.num_committed = std::min(s.num_committed, num_tokens);
    s.num_named = std::min(s.num_named, s.num_committed / o_.block_size);
    s.settled = shared;
    sequences_.at(parent).settled = std::max(sequences_.at(parent).settled, shared);
    Sequence& mine = sequences_[child] = std::move(s);
    if (num_tokens % o_.block_size > 0) take(mine);
    return true;
  }

  bool reserve(std::uint64_t id, std::int64_t first_written, std::int64_t num_tokens) {
    const std::int64_t first = first_written / o_.block_size;
    const std::int64_t wanted = (num_tokens + o_.block_size - 1) / o_.block_size;
    if (wanted > o_.max_blocks_per_seq) return false;
    if (o_.num_slots > 0) return true;
    const SlowKVCache before = *this;
    Sequence& s = sequences_.at(id);
    std::int64_t replaced = 0;
    if (first < s.settled) {
      const Sequence old = s;
      if (std::ssize(s.table) > wanted) s.table.resize(static_cast<std::size_t>(wanted));
      Table kept(s.table.begin(), s.table.begin() + first);
      for (std::int64_t i = first; i < std::ssize(s.table); ++i) {
        const BlockId b = s.table[static_cast<std::size_t>(i)];
        if (!blocks_[b].name && num_users(b) == 1)
          kept.push_back(b);
        else
          ++replaced;
      }
      s.table = std::move(kept);
      s.settled = first;
      s.num_named = std::min(s.num_named, first);
      stamp(old.table);
    }
    s.num_committed = std::min(s.num_committed, first_written);
    const std::int64_t more = std::max(replaced, wanted - std::ssize(s.table));
    if (more > num_available()) {
      *this = before;
      return false;
    }
    for (std::int64_t i = 0; i < more; ++i) take(s);
    return true;
  }

  void commit(std::uint64_t id, const Tokens& tokens) {
    Sequence& s = sequences_.at(id);
    const std::int64_t num_full = std::ssize(tokens) / o_.block_size;
    if (std::ssize(tokens) <= s.num_committed) return;
    for (std::int64_t i = s.num_committed / o_.block_size; i < num_full && caching(); ++i) {
      if (!s.may_name || s.num_named < i) break;
      const Name name{s.salt, Tokens(tokens.begin(), tokens.begin() + (i + 1) * o_.block_size)};
      const BlockId b = s.table[static_cast<std::size_t>(i)];
      const BlockId known = named_.try_emplace(name, b).first->second;
      if (known != b) break;
      blocks_[b].name = name;
      ++s.num_named;
    }
    s.num_committed = std::ssize(tokens);
    s.settled = std::max(s.settled, num_full);
  }

  void release(std::uint64_t id) {
    const auto s = sequences_.extract(id);
    if (!s.empty()) stamp(s.mapped().table);
  }

  void clear() {
    for (const auto& [name, b] : named_) blocks_[b].name.reset();
    named_.clear();
    for (auto& [id, s] : sequences_) s.may_name = false, s.num_named = 0;
  }

  std::int64_t num_available() const {
    if (o_.num_slots > 0) return (o_.num_slots - std::ssize(sequences_)) * o_.max_blocks_per_seq;
    return o_.num_blocks - 1 - std::ssize(used_blocks());
  }
  std::multiset<Tokens> names() const {
    std::multiset<Tokens> all;
    for (const auto& [name, b] : named_) all.insert(name.second);
    return all;
  }

 private:
  struct Block {
    std::optional<Name> name;
    std::uint64_t last_used = 0;
  };
  using BlockId = int;  // never used twice
  using Table = std::vector<BlockId>;
  struct Sequence {
    std::string salt;
    Table table;
    std::int64_t num_committed = 0, num_named = 0;
    std::int64_t settled = 0;  // blocks that are committed or may be shared
    bool may_name = true;
  };

  bool caching() const { return o_.enable_prefix_caching && o_.num_slots == 0; }
  std::int64_t num_users(BlockId b) const {
    std::int64_t users = 0;
    for (const auto& [id, s] : sequences_) users += std::count(s.table.begin(), s.table.end(), b);
    return users;
  }
  std::set<BlockId> used_blocks() const {
    std::set<BlockId> used;
    for (const auto& [id, s] : sequences_) used.insert(s.table.begin(), s.table.end());
    return used;
  }
  // These have lost a user.
  void stamp(const Table& table) {
    ++clock_;
    for (const auto& b : table)
      if (num_users(b) == 0) blocks_[b].last_used = clock_;
  }
  void take(Sequence& s) {
    std::set<BlockId> all = used_blocks();
    for (const auto& [name, b] : named_) all.insert(b);
    if (std::ssize(all) == o_.num_blocks - 1) evict();
    s.table.push_back(next_++);
  }
  void evict() {
    std::optional<std::pair<std::pair<std::uint64_t, std::int64_t>, BlockId>> oldest;
    for (const auto& [name, b] : named_) {
      if (num_users(b) > 0) continue;
      const std::pair age(std::pair(blocks_[b].last_used, -std::ssize(name.second)), b);
      if (!oldest || age < *oldest) oldest = age;
    }
    named_.erase(*blocks_[oldest->second].name);
    blocks_.erase(oldest->second);
  }

  KVCacheOptions o_;
  std::map<std::uint64_t, Sequence> sequences_;
  std::map<Name, BlockId> named_;
  std::map<BlockId, Block> blocks_;
  BlockId next_ = 1;
  std::uint64_t clock_ = 0;
};

}  // namespace cajal
