#pragma once
// Byte-pair encoding of one piece of text: its bytes are joined, lowest merge rank first and leftmost among equals, until
// no neighbours have a merge.
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"

namespace cajal {

struct BpeOptions {
  bool ignore_merges = false;  // a piece that is a token is that token, whether or not merges lead to it
  std::int32_t unknown = -1;   // what stands for a byte that the vocabulary lacks; -1: such bytes vanish
  bool fuse_unknown = false;   // a run of such bytes becomes one `unknown`
};

class Bpe {
 public:
  // Reused between pieces, so that encoding does not allocate once it is warm.
  struct Scratch {
    std::vector<std::int32_t> ids, ranks;
    std::vector<std::uint32_t> previous, next;
    std::vector<std::uint64_t> heap;
    std::uint64_t steps = 0;  // look-ups of merges and moves of the heap so far: the cost, for tests
  };

  explicit Bpe(Vocabulary vocabulary, std::size_t merges);

  // Adds the merge of next rank; of a pair that stands twice the last counts. Error(data_loss) names what is missing.
  void add_merge(std::string_view left, std::string_view right);
  void set_options(const BpeOptions& options) { options_ = options; }
  bool has_all_bytes() const;

  // Appends the ids of `piece`. Safe to call from several threads, each with its own scratch.
  void encode(std::string_view piece, std::vector<std::int32_t>& out, Scratch& scratch) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }
  Vocabulary& vocabulary() { return vocabulary_; }

 private:
  struct Merge {
    std::uint64_t pair = ~std::uint64_t{0};
    std::int32_t rank = 0, id = 0;
  };
  enum class Whole : std::uint8_t { unknown, yes, no };

  const Merge* find_merge(std::int32_t left, std::int32_t right) const;
  void to_symbols(std::string_view piece, std::vector<std::int32_t>& ids) const;
  std::size_t merge_short(Scratch& s) const;
  std::size_t merge_long(Scratch& s) const;

  Vocabulary vocabulary_;
  BpeOptions options_;
  std::array<std::int32_t, 256> byte_ids_{};  // -1: not in the vocabulary
  std::vector<Merge> merges_;                 // open addressing
  std::int32_t next_rank_ = 0;
  // By id: whether the merges turn the token's own bytes into it. Learnt when first needed; every thread learns the same.
  std::unique_ptr<std::atomic<Whole>[]> whole_;
};

}  // namespace cajal
