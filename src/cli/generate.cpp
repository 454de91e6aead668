// cajal generate: what a model makes of a prompt, or of a file of them.
#include <algorithm>
#include <fstream>

#include "base/log.h"
#include "cli/answer_json.h"
#include "cli/generation_request.h"
#include "cli/model_path.h"
#include "cli/prompt_lines.h"
#include "cli/session.h"
#include "cli/usage_error.h"
#include "engine/llm_engine.h"
#include "engine/speculation/assistant_drafter.h"

namespace cajal::cli {
namespace {

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

// Collects what the engine says of a set of requests, whose ids are their indexes.
class Answers final : public EngineObserver {
 public:
  std::function<void(std::size_t request, const SequenceUpdate&)> on_token;

  void expect(std::size_t count) { answers_.resize(count); }
  AnsweredRequest& operator[](std::size_t i) { return answers_[i]; }
  bool is_over(std::size_t i) const { return answers_[i].num_over == answers_[i].results.size(); }
  const std::string& error(std::size_t i) const { return answers_[i].error; }
  // What a callback threw, which must leave the engine's call first.
  void rethrow() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  void on_update(const SequenceUpdate& update) noexcept override {
    try {
      auto& answer = answers_[update.request];
      SequenceResult& result = answer.results[update.sequence];
      result.text += update.text;
      if (update.token) {
        result.tokens.push_back(*update.token);
        answer.stopwatch.token(update.sequence);
      }
      if (update.finish_reason) {
        result.finish_reason = *update.finish_reason;
        ++answer.num_over;
        if (*update.finish_reason == FinishReason::error) answer.error = update.error;
      }
      if (on_token && update.token && !failure_) on_token(update.request, update);
    } catch (...) {
      if (!failure_) failure_ = std::current_exception();
    }
  }

  struct Collected : AnsweredRequest {
    std::size_t num_over = 0;
    std::string error;
  };
  std::vector<Collected> answers_;
  std::exception_ptr failure_;
};

// The model that guesses, if one is wanted.
struct Assistant {
  std::optional<Session> session;

  Assistant(const CommandContext& context, const Session& target) {
    const Options& o = context.options;
    if (o.engine.assistant_model.empty()) return;
    CommonFlags flags = o.common;
    flags.hf_overrides = {};  // those are the model's own
    SessionBuilder builder(flags, o.engine.assistant_model, context.environment, context.ranks);
    with_context("--assistant-model", [&] {
      if (target.tokenizer && builder.tokenizer()) check_same_tokens(*target.tokenizer, *builder.tokenizer());
    });
    session.emplace(std::move(builder).load());
  }
};

void write_metrics(const std::string& path, const LLMEngine& engine) {
  std::ofstream file(path, std::ios::binary);
  file << engine.metrics().prometheus_text();
  file.close();
  if (!file) fail(ErrorCode::unavailable, path, ": the metrics could not be written");
}

// An engine for a set of requests, with what the flags want of it.
class Run {
 public:
  Run(const CommandContext& context, const Session& session, std::vector<EngineRequest> requests)
      : flags_(context.options.engine), assistant_(context, session), requests_(std::move(requests)) {
    LLMEngineOptions options = plan_engine(session, flags_, requests_);
    if (!flags_.trace.empty()) trace_.emplace(flags_.trace);
    options.trace = trace_ ? &*trace_ : nullptr;
    options.model_name = session.name;
    options.prompt_lookup_num_tokens = flags_.prompt_lookup_num_tokens.value_or(0);
    options.num_assistant_tokens = flags_.num_assistant_tokens.value_or(options.num_assistant_tokens);
    if (assistant_.session) options.assistant_model = assistant_.session->model.get();
    engine_.emplace(*session.model, session.tokenizer ? &*session.tokenizer : nullptr, options, answers_);
    answers_.expect(requests_.size());
  }

  Answers& answers() { return answers_; }

  // Runs everything; `on_step` is called after each step.
  void run(const std::function<void()>& on_step) {
    for (std::size_t i = 0; i < requests_.size(); ++i) {
      EngineRequest& request = requests_[i];
      AnsweredRequest& answer = answers_[i];
      request.id = i;
      answer.prompt = request.sequence.prompt;
      answer.seed = request.sequence.sampling.seed;
      answer.wants_logprobs = request.sequence.num_logprobs >= 0;
      answer.results.resize(request.n);
      answer.stopwatch = Stopwatch(request.n);
      if (request.deadline) request.deadline = engine_->clock().now() + *request.deadline;
      if (const auto refusal = engine_->core().add(request))
        throw Error(refusal->code, refusal->message, refusal->remedy);
    }
    while (engine_->core().has_work()) {
      engine_->core().step();
      answers_.rethrow();
      if (on_step) on_step();
    }
    engine_->core().settle();
    answers_.rethrow();
    if (!flags_.metrics.empty()) write_metrics(flags_.metrics, *engine_);
  }

