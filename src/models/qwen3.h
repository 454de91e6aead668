#pragma once
// Qwen3, Qwen3-MoE and Qwen2-MoE as graphs, as Hugging Face's modeling_qwen3.py, modeling_qwen3_moe.py and
// modeling_qwen2_moe.py define them.
#include <optional>
#include <string>

#include "graph/bucket.h"
#include "models/layers.h"
#include "models/qwen3_config.h"

namespace cajal {

// The names of a graph's inputs and output. All inputs are i32.
namespace names {
inline constexpr const char* kInputIds = "input_ids";            // [T]
inline constexpr const char* kPositions = "positions";           // [T], of each token in its own sequence
inline constexpr const char* kSlotMapping = "slot_mapping";      // [T], where its key and value go; see ops::KvWrite
inline constexpr const char* kSeqIndices = "seq_indices";        // [T], the sequence's row in block_tables
inline constexpr const char* kBlockTables = "block_tables";      // [S,B]
inline constexpr const char* kLogitsIndices = "logits_indices";  // [R], the rows that outputs are wanted of
inline constexpr const char* kRopeLengths = "rope_lengths";      // [T], only where frequencies depend on the length
}  // namespace names

// What a graph gives of the rows that logits_indices names. Its outputs stand in this order; what none of them needs, such
// as the head's weight, is not in the graph.
struct Qwen3Outputs {
  bool logits = true;              // dt[R, vocab_size]
  bool last_hidden_state = false;  // dt[R, hidden_size]: after the final norm, Hugging Face's last_hidden_state
  bool chosen_experts = false;     // i32[T, num_experts_per_tok] of every mixture of experts, the first layer's first
  bool operator==(const Qwen3Outputs&) const = default;
};

// How keys and values are kept: as they are, or in 8 bits with one f32 scale for each key and each value of a head.
enum class KvCacheDType : std::uint8_t { automatic, int8 };
const char* to_string(KvCacheDType dtype);  // "auto", "int8"

struct Qwen3GraphOptions {
  Bucket bucket;
  DType dtype = DType::bf16;  // of weights, activations and cache
  Parallelism parallel;
  // The checkpoint's names; one name for both is a tied model.
  std::string embedding_tensor = "model.embed_tokens.weight";
  std::string lm_head_tensor = "lm_head.weight";
  Qwen3Outputs outputs = {};
  // How many rows of a sequence an expert takes in a step, in multiples of an even share; see ops::Router. Absent: as many
  // as choose it, as in Hugging Face. With it, tokens depend on how a prompt is cut into steps, and so on what else runs.
  std::optional<double> capacity_factor = {};
  KvCacheDType kv_cache_dtype = KvCacheDType::automatic;
  ColumnGroups groups = {};  // of weights that are to be quantised
};

// Error(unsupported) with the degrees that fit where ranks cannot have whole heads and whole groups of columns.
Graph build_qwen3(const Qwen3Config& config, const Qwen3GraphOptions& options);

// Bytes of the KV cache that one token takes on a rank, over all layers.
std::int64_t kv_bytes_per_token(const Qwen3Config& config, DType dtype, const Parallelism& parallel = {},
                                KvCacheDType kv_cache_dtype = KvCacheDType::automatic);

}  // namespace cajal
