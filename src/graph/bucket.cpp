#include "graph/bucket.h"

#include <array>

#include "base/checked.h"

namespace cajal {
namespace {

constexpr std::array<const char*, 5> kNames = {"context_encoding", "chunked_prefill", "token_generation", "speculation",
                                               "encoding"};

}  // namespace

const char* to_string(GraphKind kind) { return kNames[static_cast<std::size_t>(kind)]; }

std::optional<GraphKind> graph_kind_from_string(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i)
    if (name == kNames[i]) return static_cast<GraphKind>(i);
  return std::nullopt;
}

Bucket bucket_for(GraphKind kind, const BucketLimits& limits) {
  const std::int64_t blocks = ceil_div(limits.max_model_len, kKvBlockSize), seqs = limits.max_num_seqs;
  switch (kind) {
    case GraphKind::context_encoding: return {limits.max_context_length, 1, blocks, 1};
    case GraphKind::chunked_prefill: return {limits.prefill_chunk_size, 1, blocks, 1};
    case GraphKind::token_generation: return {seqs, seqs, blocks, seqs};
    case GraphKind::speculation:
      return {seqs * limits.speculation_length, seqs, blocks, seqs * limits.speculation_length};
    // Any row may be wanted: of some models all of a text make its vector.
    case GraphKind::encoding: return {limits.prefill_chunk_size, seqs, blocks, limits.prefill_chunk_size};
  }
  return {};
}

}  // namespace cajal