  // An error of the engine about request i.
  void check_error(std::size_t i) const {
    if (!answers_.error(i).empty()) fail(ErrorCode::unavailable, answers_.error(i));
  }

 private:
  const EngineFlags& flags_;
  Assistant assistant_;
  std::vector<EngineRequest> requests_;
  Answers answers_;
  std::optional<StepTrace> trace_;
  std::optional<LLMEngine> engine_;  // last: it uses the others
};

void check_flags(const Options& o) {
  if (o.engine.num_assistant_tokens && o.engine.assistant_model.empty())
    misuse("--num-assistant-tokens is given without --assistant-model");
}

std::vector<std::int32_t> prompt_of(const PromptLine& line, const SessionBuilder& builder, const ChatFlags& chat) {
  std::vector<std::int32_t> ids;
  if (line.token_ids)
    ids = *line.token_ids;
  else if (line.prompt)
    ids = builder.encode(*line.prompt, chat);
  else
    ids = builder.encode(line.messages, line.enable_thinking ? line.enable_thinking : chat.enable_thinking);
  check_token_ids(ids, builder.config().vocab_size, builder.max_model_len());
  return ids;
}

// Whether answers in the model's chat template begin with a thought unless they are told not to: then the template ends one
// for them.
bool may_think(const SessionBuilder& builder) {
  if (!builder.tokenizer()) return false;
  try {
    const Json::Array chat{Json::Object{{"role", "user"}, {"content", "?"}}};
    const std::string told_not_to = builder.tokenizer()->decode(builder.encode(chat, false));
    return told_not_to.substr(0, told_not_to.find_last_not_of(" \n") + 1).ends_with("</think>");
  } catch (const Error&) {  // there is no template
    return false;
  }
}

bool wants_thoughts(const ChatFlags& chat) { return chat.chat && chat.enable_thinking.value_or(true); }

// `text`: of the prompt's file, if it is in one.
void answer_one(CommandContext& context, const std::optional<std::string>& text) {
  const Options& o = context.options;
  SessionBuilder builder(o.common, o.common.model, context.environment, context.ranks);
  PromptLine line;
  line.prompt = text;
  std::vector<std::int32_t> prompt =
      text ? with_context(*o.prompt.prompt_file, [&] { return prompt_of(line, builder, o.chat); })
           : builder.prompt(o.prompt, o.chat, context.in);
  const bool thinks = wants_thoughts(o.chat) && may_think(builder);
  const Session session = std::move(builder).load();
  const bool has_text = session.tokenizer.has_value();
  const EngineRequest request =
      make_request(o.generate, session, std::move(prompt), make_constraints(o.generate, session, thinks));
  const bool streams = !o.json && request.n == 1;
  if (!o.json && !request.sequence.sampling.greedy() && !o.generate.seed)
    log_info("seed ", request.sequence.sampling.seed);

  Run run(context, session, {request});
  Stream stream(context.out, has_text);
  if (streams)
    run.answers().on_token = [&](std::size_t, const SequenceUpdate& update) {
      stream.token(update.token->chosen.token_id, update.text);
    };
  run.run({});
  if (streams) stream.end();
  run.check_error(0);
  const AnsweredRequest& answer = run.answers()[0];
  check(answer.results);
  if (o.json)
    context.out.write(to_json(answer_json(session.name, answer, has_text, session.model->load_time())) + "\n");
  else if (!streams)
    context.out.write(plain_texts(answer.results, has_text));
}

// Answers a file of requests in the order of its lines, each as soon as it and those before it are there.
class LineWriter {
 public:
  LineWriter(CommandContext& context, const Session& session, std::vector<PromptLine> lines)
      : context_(context), session_(session), lines_(std::move(lines)) {}

