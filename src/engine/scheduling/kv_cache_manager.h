#pragma once
// Who may use which block of the KV cache. The cache itself is memory of a backend; here are only numbers.
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/executor.h"
#include "engine/scheduling/prefix_index.h"
#include "engine/scheduling/probe_table.h"
#include "graph/bucket.h"

namespace cajal {

struct KVCacheStatistics {
  std::int64_t prefix_queries = 0, prefix_hits = 0;  // tokens that add() looked up, and found
  std::int64_t evicted_blocks = 0;                   // whose name was given up for their memory
  std::int64_t copied_blocks = 0;                    // what pending_copies() ever listed
};

struct KVCacheOptions {
  std::int64_t num_blocks = 2;          // the spare one included
  std::int64_t max_blocks_per_seq = 1;  // of a block table
  std::int64_t block_size = kKvBlockSize;
  bool enable_prefix_caching = true;
  // Above 0: Neuron's layout. The pool is 1 + num_slots * max_blocks_per_seq blocks, cut into so many runs of neighbours,
  // one for each sequence, whole from its beginning to its end; nothing is shared, so a fork copies.
  std::int64_t num_slots = 0;
  std::function<void(const KVCacheEvent&)> on_event;  // must not throw and not call the manager
  // Tests weaken it: a hit also compares the tokens and the parent, so that only speed depends on it.
  BlockHash (*hash)(BlockHash parent, std::span<const std::int32_t> tokens) = nullptr;
};

// A pool of blocks. Block 0 is the spare one: rows of a step that carry nothing write there, and no sequence ever owns it.
// A sequence has a list of blocks, its block table; token p lies in entry p / block_size. Blocks that are full are named
// by their contents and may be shared; a block is written to by one sequence alone. A block that no sequence uses and that
// has a name stays as it is until its memory is needed, the least recently used first, children before parents.
//
// Laws of names: the parent of a named block is named, and as long as a sequence uses a named block it uses its parent.
// So a sequence names its blocks from the first on without a gap: when another has named the same contents before, it
// keeps its own block without a name and names none of those that follow.
//
// Nothing here allocates once as many sequences and salts have lived at a time, salts of more than 64 bytes aside, and as
// many copies were listed, as ever will. What throws std::bad_alloc has changed nothing. For one thread at a time.
class KVCacheManager {
 public:
  using SequenceId = std::uint64_t;
  static constexpr std::int32_t kSpareBlock = 0;

  explicit KVCacheManager(const KVCacheOptions& options);

  // A new sequence that begins with the longest run of named blocks whose tokens `tokens` begins with under the same salt.
  // Gives how many of its tokens need not be computed: at most tokens.size() - 1, because the last one's logits are
  // wanted. 0 tokens or prefix caching off: an empty sequence. A full hit copies the block that its last token lies in,
  // or leaves that block to be computed again if there is none for the copy. nullopt and nothing changed if there is no
  // slot left, which never happens without slots.
  [[nodiscard]] std::optional<std::int64_t> add(SequenceId id, std::span<const std::int32_t> tokens,
                                                std::string_view salt = {});
  // How many tokens add() would find now.
  std::int64_t find_prefix(std::span<const std::int32_t> tokens, std::string_view salt = {}) const;
  // A new sequence with the first num_tokens tokens of another, which must be computed, and its salt; what lies in a block
  // that is not full is copied. To write to its copy of them again, either must reserve() again. False and nothing changed
  // if there is no room.
  [[nodiscard]] bool fork(SequenceId parent, SequenceId child, std::int64_t num_tokens);
  // Room for tokens 0 … num_tokens - 1 of a sequence, of which those from `first_written` on may be written by it alone.
  // What tokens from first_written on were before is gone, also that they were committed; a sequence that goes back into
  // blocks that it committed or shares gives up its blocks beyond num_tokens. False and nothing changed if too few blocks are
  // available or the sequence would need more than it may have.
  [[nodiscard]] bool reserve(SequenceId id, std::int64_t first_written, std::int64_t num_tokens);
  // Says that keys and values of these tokens, all from the sequence's first, are in the cache for good: full blocks get
  // their name. Tokens that were committed before must not differ; fewer than before change nothing.
  void commit(SequenceId id, std::span<const std::int32_t> tokens);
  // Gives back all blocks; of an unknown sequence: nothing.
  void release(SequenceId id) noexcept;
  // Forgets every name, so that nothing computed so far is shared with a sequence to come. Sequences that live go on, and
  // name no block any more.
  void clear_prefix_cache() noexcept;

