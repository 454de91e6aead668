#pragma once
// Who owns which block of the KV cache. The cache itself is memory of a backend; here are only numbers.
#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "graph/bucket.h"

namespace cajal {

// A pool of blocks of kKvBlockSize tokens. Block 0 is the spare one: rows of a step that carry nothing write there, and no
// sequence ever owns it. A sequence owns a list of blocks, its block table; token p lies in entry p / kKvBlockSize.
class KVCacheManager {
 public:
  using SequenceId = std::uint64_t;
  static constexpr std::int32_t kSpareBlock = 0;

  // num_blocks counts the spare one; a sequence has at most max_blocks_per_seq.
  KVCacheManager(std::int64_t num_blocks, std::int64_t max_blocks_per_seq);

  // Makes room for the first num_tokens tokens of a sequence, which may be new. False if the pool has too few free blocks
  // or the sequence would need more than it may have; nothing has changed then.
  [[nodiscard]] bool reserve(SequenceId id, std::int64_t num_tokens);
  void release(SequenceId id);  // gives all blocks back; of an unknown sequence: nothing

  std::span<const std::int32_t> block_table(SequenceId id) const;
  std::int32_t slot(SequenceId id,
                    std::int64_t position) const;  // block * kKvBlockSize + offset, of a reserved position

  std::int64_t num_blocks() const { return num_blocks_; }
  std::int64_t num_free_blocks() const { return static_cast<std::int64_t>(free_.size()); }

  // What is wrong with the books, or an empty text: every block but the spare one is free or owned by one sequence.
  std::string find_inconsistency() const;

 private:
  std::int64_t num_blocks_, max_blocks_per_seq_;
  std::vector<std::int32_t> free_;  // the last is given out first
  std::unordered_map<SequenceId, std::vector<std::int32_t>> tables_;
};

}  // namespace cajal
