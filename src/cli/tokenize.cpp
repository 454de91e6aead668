// cajal tokenize: text to token ids.
#include <istream>

#include "cli/commands.h"
#include "cli/model_path.h"
#include "text/tokenizer.h"

namespace cajal::cli {
namespace {

Json as_json(const Tokenizer& tokenizer, std::string_view text) {
  Json::Array ids, tokens;
  for (const std::int32_t id : tokenizer.encode(text)) {
    ids.emplace_back(id);
    tokens.emplace_back(tokenizer.token(id));
  }
  return Json::Object{{"token_ids", std::move(ids)}, {"tokens", std::move(tokens)}};
}

Json answer(const Tokenizer& tokenizer, std::string_view line, std::string_view where) {
  const Json text = parse_json(line, where);
  if (!text.is_string())
    fail(ErrorCode::data_loss, where, ": ", text.type_name(), ", expected a JSON string",
         remedy("put the text in quotes"));
  return as_json(tokenizer, text.as_string());
}

// Every line gets an answer, so that line n of the output belongs to line n of the input.
void answer_lines(const Tokenizer& tokenizer, std::istream& in, Output& out) {
  std::string line, first_bad;
  std::int64_t lines = 0, bad = 0;
  while (std::getline(in, line)) {
    const std::string where = detail::join("standard input line ", ++lines);
    try {
      out.write(to_json(answer(tokenizer, line, where)) + "\n");
    } catch (const Error& e) {
      if (bad++ == 0) first_bad = e.message();
      out.write(to_json(Json::Object{{"error", e.what()}}) + "\n");
    }
  }
  if (bad > 0)
    fail(ErrorCode::data_loss, bad, " of ", lines, " lines failed, the first: ", first_bad,
         remedy("write one JSON string a line"));
}

std::string plain(const std::vector<std::int32_t>& ids) {
  std::string text;
  for (const std::int32_t id : ids) text += (text.empty() ? "" : " ") + std::to_string(id);
  return text + "\n";
}

}  // namespace

void run_tokenize(CommandContext& context) {
  const Options& options = context.options;
  const Tokenizer tokenizer =
      Tokenizer::from_folder(resolve_model(options.common.model, context.environment, options.common.download));
  if (options.jsonl) return answer_lines(tokenizer, context.in, context.out);
  const std::string text = read_all(context.in);
  const std::string result = with_context("standard input", [&] {
    return options.json ? to_json(as_json(tokenizer, text)) + "\n" : plain(tokenizer.encode(text));
  });
  context.out.write(result);
}

}  // namespace cajal::cli