  // The requests that make sense. Where a line makes none, its answer is its error.
  std::vector<EngineRequest> take_requests(std::vector<std::vector<std::int32_t>> prompts, bool may_think) {
    std::vector<EngineRequest> requests;
    const Options& o = context_.options;
    TokenConstraints constraints = make_constraints(o.generate, session_, false);
    for (std::size_t i = 0; i < lines_.size(); ++i) {
      PromptLine& line = lines_[i];
      const std::string& path = *context_.options.prompt.prompt_file;
      request_of_.push_back(requests.size());
      if (line.error) continue;
      try {
        with_context(detail::join(path, ", line ", line.number), [&] {
          ChatFlags chat = o.chat;
          chat.chat = chat.chat || !line.messages.empty();
          if (line.enable_thinking) chat.enable_thinking = line.enable_thinking;
          constraints.may_think = may_think && wants_thoughts(chat);
          EngineRequest request = make_request(line.generate, session_, std::move(prompts[i]), constraints);
          check_sampling_params(request.sequence.sampling);
          if (request.n > EngineCore::kMaxSequencesPerRequest)
            fail(ErrorCode::invalid_argument, "n is ", request.n, ", expected at most ",
                 EngineCore::kMaxSequencesPerRequest);
          request.priority = line.priority;
          request.cache_salt = line.cache_salt;
          if (line.timeout_ms) request.deadline = std::chrono::milliseconds(*line.timeout_ms);
          requests.push_back(std::move(request));
        });
      } catch (const Error& e) {
        line.error = e;
      }
    }
    return requests;
  }

  void write_finished(Run& run) {
    for (; next_ < lines_.size(); ++next_) {
      const PromptLine& line = lines_[next_];
      const std::size_t request = request_of_[next_];
      if (!line.error && !run.answers().is_over(request)) return;
      write(line, line.error ? nullptr : &run.answers()[request], line.error ? "" : run.answers().error(request));
    }
  }
  void write_errors() {  // where nothing else is to be written
    for (const PromptLine& line : lines_) write(line, nullptr, {});
  }

  std::size_t num_failed() const { return num_failed_; }

 private:
  void write(const PromptLine& line, const AnsweredRequest* answer, std::string_view failure) {
    const bool has_text = session_.tokenizer.has_value();
    std::string error(failure);
    if (line.error) error = line.error->what();
    if (answer && error.empty()) {
      try {
        check(answer->results);
      } catch (const Error& e) {
        error = e.what();
      }
    }
    num_failed_ += !error.empty();
    if (!context_.options.json) {
      if (!error.empty()) return log_line(LogLevel::error, error);
      return context_.out.write(plain_texts(answer->results, has_text, detail::join("line ", line.number, ", ")));
    }
    Json object = Json::Object{{"line", static_cast<std::int64_t>(line.number)}};
    if (!line.id.is_null()) object.set("id", line.id);
    if (!error.empty()) {
      object.set("error", error);
    } else {
      Json json = answer_json(session_.name, *answer, has_text, session_.model->load_time());
      for (auto& [key, value] : json.as_object()) object.set(key, std::move(value));
    }
    context_.out.write(to_json(object) + "\n");
  }

  CommandContext& context_;
  const Session& session_;
  std::vector<PromptLine> lines_;
  std::vector<std::size_t> request_of_;  // by line
  std::size_t next_ = 0, num_failed_ = 0;
};

void answer_lines(CommandContext& context, std::string_view text) {
  const Options& o = context.options;
  const std::string& path = *o.prompt.prompt_file;
  std::vector<PromptLine> lines = read_prompt_lines(text, path, o.generate);
  if (lines.empty()) fail(ErrorCode::invalid_argument, path, " has no requests", remedy("write one a line, as JSON"));
  SessionBuilder builder(o.common, o.common.model, context.environment, context.ranks);
  std::vector<std::vector<std::int32_t>> prompts;
  for (PromptLine& line : lines) {
    auto& prompt = prompts.emplace_back();
    if (line.error) continue;
    try {
      ChatFlags chat = o.chat;
      if (line.enable_thinking) chat.enable_thinking = line.enable_thinking;
      prompt = with_context(detail::join(path, ", line ", line.number), [&] { return prompt_of(line, builder, chat); });
    } catch (const Error& e) {
      line.error = e;
    }
  }
  const bool thinks = may_think(builder);
  const Session session = std::move(builder).load();
  LineWriter writer(context, session, std::move(lines));
  const std::vector<EngineRequest> requests = writer.take_requests(std::move(prompts), thinks);
  if (requests.empty()) {
    writer.write_errors();
  } else {
    Run run(context, session, requests);
    run.run([&] { writer.write_finished(run); });
    writer.write_finished(run);
  }
  if (writer.num_failed() > 0)
    fail(ErrorCode::data_loss, path, ": ", writer.num_failed(), " of its requests failed",
         remedy("see the errors above"));
}

}  // namespace

void run_generate(CommandContext& context) {
  check_flags(context.options);
  std::optional<std::string> text;
  if (const auto& path = context.options.prompt.prompt_file) {
    text = read_file_or(context.in, *path);
    if (has_prompt_lines(*path, *text)) return answer_lines(context, *text);
  }
  answer_one(context, text);
}

}  // namespace cajal::cli
