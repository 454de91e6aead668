// Embeddings and reranking of the C interface.
#include "api/c_support.h"

namespace api = cajal::v1;
using namespace cajal::c;  // NOLINT(google-build-using-namespace): what every function here is made of

struct cajal_embeddings {
  std::vector<api::Embedding> texts;
};
struct cajal_ranking {
  std::vector<cajal_ranked_document> documents;
  std::int64_t prompt_tokens = 0;
};

namespace {

cajal_embed_options default_embed_options() {
  cajal_embed_options o{};
  o.struct_size = sizeof o;
  o.dimensions = CAJAL_UNSET_INTEGER;
  return o;
}

cajal_rerank_options default_rerank_options() {
  cajal_rerank_options o{};
  o.struct_size = sizeof o;
  o.top_n = CAJAL_UNSET_INTEGER;
  return o;
}

// The empty text is none.
std::optional<std::string> text_if_any(cajal_string text, const char* name) {
  std::string value = text_of(text, name);
  return value.empty() ? std::nullopt : std::optional(std::move(value));
}

api::EmbedOptions embed_options_of(const cajal_embed_options* given) {
  api::EmbedOptions options;
  if (!given) return options;
  const cajal_embed_options o = taken(given, default_embed_options(), "options");
  options.dimensions = integer_if_set(o.dimensions);
  options.prompt_name = text_if_any(o.prompt_name, "options->prompt_name");
  options.instruction = text_if_any(o.instruction, "options->instruction");
  options.truncate = o.truncate != 0;
  return options;
}

api::RerankOptions rerank_options_of(const cajal_rerank_options* given) {
  api::RerankOptions options;
  if (!given) return options;
  const cajal_rerank_options o = taken(given, default_rerank_options(), "options");
  options.instruction = text_if_any(o.instruction, "options->instruction");
  options.top_n = integer_if_set(o.top_n);
  options.truncate = o.truncate != 0;
  return options;
}

}  // namespace

cajal_code cajal_embed_options_init(cajal_embed_options* options, size_t struct_size, cajal_error** error) {
  return call(error, [&] { put(options, struct_size, default_embed_options(), "options"); });
}

cajal_code cajal_embed(cajal_engine* engine, const cajal_prompt* prompts, size_t num_prompts,
                       const cajal_embed_options* options, cajal_cancellation* cancellation,
                       cajal_embeddings** embeddings, cajal_error** error) {
  return make(error, embeddings, "embeddings", [&] {
    std::vector<api::Prompt> all;
    for (const cajal_prompt& prompt : list_of(prompts, num_prompts, "prompts")) all.push_back(prompt_of(prompt));
    auto answer = std::make_unique<cajal_embeddings>();
    answer->texts = engine_of(engine).embed(all, embed_options_of(options), cancellation_of(cancellation));
    return answer;
  });
}

size_t cajal_embeddings_size(const cajal_embeddings* embeddings) { return embeddings ? embeddings->texts.size() : 0; }

cajal_code cajal_embeddings_get(const cajal_embeddings* embeddings, size_t index, cajal_embedding* embedding,
                                cajal_error** error) {
  return call(error, [&] {
    need(embeddings, "embeddings");
    const api::Embedding& from = item(embeddings->texts, index, "index");
    cajal_embedding out{};
    out.values = from.values.data();
    out.num_values = from.values.size();
    out.token_ids = from.token_ids.data();
    out.num_token_ids = from.token_ids.size();
    put(embedding, out, "embedding");
  });
}
void cajal_embeddings_free(cajal_embeddings* embeddings) { delete embeddings; }

cajal_code cajal_rerank_options_init(cajal_rerank_options* options, size_t struct_size, cajal_error** error) {
  return call(error, [&] { put(options, struct_size, default_rerank_options(), "options"); });
}

cajal_code cajal_rerank(cajal_engine* engine, cajal_string query, const cajal_string* documents, size_t num_documents,
                        const cajal_rerank_options* options, cajal_cancellation* cancellation, cajal_ranking** ranking,
                        cajal_error** error) {
  return make(error, ranking, "ranking", [&] {
    std::vector<std::string> texts;
    for (const cajal_string& document : list_of(documents, num_documents, "documents"))
      texts.push_back(text_of(document, "documents"));
    const api::RerankResult result = engine_of(engine).rerank(
        text_of(query, "query"), texts, rerank_options_of(options), cancellation_of(cancellation));
    auto answer = std::make_unique<cajal_ranking>();
    for (const api::RankedDocument& d : result.documents) answer->documents.push_back({d.index, d.relevance_score});
    answer->prompt_tokens = result.usage.prompt_tokens;
    return answer;
  });
}

cajal_code cajal_ranking_get(const cajal_ranking* ranking, cajal_ranking_view* view, cajal_error** error) {
  return call(error, [&] {
    need(ranking, "ranking");
    cajal_ranking_view out{};
    out.documents = ranking->documents.data();
    out.num_documents = ranking->documents.size();
    out.prompt_tokens = ranking->prompt_tokens;
    put(view, out, "view");
  });
}
void cajal_ranking_free(cajal_ranking* ranking) { delete ranking; }
