#include "engine/reranker.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/checked.h"
#include "engine/export/export_limits.h"
#include "engine/generator.h"

namespace cajal {
namespace {

// The words of Qwen3-Reranker's model card, which the model was trained with.
constexpr std::string_view kPrefix =
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    "provided. "
    "Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n";
constexpr std::string_view kSuffix = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";

std::int32_t id_of(const Tokenizer& tokenizer, std::string_view token) {
  const auto id = tokenizer.id_of(token);
  if (!id)
    fail(ErrorCode::unsupported, "the tokenizer has no token '", token, "', which a Qwen3-Reranker has",
         remedy("use a Qwen3-Reranker checkpoint, or compare vectors of 'cajal embed'"));
  return *id;
}

}  // namespace

RerankPrompt::RerankPrompt(const Tokenizer& tokenizer)
    : tokenizer_(tokenizer), yes_(id_of(tokenizer, "yes")), no_(id_of(tokenizer, "no")) {
  for (const char* token : {"<|im_start|>", "<|im_end|>"}) id_of(tokenizer, token);
  prefix_ = tokenizer.encode(kPrefix, {.add_special_tokens = false});
  suffix_ = tokenizer.encode(kSuffix, {.add_special_tokens = false});
}

std::vector<std::int32_t> RerankPrompt::encode(std::string_view instruction, std::string_view query,
                                               std::string_view document, const LengthLimit& limit) const {
  const std::string body = detail::join("<Instruct>: ", instruction, "\n<Query>: ", query, "\n<Document>: ", document);
  const TextSpan all{0, body.size()};
  const auto around = static_cast<std::int64_t>(prefix_.size() + suffix_.size());
  EncodeOptions options{.plain = std::span(&all, 1)};
  if (limit.truncate) options.max_length = std::max<std::int64_t>(limit.max_model_len - around, 0);
  const std::vector<std::int32_t> ids = tokenizer_.encode(body, options);
  const std::int64_t length = around + static_cast<std::int64_t>(ids.size());
  if (length > limit.max_model_len)
    fail(ErrorCode::invalid_argument, "query and document make a prompt of ", length,
         " tokens, and the model takes at most ", limit.max_model_len,
         remedy("shorten the document, cut it with --truncate, or raise --max-model-len"));
  std::vector<std::int32_t> prompt = prefix_;
  prompt.insert(prompt.end(), ids.begin(), ids.end());
  prompt.insert(prompt.end(), suffix_.begin(), suffix_.end());
  return prompt;
}

std::vector<double> rerank(const Model& model, std::span<const std::vector<std::int32_t>> prompts,
                           const RerankPrompt& words, const PoolingOptions& steps) {
  if (model.exported()) check_gives_logits(model.exported()->neuron_config());
  const std::int64_t vocab_size = model.config().vocab_size;
  for (const std::int32_t id : {words.yes(), words.no()})
    if (id >= vocab_size)
      fail(ErrorCode::unsupported, "the tokenizer's id ", id, " of 'yes' or 'no' is outside the model's vocabulary of ",
           vocab_size, remedy("is the tokenizer from another model?"));
  for (const auto& prompt : prompts) check_token_ids(prompt, vocab_size, static_cast<std::int64_t>(prompt.size()));
  std::vector<double> scores(prompts.size());
  std::vector<float> logits(static_cast<std::size_t>(vocab_size));
  const PoolingRunner runner(model, {}, steps);
  runner.run(prompts, WantedRows::last, [&](const PoolingRunner::Row& row, const ModelRunner& from) {
    from.read_logits(row.row, logits);
    const double yes = static_cast<double>(logits[static_cast<std::size_t>(words.yes())]);
    const double no = static_cast<double>(logits[static_cast<std::size_t>(words.no())]);
    if (!std::isfinite(yes) || !std::isfinite(no))
      fail(ErrorCode::data_loss, "document ", row.text, ": the model's logits are not finite",
           remedy("check the weights; try --dtype float32"));
    scores[row.text] = 1 / (1 + std::exp(no - yes));  // softmax over the two
  });
  return scores;
}

std::vector<std::size_t> by_score(std::span<const double> scores, std::size_t top_n) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  order.resize(std::min(order.size(), top_n));
  return order;
}

}  // namespace cajal
