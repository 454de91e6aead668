#include "cli/answer_json.h"

#include <algorithm>

#include "base/error.h"
#include "cli/session.h"

namespace cajal::cli {
namespace {

double milliseconds(std::chrono::nanoseconds d) { return std::chrono::duration<double, std::milli>(d).count(); }

Json logprobs_json(const SequenceResult& result) {
  Json::Array list;
  for (const GeneratedToken& token : result.tokens) {
    Json::Array top;
    for (const TokenLogprob& t : token.top)
      top.emplace_back(Json::Object{{"token_id", t.token_id}, {"logprob", t.logprob}});
    list.emplace_back(
        Json::Object{{"token_id", token.chosen.token_id}, {"logprob", token.chosen.logprob}, {"top", std::move(top)}});
  }
  return list;
}

Json choice_json(std::size_t index, const SequenceResult& result, bool has_text, bool logprobs) {
  Json::Array ids;
  for (const GeneratedToken& token : result.tokens) ids.emplace_back(token.chosen.token_id);
  Json choice = Json::Object{{"index", static_cast<std::int64_t>(index)},
                             {"token_ids", std::move(ids)},
                             {"text", has_text ? Json(result.text) : Json()}};
  if (logprobs) choice.set("logprobs", logprobs_json(result));
  choice.set("finish_reason", to_string(result.finish_reason));
  return choice;
}

}  // namespace

void Stopwatch::token(std::size_t sequence) {
  last_ = Clock::now();
  if (tokens_++ == 0) first_ = last_;
  if (!started_[sequence]) all_started_ = last_;
  started_[sequence] = true;
}

// The prompt is over when every sequence has its first token; what comes after is decoding.
Json Stopwatch::report(std::chrono::nanoseconds load_time, std::int64_t prompt_tokens) const {
  const auto sequences = static_cast<std::int64_t>(started_.size());
  const std::int64_t decoded = tokens_ - sequences;
  const double prefill = milliseconds(all_started_ - begin_), decode = milliseconds(last_ - all_started_);
  const bool known = decoded > 0 && decode > 0;
  return Json::Object{
      {"load_ms", milliseconds(load_time)},
      {"ttft_ms", milliseconds(first_ - begin_)},
      {"tpot_ms", known ? Json(decode * static_cast<double>(sequences) / static_cast<double>(decoded)) : Json()},
      {"prompt_tokens_per_s", 1e3 * static_cast<double>(prompt_tokens) / std::max(prefill, 1e-3)},
      {"completion_tokens_per_s", known ? Json(1e3 * static_cast<double>(decoded) / decode) : Json()}};
}

Json answer_json(const std::string& model, const AnsweredRequest& answer, bool has_text,
                 std::chrono::nanoseconds load_time) {
  const auto prompt_tokens = static_cast<std::int64_t>(answer.prompt.size());
  Json::Array choices;
  for (std::size_t i = 0; i < answer.results.size(); ++i)
    choices.push_back(choice_json(i, answer.results[i], has_text, answer.wants_logprobs));
  return Json::Object{{"model", model},
                      {"prompt_token_ids", to_json_list(answer.prompt)},
                      {"seed", answer.seed},
                      {"choices", std::move(choices)},
                      {"usage", Json::Object{{"prompt_tokens", prompt_tokens},
                                             {"completion_tokens", answer.stopwatch.tokens()},
                                             {"total_tokens", prompt_tokens + answer.stopwatch.tokens()}}},
                      {"timings", answer.stopwatch.report(load_time, prompt_tokens)}};
}

std::string plain_text(const SequenceResult& result, bool has_text) {
  std::string text = result.text;
  if (!has_text)
    for (const GeneratedToken& token : result.tokens)
      text += (text.empty() ? "" : " ") + std::to_string(token.chosen.token_id);
  return text.ends_with('\n') ? text : text + "\n";
}

std::string plain_texts(std::span<const SequenceResult> results, bool has_text, const std::string& label) {
  std::string text;
  for (std::size_t i = 0; i < results.size(); ++i)
    text += detail::join("--- ", label, "sequence ", i, ", ", to_string(results[i].finish_reason), "\n",
                         plain_text(results[i], has_text));
  return text;
}

}  // namespace cajal::cli
