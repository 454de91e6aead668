#include "api/pooling.h"

#include <algorithm>

#include "base/error.h"
#include "engine/generator.h"

namespace cajal {
namespace {

const Tokenizer& tokenizer_of(const PoolingContext& context) {
  if (!context.tokenizer) Tokenizer::from_folder(context.folder);  // says which file is missing
  return *context.tokenizer;
}

std::vector<std::int32_t> text_ids(const PoolingContext& context, const api::Prompt& prompt, const std::string& prefix,
                                   const LengthLimit& limit) {
  if (prompt.is_text()) return encode_within(tokenizer_of(context), prefix + prompt.text(), limit);
  check_token_ids(prompt.token_ids(), context.model.config().vocab_size, limit.max_model_len);
  return prompt.token_ids();
}

}  // namespace

EmbedRequest make_embed_request(const PoolingContext& context, std::span<const api::Prompt> prompts,
                                const api::EmbedOptions& options) {
  const EmbeddingConfig config = load_embedding_config(context.folder);
  const std::string prefix = embedding_prefix(config, options.prompt_name, options.instruction);
  const LengthLimit limit{std::min(context.max_model_len, config.max_seq_length.value_or(context.max_model_len)),
                          options.truncate};
  EmbedRequest request;
  request.options.pooling = config.pooling;
  request.options.normalize = config.normalize;
  request.options.dimensions = options.dimensions;
  request.options.steps.max_num_batched_tokens = context.max_num_batched_tokens;
  check_dimensions(request.options, context.model.config().hidden_size);
  for (std::size_t i = 0; i < prompts.size(); ++i)
    with_context(detail::join("prompts[", i, "]"), [&] {
      if (!prompts[i].is_text() && (options.prompt_name || options.instruction))
        fail(ErrorCode::invalid_argument, "it is token ids, and a prompt name or an instruction goes in front of text",
             remedy("leave them out, or give the text"));
      request.texts.push_back(text_ids(context, prompts[i], prefix, limit));
    });
  return request;
}

RerankRequest make_rerank_request(const PoolingContext& context, std::string_view query,
                                  std::span<const std::string> documents, const api::RerankOptions& options) {
  if (!context.model.has_lm_head()) context.model.graph(Bucket{}, {.logits = true});  // throws, and says why
  if (options.top_n && *options.top_n < 1)
    fail(ErrorCode::invalid_argument, "top_n is ", *options.top_n, ", expected 1 or more");
  RerankRequest request{{}, RerankPrompt(tokenizer_of(context))};
  const std::string instruction = options.instruction.value_or(std::string(kDefaultRerankInstruction));
  for (std::size_t i = 0; i < documents.size(); ++i)
    with_context(detail::join("documents[", i, "]"), [&] {
      request.prompts.push_back(
          request.words.encode(instruction, query, documents[i], {context.max_model_len, options.truncate}));
    });
  return request;
}

std::int64_t count_tokens(std::span<const std::vector<std::int32_t>> texts) {
  std::int64_t count = 0;
  for (const auto& text : texts) count += static_cast<std::int64_t>(text.size());
  return count;
}

}  // namespace cajal
