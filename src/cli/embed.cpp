// cajal embed: texts as vectors.
#include <charconv>
#include <cstring>
#include <istream>

#include "base/base64.h"
#include "cli/session.h"
#include "cli/text_lines.h"
#include "cli/usage_error.h"
#include "engine/embedder.h"

namespace cajal::cli {
namespace {

std::vector<TextLine> texts_of(const Options& o, std::istream& in) {
  if (o.prompt.prompt) return {{*o.prompt.prompt, {}}};
  if (o.input.empty()) misuse("no text is given", remedy("give --prompt or --input"));
  return read_text_lines(read_file_or(in, o.input), o.input == "-" ? "standard input" : o.input, "input");
}

std::vector<std::vector<std::int32_t>> encode(const std::vector<TextLine>& texts, const std::string& prefix,
                                              const Tokenizer& tokenizer, const LengthLimit& limit) {
  std::vector<std::vector<std::int32_t>> ids;
  for (std::size_t i = 0; i < texts.size(); ++i)
    ids.push_back(with_context(detail::join("text ", i),
                               [&] { return encode_within(tokenizer, prefix + texts[i].text, limit); }));
  return ids;
}

// The fewest digits that read back to the same float.
void append_float(std::string& out, float value) {
  char digits[32];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

std::string numbers(std::span<const float> embedding, char separator) {
  std::string text;
  for (const float x : embedding) {
    if (!text.empty()) text += separator;
    append_float(text, x);
  }
  return text;
}

// One member of "data". The numbers are many, and so written without a Json of each.
std::string data_json(std::size_t index, const Json& id, std::span<const float> embedding, bool base64) {
  const std::string value =
      base64 ? '"' + to_base64(std::as_bytes(embedding)) + '"' : '[' + numbers(embedding, ',') + ']';
  const std::string named = id.is_null() ? std::string() : detail::join("\"id\":", to_json(id), ",");
  return detail::join(R"({"object":"embedding","index":)", index, ",", named, R"("embedding":)", value, "}");
}

std::string list_json(const std::string& data, const std::string& model, std::int64_t tokens) {
  const Json usage = Json::Object{{"prompt_tokens", tokens}, {"total_tokens", tokens}};
  return detail::join(R"({"object":"list","data":[)", data, R"(],"model":)", to_json(Json(model)), R"(,"usage":)",
                      to_json(usage), "}\n");
}

}  // namespace

void run_embed(CommandContext& context) {
  const Options& o = context.options;
  const std::vector<TextLine> texts = texts_of(o, context.in);
  SessionBuilder builder(o.common, o.common.model, context.environment, context.ranks);
  if (!builder.tokenizer()) Tokenizer::from_folder(builder.folder());  // says which file is missing
  const EmbeddingConfig config = load_embedding_config(builder.folder());
  warn_without_end_token(config, *builder.tokenizer());
  const std::string prefix = embedding_prefix(config, o.texts.prompt_name, o.texts.instruction);
  std::int64_t longest = builder.max_model_len();
  if (!o.common.max_model_len) longest = std::min(longest, config.max_seq_length.value_or(longest));
  const auto ids = encode(texts, prefix, *builder.tokenizer(), {longest, o.texts.truncate});
  EmbedOptions options{.pooling = config.pooling, .normalize = config.normalize, .dimensions = o.texts.dimensions};
  check_dimensions(options, builder.config().hidden_size);
  const Session session = std::move(builder).load({.logits = false, .last_hidden_state = true});

  std::string data;
  embed(*session.model, ids, options, [&](std::size_t i, std::span<const float> embedding) {
    if (!o.json) return context.out.write(numbers(embedding, ' ') + "\n");
    data += (data.empty() ? "" : ",") + data_json(i, texts[i].id, embedding, o.texts.base64);
  });
  std::int64_t tokens = 0;
  for (const auto& text : ids) tokens += static_cast<std::int64_t>(text.size());
  if (o.json) context.out.write(list_json(data, session.name, tokens));
}

}  // namespace cajal::cli
