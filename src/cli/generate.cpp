// cajal generate: what a model makes of a prompt.
#include <algorithm>
#include <iomanip>
#include <random>
#include <sstream>

#include "base/log.h"
#include "cli/generation_request.h"
#include "cli/session.h"
#include "engine/generator.h"

namespace cajal::cli {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds(Clock::duration d) { return std::chrono::duration<double, std::milli>(d).count(); }

// When the tokens came.
class Stopwatch {
 public:
  explicit Stopwatch(std::size_t num_sequences) : started_(num_sequences, false) {}

  void token(std::size_t sequence) {
    last_ = Clock::now();
    if (tokens_++ == 0) first_ = last_;
    if (!started_[sequence]) all_started_ = last_;
    started_[sequence] = true;
  }

  // Prompts are over when every sequence has its first token; what comes after is decoding.
  Json report(const Session& session, std::int64_t prompt_tokens) const {
    const auto sequences = static_cast<std::int64_t>(started_.size());
    const std::int64_t decoded = tokens_ - sequences;
    const double prefill = milliseconds(all_started_ - begin_), decode = milliseconds(last_ - all_started_);
    const bool known = decoded > 0 && decode > 0;
    return Json::Object{
        {"load_ms", milliseconds(session.model->load_time())},
        {"ttft_ms", milliseconds(first_ - begin_)},
        {"tpot_ms", known ? Json(decode * static_cast<double>(sequences) / static_cast<double>(decoded)) : Json()},
        {"prompt_tokens_per_s", 1e3 * static_cast<double>(prompt_tokens * sequences) / std::max(prefill, 1e-3)},
        {"completion_tokens_per_s", known ? Json(1e3 * static_cast<double>(decoded) / decode) : Json()}};
  }

  std::int64_t tokens() const { return tokens_; }

 private:
  std::vector<bool> started_;
  std::int64_t tokens_ = 0;
  Clock::time_point begin_ = Clock::now(), first_ = begin_, all_started_ = begin_, last_ = begin_;
};

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

Json answer_json(const Session& session, std::span<const SequenceRequest> requests,
                 std::span<const SequenceResult> results, const Stopwatch& stopwatch) {
  const SequenceRequest& request = requests[0];
  const auto prompt_tokens = static_cast<std::int64_t>(request.prompt.size());
  Json::Array choices;
  for (std::size_t i = 0; i < results.size(); ++i)
    choices.push_back(choice_json(i, results[i], session.tokenizer.has_value(), request.num_logprobs >= 0));
  return Json::Object{{"model", session.name},
                      {"prompt_token_ids", to_json_list(request.prompt)},
                      {"seed", request.sampling.seed},
                      {"choices", std::move(choices)},
                      {"usage", Json::Object{{"prompt_tokens", prompt_tokens},
                                             {"completion_tokens", stopwatch.tokens()},
                                             {"total_tokens", prompt_tokens + stopwatch.tokens()}}},
                      {"timings", stopwatch.report(session, prompt_tokens)}};
}

// The plain form of one sequence: its text, or its ids where there is no tokenizer, with a newline at the end.
std::string plain(const SequenceResult& result, bool has_text) {
  std::string text = result.text;
  if (!has_text)
    for (const GeneratedToken& token : result.tokens)
      text += (text.empty() ? "" : " ") + std::to_string(token.chosen.token_id);
  return text.ends_with('\n') ? text : text + "\n";
}

std::string plain(std::span<const SequenceResult> results, bool has_text) {
  std::string text;
  for (std::size_t i = 0; i < results.size(); ++i)
    text +=
        detail::join("--- sequence ", i, ", ", to_string(results[i].finish_reason), "\n", plain(results[i], has_text));
  return text;
}

// Prints one sequence as it comes.
class Stream {
 public:
  Stream(Output& out, bool has_text) : out_(out), has_text_(has_text) {}

  void token(std::int32_t id, std::string_view text) {
    const std::string piece = has_text_ ? std::string(text) : (any_ ? " " : "") + std::to_string(id);
    if (piece.empty()) return;
    out_.write(piece);
    any_ = true;
    ends_line_ = piece.back() == '\n';
  }
  void end() {
    if (!ends_line_) out_.write("\n");
  }

 private:
  Output& out_;
  bool has_text_, any_ = false, ends_line_ = false;
};

void check(std::span<const SequenceResult> results) {
  for (std::size_t i = 0; i < results.size(); ++i)
    if (results[i].finish_reason == FinishReason::numerical_error)
      fail(ErrorCode::data_loss, "sequence ", i, ": the model's logits after token ", results[i].tokens.size(),
           " of the answer are not finite", remedy("check the weights; try --dtype float32"));
}

LLMEngineOptions generator_options(const Session& session, std::span<const SequenceRequest> requests) {
  const SequenceRequest& request = requests[0];
  const std::int64_t longest =
      std::min(static_cast<std::int64_t>(request.prompt.size()) + request.max_new_tokens, session.max_model_len);
  const MemoryPlanForRun plan = plan_memory_for_run(session, longest, static_cast<std::int64_t>(requests.size()));
  LLMEngineOptions options;
  options.max_num_seqs = plan.num_seqs;
  options.max_model_len = std::min(longest, plan.max_model_len);  // the run needs no more, and the cache holds it
  options.max_num_kv_blocks = plan.num_seqs * ((options.max_model_len + kKvBlockSize - 1) / kKvBlockSize);
  return options;
}

}  // namespace

void run_generate(CommandContext& context) {
  const Options& o = context.options;
  SessionBuilder builder(o.common, o.common.model, context.environment);
  const std::vector<std::int32_t> prompt = builder.prompt(o.prompt, o.chat, context.in);
  const Session session = std::move(builder).load();
  const std::vector<SequenceRequest> requests = make_requests(o.generate, session, prompt);
  const bool has_text = session.tokenizer.has_value();
  const bool streams = !o.json && requests.size() == 1;
  if (!o.json && !requests[0].sampling.greedy() && !o.generate.seed) log_info("seed ", requests[0].sampling.seed);

  Generator generator(*session.model, has_text ? &*session.tokenizer : nullptr, generator_options(session, requests));
  Stopwatch stopwatch(requests.size());
  Stream stream(context.out, has_text);
  const auto results = generator.run(requests, [&](std::size_t sequence, std::int32_t id, std::string_view text) {
    stopwatch.token(sequence);
    if (streams) stream.token(id, text);
    return true;
  });
  if (streams) stream.end();
  check(results);
  if (o.json)
    context.out.write(to_json(answer_json(session, requests, results, stopwatch)) + "\n");
  else if (!streams)
    context.out.write(plain(results, has_text));
}

}  // namespace cajal::cli
