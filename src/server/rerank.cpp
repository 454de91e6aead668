// POST /v1/rerank, in the form of Jina and Cohere.
#include <utility>

#include "server/generation.h"

namespace cajal::server {
namespace {

constexpr std::size_t kMaxDocuments = 2048;

std::vector<std::string> read_documents(protocol::Fields& f) {
  const Json::Array* documents = f.array("documents");
  if (!documents || documents->empty()) protocol::refuse("documents", " is missing or empty");
  if (documents->size() > kMaxDocuments)
    protocol::refuse("documents", " has ", documents->size(), " entries, expected at most ", kMaxDocuments);
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < documents->size(); ++i) {
    const Json& document = (*documents)[i];
    const Json* text = document.is_object() ? document.find("text") : &document;
    if (!text || !text->is_string())
      protocol::refuse(detail::join("documents[", i, "]"), " is ", document.type_name(),
                       ", expected a string or an object with the member text");
    texts.push_back(text->as_string());
  }
  return texts;
}

}  // namespace

void rerank(Service& service, const CallPtr& call) {
  const Json body = protocol::parse_body(call->request().body);
  protocol::Fields f(body);
  const std::string& model = service.model_name(f.text("model"));
  const auto query = f.text("query");
  if (!query) protocol::refuse("query", " is missing");
  const std::vector<std::string> documents = read_documents(f);
  api::RerankOptions options;
  options.top_n = f.integer("top_n", {0, std::int64_t{1} << 40});
  if (options.top_n == 0) options.top_n.reset();  // all of them, as elsewhere
  options.instruction = f.text("instruction");
  options.truncate = f.integer("truncate_prompt_tokens", {-1, std::int64_t{1} << 40}).has_value();
  const bool with_documents = f.boolean("return_documents").value_or(true);
  for (const char* name : {"user", "priority", "max_tokens_per_doc"}) f.accept(name);
  call->note_ignored(f.unknown(), service.options().strict_fields);

  api::Cancellation cancellation;
  call->exchange().on_gone([cancellation]() mutable { cancellation.cancel(); });
  const api::RerankResult ranked = service.engine().rerank(*query, documents, options, cancellation);
  Json::Array results;
  for (const auto& document : ranked.documents) {
    Json one = Json::Object{{"index", static_cast<std::int64_t>(document.index)},
                            {"relevance_score", document.relevance_score}};
    if (with_documents) one.set("document", Json::Object{{"text", documents[document.index]}});
    results.push_back(std::move(one));
  }
  const std::int64_t tokens = ranked.usage.prompt_tokens;
  call->record([&](CallRecord& r) { r.prompt_tokens = tokens; });
  call->respond(200, Json::Object{{"id", random_id("rerank-")},
                                  {"model", model},
                                  {"usage", Json::Object{{"prompt_tokens", tokens}, {"total_tokens", tokens}}},
                                  {"results", std::move(results)}});
}

}  // namespace cajal::server
