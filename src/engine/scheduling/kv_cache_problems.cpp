// KVCacheManager::find_inconsistency(): the books, checked without believing any of them.
#include <algorithm>

#include "base/error.h"
#include "engine/scheduling/kv_cache_manager.h"

namespace cajal {

std::string KVCacheManager::find_inconsistency() const {
  std::size_t living = 0;
  for (std::size_t i = 0; i < sequences_.size(); ++i) {
    const Sequence& s = sequences_[i];
    const auto times = std::count(free_sequences_.begin(), free_sequences_.end(), static_cast<std::int32_t>(i));
    if (times != !s.living) return detail::join("record ", i, " is ", times, " times among those to be used");
    if (!s.living) continue;
    ++living;
    if (find(s.id) != static_cast<std::int32_t>(i)) return detail::join("sequence ", s.id, " is not found");
    if (auto problem = problem_of(s); !problem.empty()) return detail::join("sequence ", s.id, " ", problem);
  }
  if (living != ids_.size()) return detail::join(living, " sequences live, and ", ids_.size(), " are known");
  if (auto problem = problem_of_blocks(); !problem.empty()) return problem;
  if (auto problem = problem_of_names(); !problem.empty()) return problem;
  for (const BlockCopy& c : copies_)
    if (c.from == c.to || std::min(c.from, c.to) <= kSpareBlock || std::max(c.from, c.to) >= options_.num_blocks)
      return detail::join("a copy from block ", c.from, " to ", c.to);
  return {};
}

std::string KVCacheManager::problem_of(const Sequence& s) const {
  if (s.num_blocks > max_blocks_ || std::ssize(s.table) != max_blocks_)
    return detail::join("has ", s.num_blocks, " blocks");
  if (s.num_full != s.num_committed / options_.block_size || s.num_full > s.num_blocks || s.num_named > s.num_full)
    return detail::join("has ", s.num_committed, " tokens in ", s.num_full, " full blocks, ", s.num_named, " named");
  for (std::int64_t i = 0; i < s.num_blocks; ++i) {
    const std::int32_t b = s.table[static_cast<std::size_t>(i)];
    if (b <= kSpareBlock || b >= options_.num_blocks) return detail::join("has block ", b);
    if (std::count(s.table.begin(), s.table.begin() + s.num_blocks, b) != 1)
      return detail::join("has block ", b, " twice");
    if (i >= s.first_private && !is_private(b)) return detail::join("may write to block ", b, ", which is not its own");
    if (options_.num_slots > 0 && b != s.table[0] + i) return detail::join("has blocks that are no neighbours");
  }
  return problem_of_run(s);
}

// Its first blocks are a chain of names, and it uses the parent of each named block that it uses.
std::string KVCacheManager::problem_of_run(const Sequence& s) const {
  for (std::int64_t i = 0; i < s.num_blocks; ++i) {
    const std::int32_t b = s.table[static_cast<std::size_t>(i)];
    if (!names_.contains(b)) {
      if (i < s.num_named) return detail::join("has block ", b, " without a name");
      continue;
    }
    const auto parent = i > 0 ? s.table[static_cast<std::size_t>(i - 1)] : PrefixIndex::salt_parent(s.salt);
    if (names_.parent(b) != parent) return detail::join("has block ", b, " after ", parent, ", not its parent");
  }
  return {};
}

// Every block is free, or unused and named, or has as many users as it says.
std::string KVCacheManager::problem_of_blocks() const {
  std::vector<int> users(blocks_.size()), free(blocks_.size()), unused(blocks_.size());
  for (const Sequence& s : sequences_)
    for (std::int64_t i = 0; s.living && i < s.num_blocks; ++i)
      ++users[static_cast<std::size_t>(s.table[static_cast<std::size_t>(i)])];
  for (const std::int32_t b : free_) ++free.at(static_cast<std::size_t>(b));
  for (const std::int32_t slot : free_slots_)
    for (std::int64_t i = 0; i < max_blocks_; ++i) ++free.at(static_cast<std::size_t>(1 + slot * max_blocks_ + i));
  std::int64_t num_unused = 0;
  for (std::int32_t b = block(kSpareBlock).newer; b != kSpareBlock; b = block(b).newer) {
    if (++num_unused > num_unused_) break;
    if (block(block(b).newer).older != b) return detail::join("block ", b, " is not linked both ways");
    if (const auto parent = names_.parent(b); parent > 0 && unused.at(static_cast<std::size_t>(parent)) > 0)
      return detail::join("block ", parent, " would be evicted before its child ", b);
    ++unused.at(static_cast<std::size_t>(b));
  }
  if (num_unused != num_unused_) return detail::join(num_unused, " unused blocks, not ", num_unused_);
  for (std::size_t b = 0; b < blocks_.size(); ++b) {
    const bool named = names_.contains(static_cast<std::int32_t>(b));
    const bool is_free = users[b] == 0 && !named && b != kSpareBlock, is_unused = users[b] == 0 && named;
    if (users[b] != blocks_[b].num_users || free[b] != is_free || unused[b] != is_unused)
      return detail::join("block ", b, named ? " is named, has " : " has ", users[b], " users, counts ",
                          blocks_[b].num_users, ", is ", free[b], " times free, ", unused[b], " times unused");
  }
  if (users[kSpareBlock] != 0 || names_.contains(kSpareBlock)) return "the spare block is used";
  return {};
}

std::string KVCacheManager::problem_of_names() const {
  std::vector<std::int64_t> salt_holds;
  for (const Sequence& s : sequences_) {
    if (!s.living || !options_.enable_prefix_caching) continue;
    if (salt_holds.size() <= static_cast<std::size_t>(s.salt)) salt_holds.resize(static_cast<std::size_t>(s.salt) + 1);
    ++salt_holds[static_cast<std::size_t>(s.salt)];
  }
  if (!options_.enable_prefix_caching && names_.size() > 0) return "names, and no prefix caching";
  for (std::size_t b = 1; b < blocks_.size(); ++b) {
    const auto child = static_cast<std::int32_t>(b);
    if (!names_.contains(child) || names_.parent(child) <= 0 || blocks_[b].num_users == 0) continue;
    if (block(names_.parent(child)).num_users == 0)
      return detail::join("block ", child, " is in use, and its parent ", names_.parent(child), " is not");
  }
  return names_.find_inconsistency(salt_holds);
}

}  // namespace cajal
