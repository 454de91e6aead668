#include "engine/embedder.h"

#include <algorithm>
#include <cmath>

#include "base/log.h"
#include "engine/generator.h"

namespace cajal {
namespace {

// Adds up the rows of one text after another.
class Pooler {
 public:
  explicit Pooler(std::size_t hidden_size) : row_(hidden_size), sum_(hidden_size) {}

  // The vector, once the last of a text's rows is in; empty before.
  std::span<const float> add(const PoolingRunner::Row& row, const ModelRunner& runner) {
    runner.read_last_hidden_state(row.row, row_);
    if (!std::all_of(row_.begin(), row_.end(), [](float x) { return std::isfinite(x); }))
      fail(ErrorCode::data_loss, "text ", row.text, ": the model's hidden state of token ", row.position,
           " is not finite", remedy("check the weights; try --dtype float32"));
    if (count_ == 0 && row.is_last) return row_;  // the only one, as it is
    for (std::size_t i = 0; i < row_.size(); ++i) sum_[i] += static_cast<double>(row_[i]);
    ++count_;
    if (!row.is_last) return {};
    for (std::size_t i = 0; i < row_.size(); ++i) row_[i] = static_cast<float>(sum_[i] / static_cast<double>(count_));
    std::fill(sum_.begin(), sum_.end(), 0.0);
    count_ = 0;
    return row_;
  }

 private:
  std::vector<float> row_;
  std::vector<double> sum_;
  std::int64_t count_ = 0;
};

// As torch.nn.functional.normalize: what has no length stays as it is.
void normalize(std::vector<float>& vector) {
  double sum = 0;
  for (const float x : vector) sum += static_cast<double>(x) * static_cast<double>(x);
  const double length = std::max(std::sqrt(sum), 1e-12);
  for (float& x : vector) x = static_cast<float>(static_cast<double>(x) / length);
}

WantedRows rows_for(PoolingMode pooling) {
  switch (pooling) {
    case PoolingMode::last_token: return WantedRows::last;
    case PoolingMode::cls_token: return WantedRows::first;
    case PoolingMode::mean: return WantedRows::all;
  }
  return WantedRows::last;
}

}  // namespace

void check_dimensions(const EmbedOptions& options, std::int64_t hidden_size) {
  const std::int64_t dimensions = options.dimensions.value_or(hidden_size);
  if (dimensions < 1 || dimensions > hidden_size)
    fail(ErrorCode::invalid_argument, "dimensions is ", dimensions, ", and the model's vectors have ", hidden_size,
         " numbers, expected 1 to ", hidden_size);
}

void embed(const Model& model, std::span<const std::vector<std::int32_t>> texts, const EmbedOptions& options,
           const OnEmbedding& on_embedding) {
  const std::int64_t hidden_size = model.config().hidden_size;
  check_dimensions(options, hidden_size);
  const std::int64_t dimensions = options.dimensions.value_or(hidden_size);
  for (std::size_t i = 0; i < texts.size(); ++i)
    with_context(detail::join("text ", i), [&] {
      check_token_ids(texts[i], model.config().vocab_size, static_cast<std::int64_t>(texts[i].size()));
    });
  Pooler pooler(static_cast<std::size_t>(hidden_size));
  std::vector<float> embedding;
  const PoolingRunner runner(model, {.logits = false, .last_hidden_state = true}, options.steps);
  runner.run(texts, rows_for(options.pooling), [&](const PoolingRunner::Row& row, const ModelRunner& from) {
    const auto pooled = pooler.add(row, from);
    if (pooled.empty()) return;
    embedding.assign(pooled.begin(), pooled.begin() + dimensions);
    if (options.normalize) normalize(embedding);
    on_embedding(row.text, embedding);
  });
}

std::vector<std::int32_t> encode_within(const Tokenizer& tokenizer, std::string_view text, const LengthLimit& limit) {
  EncodeOptions options;
  if (limit.truncate) options.max_length = limit.max_model_len;
  std::vector<std::int32_t> ids = tokenizer.encode(text, options);
  if (ids.empty())
    fail(ErrorCode::invalid_argument, "the text has no tokens",
         remedy("leave empty texts out: this tokenizer puts no end token after a text"));
  if (const auto length = static_cast<std::int64_t>(ids.size()); length > limit.max_model_len)
    fail(ErrorCode::invalid_argument, "the text has ", length, " tokens, and the model takes at most ",
         limit.max_model_len, remedy("shorten it, cut it with --truncate, or raise --max-model-len"));
  return ids;
}

void warn_without_end_token(const EmbeddingConfig& config, const Tokenizer& tokenizer) {
  if (!config.is_embedding_model || config.pooling != PoolingMode::last_token || !tokenizer.encode("").empty()) return;
  log_warning(
      "tokenizer.json appends no end token to a text, and the model's vectors are read from the last token: if it is "
      "a Qwen3-Embedding, its files are older than their correction; download tokenizer.json again");
}

std::string embedding_prefix(const EmbeddingConfig& config, const std::optional<std::string>& prompt_name,
                             const std::optional<std::string>& instruction) {
  if (prompt_name && instruction)
    fail(ErrorCode::invalid_argument, "both a prompt name, '", *prompt_name, "', and an instruction are given",
         remedy("give one of them"));
  if (instruction) return instruct_prompt(*instruction);
  if (prompt_name) return config.prompt(*prompt_name);
  return config.default_prompt_name ? config.prompt(*config.default_prompt_name) : std::string();
}

}  // namespace cajal
