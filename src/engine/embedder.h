#pragma once
// Texts as vectors.
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/pooling_runner.h"
#include "models/embedding_config.h"
#include "text/tokenizer.h"

namespace cajal {

struct EmbedOptions {
  PoolingMode pooling = PoolingMode::last_token;
  bool normalize = true;                     // to length one, after cutting
  std::optional<std::int64_t> dimensions{};  // only the first so many numbers (Matryoshka)
  PoolingOptions steps{};
};

// Error(invalid_argument) if vectors of `hidden_size` numbers have no such `dimensions`.
void check_dimensions(const EmbedOptions& options, std::int64_t hidden_size);

// Called once for each text, in their order, with its vector, [dimensions or hidden_size].
using OnEmbedding = std::function<void(std::size_t text, std::span<const float> embedding)>;

// The vectors of texts that are token ids, each of at least one. A vector depends on its text alone, bit for bit: not on
// the other texts nor on how steps are filled. Throws Error(invalid_argument) for dimensions that the model does not have
// and for ids outside of its vocabulary, Error(data_loss) if the model gives numbers that are not finite.
void embed(const Model& model, std::span<const std::vector<std::int32_t>> texts, const EmbedOptions& options,
           const OnEmbedding& on_embedding);

// What to do with a text of more tokens than the model takes.
struct LengthLimit {
  std::int64_t max_model_len = 0;
  bool truncate = false;  // cut its end off, but none of the special tokens around it; false: Error(invalid_argument)
};
std::vector<std::int32_t> encode_within(const Tokenizer& tokenizer, std::string_view text, const LengthLimit& limit);

// Warns of a tokenizer that appends no end token to the texts of an embedding model whose vectors are read from it: the
// first files of Qwen3-Embedding were such, and then the vectors are of little use.
void warn_without_end_token(const EmbeddingConfig& config, const Tokenizer& tokenizer);

// What stands in front of every text. At most one of the two may be given; neither: the model's default.
std::string embedding_prefix(const EmbeddingConfig& config, const std::optional<std::string>& prompt_name,
                             const std::optional<std::string>& instruction);

}  // namespace cajal