  bool contains(SequenceId id) const { return find(id) != ProbeTable::kNone; }
  // The span stays where it is until the sequence grows or ends; a slot's is the whole run.
  std::span<const std::int32_t> block_table(SequenceId id) const;
  std::int32_t slot(SequenceId id, std::int64_t position) const;  // block * block_size + offset, of a reserved position

  // What must be copied before the next step writes, one after another in this order; whoever launches it takes them. A
  // block in the list may have got another owner since: what that one writes comes after all copies.
  std::span<const BlockCopy> pending_copies() const { return copies_; }
  void clear_pending_copies() noexcept { copies_.clear(); }

  std::int64_t block_size() const { return options_.block_size; }
  std::int64_t num_blocks() const { return options_.num_blocks; }  // the spare one included
  // What can be given out: free blocks, and those that are named and unused. With slots: those of free slots.
  std::int64_t num_available_blocks() const;
  const KVCacheStatistics& statistics() const { return statistics_; }

  // What is wrong with the books, or an empty text.
  std::string find_inconsistency() const;

 private:
  struct Block {
    std::int32_t num_users = 0;         // sequences whose table it is in
    std::int32_t older = 0, newer = 0;  // neighbours in the list of named and unused blocks; block 0 is both its ends
  };
  struct Sequence {
    SequenceId id = 0;
    bool living = false;
    bool may_name = false;            // false after clear_prefix_cache()
    std::int32_t salt = 0;            // held in names_
    std::int64_t num_blocks = 0;      // of the table that are in use
    std::int64_t num_committed = 0;   // tokens
    std::int64_t num_full = 0;        // num_committed / block_size
    std::int64_t num_named = 0;       // of the full ones, how many from the first on this sequence knows to be named
    std::int64_t first_private = 0;   // from this one on no other sequence has a block, and it has no name
    std::vector<std::int32_t> table;  // [max_blocks_per_seq]
  };

  std::int32_t find(SequenceId id) const;
  Sequence& sequence(SequenceId id);
  const Sequence& sequence(SequenceId id) const;
  void make_room_for_sequence();
  void make_room_for_copies(std::int64_t count);
  Sequence& start(SequenceId id, std::int32_t salt) noexcept;

  Block& block(std::int32_t b) { return blocks_[static_cast<std::size_t>(b)]; }
  const Block& block(std::int32_t b) const { return blocks_[static_cast<std::size_t>(b)]; }
  std::int32_t take_block() noexcept;
  void use(std::int32_t b) noexcept;
  void drop(std::int32_t b) noexcept;
  void append_unused(std::int32_t b) noexcept;
  void unlink_unused(std::int32_t b) noexcept;
  void copy(std::int32_t from, std::int32_t to) noexcept;

  template <class Visit>
  void visit_run(std::int32_t salt, std::span<const std::int32_t> tokens, const Visit& visit) const;
  std::int64_t take_run(Sequence& s, std::span<const std::int32_t> tokens) noexcept;
  void take_slot(Sequence& s) noexcept;
  bool is_private(std::int32_t b) const { return block(b).num_users == 1 && !names_.contains(b); }
  bool reserve_again(Sequence& s, std::int64_t first_written, std::int64_t num_blocks);
  void name_full_blocks(Sequence& s, std::span<const std::int32_t> tokens) noexcept;

  std::string problem_of(const Sequence& s) const;
  std::string problem_of_run(const Sequence& s) const;
  std::string problem_of_blocks() const;
  std::string problem_of_names() const;

  std::int64_t blocks_for(std::int64_t tokens) const {
    return (tokens + options_.block_size - 1) / options_.block_size;
  }

  KVCacheOptions options_;
  PrefixIndex names_;
  std::vector<Block> blocks_;
  std::vector<std::int32_t> free_;  // blocks, the last is given out first; none with slots
  std::int64_t num_unused_ = 0;     // named ones without a user
  std::int64_t max_blocks_ = 0;     // of a table
  std::vector<std::int32_t> free_slots_;
  std::vector<Sequence> sequences_;
  std::vector<std::int32_t> free_sequences_;  // those that do not live; room for all
  ProbeTable ids_;
  std::vector<BlockCopy> copies_;
  KVCacheStatistics statistics_;
};

}  // namespace cajal
