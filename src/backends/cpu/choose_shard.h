#pragma once
// How a token is chosen of a row of logits that is shared out over ranks, without bringing it together: every rank looks at
// its share and tells the others the little that matters, and all come to the token that engine/sampler.h chooses of the
// whole. Pure functions; shard_sampler.h carries their results between ranks.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "backends/sampling.h"

namespace cajal::cpu {

struct ShardLogits {
  std::span<const float> logits;  // may be empty
  std::int64_t first_id = 0;
};

// First every rank tells its largest logit.
struct ShardHead {
  float largest = 0;
  std::int32_t token_id = -1;  // that has it, the lowest; -1: there are no tokens here
  std::int32_t not_finite = 0;
};
ShardHead head_of(const ShardLogits& shard);
ShardHead merge_heads(std::span<const ShardHead> heads);

// The likelier comes first, the lower id among equals.
struct Candidate {
  float value = 0;  // the logit divided by the temperature
  float logit = 0;
  std::int32_t token_id = -1;
};

// Then, once the largest of all is known, what else the row needs.
struct ShardBody {
  std::uint64_t sum_of_weights = 0;  // of logits, for log-probabilities
  std::uint64_t drawn_weights = 0;   // of values, for top-p
  double score = 0;                  // the best of a draw among all tokens, and who has it
  Candidate drawn = {};
  float best_left_out = 0;  // the largest value that is not among the candidates; -infinity: there is none
  std::int32_t num_candidates = 0, num_top = 0;
};

// How many of each a packet has room for.
struct PacketRoom {
  std::int64_t candidates = 0, top = 0;
  std::int64_t bytes() const;
};
// Candidates that a rank tells of: what top-k or top-p keeps of nearly every row; 0 where every token
// can be judged by itself.
std::int64_t candidates_needed(const RowSampling& how, std::int64_t vocab_size);
constexpr std::int64_t kMostCandidates = 1024;

// The same bytes on every rank, but for what they say.
struct Packet {
  Packet(std::byte* bytes, const PacketRoom& room);
  ShardBody* body;
  std::span<Candidate> candidates, top;
};
void describe(const RowSampling& how, const ShardLogits& shard, const ShardHead& head, std::int64_t vocab_size,
              const Packet& packet);

// Of all ranks' packets. on_host: more than they told would have to be known. `scratch` keeps its memory from row to row.
RowChoice decide(const RowSampling& how, const ShardHead& head, std::span<const Packet> packets,
                 std::int64_t vocab_size, std::vector<Candidate>& scratch);

}  // namespace cajal::cpu
