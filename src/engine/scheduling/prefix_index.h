#pragma once
// Names of blocks by their contents: what a new sequence is looked up in.
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/scheduling/probe_table.h"

namespace cajal {

// A name of the contents of a block: of its tokens, of all tokens before them, and of the salt. It depends on nothing else,
// so it is the same in every process.
using BlockHash = std::uint64_t;

// What a router of requests wants to know; the names are those of vLLM's KV events.
struct KVCacheEvent {
  enum class Kind { block_stored, block_removed, all_blocks_cleared };
  Kind kind = Kind::block_stored;
  BlockHash block_hash = 0, parent_block_hash = 0;  // of no parent: 0
  std::span<const std::int32_t> token_ids;          // of a stored block; valid during the call
};

// Which blocks have a name, and what it says. A name consists of a parent and of block_size tokens; the parent is a named
// block, or a salt for a sequence's first block. Names are compared by what they consist of, so that two contents with
// one hash are two names. No two blocks have the same name.
class PrefixIndex {
 public:
  using Hash = BlockHash (*)(BlockHash parent, std::span<const std::int32_t> tokens);
  using Parent = std::int32_t;  // above 0 a named block; else the negative of a salt, as salt_parent() gives it
  static constexpr std::int32_t kNoBlock = 0;

  struct Options {
    std::int64_t num_blocks = 0, block_size = 0;
    Hash hash = nullptr;  // null: ours
    std::function<void(const KVCacheEvent&)> on_event;
  };
  // Takes all the memory that blocks will need.
  explicit PrefixIndex(const Options& options);

  // Salts that are held have a number; that of no salt, 0, is always held. hold_salt() throws std::bad_alloc and then
  // holds nothing.
  std::int32_t hold_salt(std::string_view salt);
  void hold_salt(std::int32_t salt) noexcept { ++salts_[static_cast<std::size_t>(salt)].holds; }
  void release_salt(std::int32_t salt) noexcept;
  std::int32_t find_salt(std::string_view salt) const;  // below 0: nobody holds it
  static Parent salt_parent(std::int32_t salt) { return -salt; }

  // The block of this name, or kNoBlock.
  std::int32_t find(Parent parent, std::span<const std::int32_t> tokens) const {
    return find(parent, tokens, hash_of(parent, tokens));
  }
  // Names a block that has no name; nobody may have this one.
  void insert(std::int32_t block, Parent parent, std::span<const std::int32_t> tokens) noexcept;
  // Takes a block's name; no named block may have it for its parent.
  void erase(std::int32_t block) noexcept;
  void clear() noexcept;  // takes all names

  bool contains(std::int32_t block) const { return names_[static_cast<std::size_t>(block)].named; }
  Parent parent(std::int32_t block) const { return names_[static_cast<std::size_t>(block)].parent; }
  std::size_t size() const { return index_.size(); }

  // What is wrong, or an empty text. `salt_holds` counts the holds on each salt that are not a block's; it may be shorter.
  std::string find_inconsistency(std::span<const std::int64_t> salt_holds) const;

 private:
  struct Name {
    BlockHash hash = 0;
    Parent parent = 0;
    bool named = false;
  };
  struct Salt {
    std::string text;
    BlockHash hash = 0;
    std::int64_t holds = 0;
  };

  BlockHash hash_of_salt(std::string_view salt) const;
  BlockHash parent_hash(Parent parent) const {
    return parent > 0 ? names_[static_cast<std::size_t>(parent)].hash : salts_[static_cast<std::size_t>(-parent)].hash;
  }
  BlockHash hash_of(Parent parent, std::span<const std::int32_t> tokens) const {
    return hash_(parent_hash(parent), tokens);
  }
  std::int32_t find(Parent parent, std::span<const std::int32_t> tokens, BlockHash hash) const;
  std::span<const std::int32_t> tokens(std::int32_t block) const {
    return std::span(tokens_).subspan(static_cast<std::size_t>(block) * block_size_, block_size_);
  }
  void forget(std::int32_t block) noexcept;
  std::string problem_of(std::int32_t block) const;
  void report(KVCacheEvent::Kind kind, std::int32_t block) const noexcept;

  std::size_t block_size_;
  Hash hash_;
  std::function<void(const KVCacheEvent&)> on_event_;
  std::vector<Name> names_;           // [num_blocks]
  std::vector<std::int32_t> tokens_;  // [num_blocks, block_size]
  ProbeTable index_;                  // of named blocks
  std::vector<Salt> salts_;           // without holds: may be used again
  std::vector<std::int32_t> free_salts_;
  ProbeTable salt_index_;  // of held salts but the first
};

}  // namespace cajal
