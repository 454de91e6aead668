// cajal rerank: documents by how well they answer a query.
#include <istream>
#include <limits>

#include "cli/session.h"
#include "cli/text_lines.h"
#include "cli/usage_error.h"
#include "engine/reranker.h"

namespace cajal::cli {
namespace {

std::vector<TextLine> documents_of(const Options& o, std::istream& in) {
  if (!o.texts.query) misuse("no query is given", remedy("give --query"));
  std::vector<TextLine> documents;
  for (const std::string& text : o.texts.documents) documents.push_back({text, {}});
  if (!documents.empty()) return documents;
  if (o.input.empty()) misuse("no document is given", remedy("give --document or --input"));
  return read_text_lines(read_file_or(in, o.input), o.input == "-" ? "standard input" : o.input, "document");
}

// One line, whatever it holds.
std::string one_line(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return text;
}

Json result_json(std::size_t index, double score, const TextLine& document) {
  Json result = Json::Object{{"index", static_cast<std::int64_t>(index)},
                             {"relevance_score", score},
                             {"document", Json::Object{{"text", document.text}}}};
  if (!document.id.is_null()) result.set("id", document.id);
  return result;
}

}  // namespace

void run_rerank(CommandContext& context) {
  const Options& o = context.options;
  const std::vector<TextLine> documents = documents_of(o, context.in);
  SessionBuilder builder(o.common, o.common.model, context.environment, context.ranks);
  if (!builder.tokenizer()) Tokenizer::from_folder(builder.folder());  // says which file is missing
  const RerankPrompt words(*builder.tokenizer());
  const std::string instruction = o.texts.instruction.value_or(std::string(kDefaultRerankInstruction));
  const LengthLimit limit{builder.max_model_len(), o.texts.truncate};
  std::vector<std::vector<std::int32_t>> prompts;
  std::int64_t tokens = 0;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    prompts.push_back(with_context(detail::join("document ", i), [&] {
      return words.encode(instruction, *o.texts.query, documents[i].text, limit);
    }));
    tokens += static_cast<std::int64_t>(prompts.back().size());
  }
  const Session session = std::move(builder).load();
  const std::vector<double> scores = rerank(*session.model, prompts, words, {});

  const auto top_n = static_cast<std::size_t>(o.texts.top_n.value_or(std::numeric_limits<std::int64_t>::max()));
  Json::Array results;
  std::string lines;
  for (const std::size_t i : by_score(scores, top_n)) {
    results.push_back(result_json(i, scores[i], documents[i]));
    lines += detail::join(to_json(Json(scores[i])), "\t", i, "\t", one_line(documents[i].text), "\n");
  }
  if (!o.json) return context.out.write(lines);
  context.out.write(
      to_json(Json::Object{{"model", session.name},
                           {"results", std::move(results)},
                           {"usage", Json::Object{{"prompt_tokens", tokens}, {"total_tokens", tokens}}}}) +
      "\n");
}

}  // namespace cajal::cli
