#pragma once
// Chooses tokens where ranks have shares of the vocabulary: see choose_shard.h.
#include <cstdint>
#include <span>
#include <vector>

#include "backends/cpu/choose_shard.h"
#include "base/thread_pool.h"
#include "tensor/tensor.h"

namespace cajal {
class Communicator;
}

namespace cajal::cpu {

struct VocabularyShares {
  std::int64_t vocab_size = 0;  // of all ranks together
  std::int64_t shard_size = 0;  // of each; what the last have more than there is are zeros
  DType dtype = DType::f32;     // of logits
};

class ShardSampler {
 public:
  // For steps of at most `max_rows` rows of logits. All memory is taken here.
  ShardSampler(Communicator& group, const VocabularyShares& shares, std::int64_t max_rows);

  std::span<RowSampling> sampling() { return sampling_; }
  std::span<const RowChoice> choices() const { return choices_; }

  // Chooses for rows 0 .. rows - 1 of this rank's logits [rows, shard_size], as sampling() says. Returns whether every row
  // has its token: if not, the host has to look at all logits. Every rank calls it and gets the same.
  bool choose(std::int64_t rows, const std::byte* logits, ThreadPool& pool);

 private:
  void choose_chunk(std::int64_t first, std::int64_t rows, const std::byte* logits, ThreadPool& pool);
  ShardLogits shard_of(const std::byte* logits, std::int64_t row, std::int64_t in_chunk);
  PacketRoom room_for(std::int64_t first, std::int64_t rows, bool& any) const;

  Communicator& group_;
  VocabularyShares shares_;
  std::int64_t first_id_ = 0, tokens_ = 0;  // this rank's
  std::vector<RowSampling> sampling_;       // by row
  std::vector<RowChoice> choices_;
  std::vector<float> wide_;  // [rows of a chunk, tokens], where logits are no f32
  std::vector<ShardHead> heads_, all_heads_;
  std::vector<std::byte> packets_, all_packets_;
  std::vector<Packet> of_row_;  // by rank
  std::vector<Candidate> scratch_;
};

}  // namespace cajal::cpu
