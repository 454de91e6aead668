#include "engine/kv_cache_manager.h"

#include "base/checked.h"

namespace cajal {

KVCacheManager::KVCacheManager(std::int64_t num_blocks, std::int64_t max_blocks_per_seq)
    : num_blocks_(num_blocks), max_blocks_per_seq_(max_blocks_per_seq) {
  CAJAL_CHECK(num_blocks >= 2 && max_blocks_per_seq >= 1, num_blocks, " blocks, ", max_blocks_per_seq, " a sequence");
  for (std::int64_t b = num_blocks - 1; b > kSpareBlock; --b)
    free_.push_back(checked_cast<std::int32_t>(b, "block number"));
}

bool KVCacheManager::reserve(SequenceId id, std::int64_t num_tokens) {
  const std::int64_t wanted = ceil_div(num_tokens, kKvBlockSize);
  if (wanted > max_blocks_per_seq_) return false;
  auto& table = tables_[id];
  const std::int64_t more = wanted - static_cast<std::int64_t>(table.size());
  if (more > num_free_blocks()) {
    if (table.empty()) tables_.erase(id);
    return false;
  }
  for (std::int64_t i = 0; i < more; ++i) {
    table.push_back(free_.back());
    free_.pop_back();
  }
  return true;
}

void KVCacheManager::release(SequenceId id) {
  const auto it = tables_.find(id);
  if (it == tables_.end()) return;
  // Backwards, so that the next sequence gets them in the same order: easier to read in a trace.
  free_.insert(free_.end(), it->second.rbegin(), it->second.rend());
  tables_.erase(it);
}

std::span<const std::int32_t> KVCacheManager::block_table(SequenceId id) const {
  const auto it = tables_.find(id);
  CAJAL_CHECK(it != tables_.end(), "sequence ", id, " has no blocks");
  return it->second;
}

std::int32_t KVCacheManager::slot(SequenceId id, std::int64_t position) const {
  const auto table = block_table(id);
  const auto block = static_cast<std::size_t>(position / kKvBlockSize);
  CAJAL_CHECK(position >= 0 && block < table.size(), "position ", position, " of sequence ", id, " is not reserved");
  return static_cast<std::int32_t>(table[block] * kKvBlockSize + position % kKvBlockSize);
}

std::string KVCacheManager::find_inconsistency() const {
  std::vector<int> owners(static_cast<std::size_t>(num_blocks_));
  const auto count = [&](std::int32_t block) -> std::string {
    if (block < 0 || block >= num_blocks_) return detail::join("block ", block, " does not exist");
    ++owners[static_cast<std::size_t>(block)];
    return {};
  };
  for (const auto block : free_)
    if (auto problem = count(block); !problem.empty()) return problem;
  for (const auto& [id, table] : tables_) {
    if (static_cast<std::int64_t>(table.size()) > max_blocks_per_seq_)
      return detail::join("sequence ", id, " has ", table.size(), " blocks");
    for (const auto block : table)
      if (auto problem = count(block); !problem.empty()) return problem;
  }
  for (std::size_t b = 0; b < owners.size(); ++b)
    if (owners[b] != (b == kSpareBlock ? 0 : 1)) return detail::join("block ", b, " has ", owners[b], " owners");
  return {};
}

}  // namespace cajal
