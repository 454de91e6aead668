#pragma once
// The shape of a graph. One family of graphs serves every use; Optimum Neuron's graphs are names for uses of it.
#include <cstdint>
#include <optional>
#include <string_view>

namespace cajal {

constexpr std::int64_t kKvBlockSize = 64;  // tokens in a block of the KV cache

// What one step can carry at most. Sizes are fixed when the graph is built; what varies from step to step is data.
struct Bucket {
  std::int64_t num_tokens = 1;          // T: token rows over all sequences
  std::int64_t num_seqs = 1;            // S: sequences that the rows may belong to
  std::int64_t max_blocks_per_seq = 1;  // B
  std::int64_t num_logits = 1;          // R: rows of logits that are asked for
  bool operator==(const Bucket&) const = default;
};

enum class GraphKind {
  context_encoding,  // a whole prompt, nothing in the cache before it
  chunked_prefill,   // a piece of a prompt, the earlier pieces in the cache
  token_generation,  // one row a sequence
  speculation,       // a few rows a sequence, logits for each
  encoding,          // texts, a vector for each: nothing is generated
};
const char* to_string(GraphKind kind);
std::optional<GraphKind> graph_kind_from_string(std::string_view name);

struct BucketLimits {
  std::int64_t max_num_seqs = 1;
  std::int64_t max_model_len = 1;       // tokens of a sequence
  std::int64_t max_context_length = 1;  // tokens of a prompt that is encoded at once
  std::int64_t prefill_chunk_size = 1;
  std::int64_t speculation_length = 1;
};
Bucket bucket_for(GraphKind kind, const BucketLimits& limits);

}  // namespace cajal
