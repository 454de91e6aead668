// POST /v1/completions
#include <ctime>
#include <utility>

#include "base/utf8.h"
#include "protocol/completion_request.h"
#include "server/generation.h"

namespace cajal::server {
namespace {

// What an answer repeats of its prompt.
struct Echo {
  std::string text;
  Json logprobs;                   // of its tokens, as CompletionLogprobs gives them; null: not asked for
  std::size_t num_characters = 0;  // of the text
};

struct Choice {
  explicit Choice(protocol::CompletionLogprobs l) : logprobs(std::move(l)) {}
  std::string text, finish_reason;
  protocol::CompletionLogprobs logprobs;
  std::vector<std::int32_t> token_ids;
};

class CompletionGeneration final : public Generation {
 public:
  CompletionGeneration(Service& service, const CallPtr& call, protocol::CompletionRequest request,
                       protocol::AnswerHead head)
      : Generation(service, call), request_(std::move(request)), head_(std::move(head)) {}

  void set_prompts(std::vector<Echo> echoes, std::vector<Json> prompt_token_ids) {
    echoes_ = std::move(echoes);
    prompt_token_ids_ = std::move(prompt_token_ids);
  }
  // The answer that repeats its prompts and adds nothing.
  void answer_echoes_only(std::int64_t prompt_tokens);

 private:
  void begin() override;
  void take(std::size_t choice, const api::Delta& delta) override;
  void end() override;
  void fail(const protocol::ErrorBody& error) override;

  const Echo& echo_of(std::size_t choice) const {
    return echoes_.at(choice / static_cast<std::size_t>(request_.sampling.n));
  }
  Json choice_json(std::size_t index, Choice& choice, std::string_view text);
  std::string chunk(Json::Array choices, const protocol::UsageCount* usage) const;
  Json answer_json(const char* object, Json::Array choices) const;
  void begin_choices(std::size_t count);

  protocol::CompletionRequest request_;
  protocol::AnswerHead head_;
  std::vector<Echo> echoes_;  // by prompt
  std::vector<Json> prompt_token_ids_;
  std::vector<Choice> choices_;
};

Json CompletionGeneration::answer_json(const char* object, Json::Array choices) const {
  return Json::Object{{"id", head_.id},
                      {"object", object},
                      {"created", head_.created},
                      {"model", head_.model},
                      {"choices", std::move(choices)}};
}

void CompletionGeneration::begin_choices(std::size_t count) {
  const auto style = request_.answer.return_tokens_as_token_ids ? protocol::TokenStyle::id : protocol::TokenStyle::text;
  for (std::size_t i = 0; i < count; ++i)
    choices_.emplace_back(protocol::CompletionLogprobs(style, echo_of(i).num_characters));
}

void CompletionGeneration::begin() {
  begin_choices(num_choices());
  if (request_.answer.stream) call().begin_events();
}

// Two objects of lists, joined list by list.
Json joined(const Json& first, const Json& second) {
  if (first.is_null()) return second;
  Json result = first;
  for (auto& [name, list] : result.as_object())
    for (const Json& value : second.find(name)->as_array()) list.push_back(value);
  return result;
}

Json CompletionGeneration::choice_json(std::size_t index, Choice& choice, std::string_view text) {
  Json json = Json::Object{{"index", static_cast<std::int64_t>(index)}, {"text", text}};
  json.set("logprobs", request_.answer.logprobs ? choice.logprobs.take() : Json());
  json.set("finish_reason", choice.finish_reason.empty() ? Json() : Json(choice.finish_reason));
  if (request_.answer.return_token_ids) {
    json.set("token_ids", json_list(std::exchange(choice.token_ids, {})));
    if (!request_.answer.stream)
      json.set("prompt_token_ids", prompt_token_ids_.at(index / static_cast<std::size_t>(request_.sampling.n)));
  }
  return json;
}

std::string CompletionGeneration::chunk(Json::Array choices, const protocol::UsageCount* usage) const {
  Json json = answer_json("text_completion", std::move(choices));
  if (usage)
    json.set("usage", protocol::to_json(*usage));
  else if (request_.answer.include_usage)
    json.set("usage", Json());
  return protocol::event_of(to_json(json));
}

void CompletionGeneration::take(std::size_t index, const api::Delta& delta) {
  Choice& choice = choices_.at(index);
  for (const auto& token : delta.logprobs) choice.logprobs.add(logprobs_of(token));
  if (request_.answer.return_token_ids)
    choice.token_ids.insert(choice.token_ids.end(), delta.token_ids.begin(), delta.token_ids.end());
  if (delta.finish_reason != api::FinishReason::none) choice.finish_reason = finish_reason(delta.finish_reason);
  if (!request_.answer.stream) {
    choice.text += delta.text;
    return;
  }
  const bool silent = delta.text.empty() && choice.finish_reason.empty() && !request_.answer.logprobs &&
                      !request_.answer.return_token_ids;
  if (silent) return;
  const protocol::UsageCount so_far = usage();
  call().exchange().write(
      chunk({choice_json(index, choice, delta.text)}, request_.answer.continuous_usage ? &so_far : nullptr));
}

void CompletionGeneration::end() {
  if (request_.answer.stream) {
    std::string text = request_.answer.include_usage ? chunk({}, &usage()) : "";
    call().exchange().write(text += protocol::kDoneEvent);
    return call().exchange().finish();
  }
  Json::Array list;
  for (std::size_t i = 0; i < choices_.size(); ++i) {
    Json json = choice_json(i, choices_[i], echo_of(i).text + choices_[i].text);
    if (request_.answer.logprobs) json.set("logprobs", joined(echo_of(i).logprobs, *json.find("logprobs")));
    list.push_back(std::move(json));
  }
  Json answer = answer_json("text_completion", std::move(list));
  answer.set("usage", protocol::to_json(usage()));
  call().respond(200, answer);
}

void CompletionGeneration::answer_echoes_only(std::int64_t prompt_tokens) {
  const std::size_t n = static_cast<std::size_t>(request_.sampling.n);
  begin_choices(echoes_.size() * n);
  Json::Array list;
  for (std::size_t i = 0; i < choices_.size(); ++i) {
    choices_[i].finish_reason = "length";
    Json json = choice_json(i, choices_[i], echo_of(i).text);
    if (request_.answer.logprobs) json.set("logprobs", echo_of(i).logprobs);
    list.push_back(std::move(json));
  }
  Json answer = answer_json("text_completion", std::move(list));
  answer.set("usage", protocol::to_json(protocol::UsageCount{.prompt_tokens = prompt_tokens}));
  call().record([&](CallRecord& r) { r.prompt_tokens = prompt_tokens; });
  call().respond(200, answer);
}

void CompletionGeneration::fail(const protocol::ErrorBody& error) {
  if (!request_.answer.stream) return call().refuse(error);
  call().exchange().write(protocol::event_of(to_json(protocol::to_json(error))) + std::string(protocol::kDoneEvent));
  call().exchange().finish();
}

std::size_t num_characters(std::string_view text) {
  std::size_t count = 0;
  for (std::size_t at = 0; at < text.size(); at += decode_utf8(text, at).length) ++count;
  return count;
}

// Waits for the engine if log-probabilities are asked for.
Echo echo_of(Service& service, const CallPtr& call, const protocol::CompletionRequest& request,
             const std::vector<std::int32_t>& prompt) {
  Echo echo;
  echo.text = service.engine().detokenize(prompt);
  echo.num_characters = num_characters(echo.text);
  if (!request.answer.logprobs) return echo;
  api::Cancellation cancellation;
  call->exchange().on_gone([cancellation]() mutable { cancellation.cancel(); });
  const api::ScoreResult score =
      service.engine().score(prompt, {.top_logprobs = *request.answer.logprobs}, cancellation);
  protocol::CompletionLogprobs logprobs(
      request.answer.return_tokens_as_token_ids ? protocol::TokenStyle::id : protocol::TokenStyle::text, 0);
  const auto text = [&](std::int32_t id, double logprob) {
    return protocol::TokenText{id, service.engine().token_bytes(id), logprob};
  };
  logprobs.add_first(text(prompt[0], 0));
  for (std::size_t i = 1; i < prompt.size(); ++i) {
    protocol::TokenLogprobs token{text(prompt[i], score.logprobs[i - 1]), {}};
    if (!score.top_logprobs.empty())
      for (const auto& t : score.top_logprobs[i - 1]) token.top.push_back(text(t.token_id, t.logprob));
    logprobs.add(token);
  }
  echo.logprobs = logprobs.take();
  return echo;
}

struct Prepared {
  protocol::CompletionRequest request;
  std::string model;
  std::vector<std::vector<std::int32_t>> prompts;
};

void answer(Service& service, const CallPtr& call, Prepared prepared) {
  auto& [request, model, prompts] = prepared;
  std::vector<Echo> echoes;
  std::vector<Json> ids;
  std::int64_t prompt_tokens = 0;
  for (const auto& prompt : prompts) {
    echoes.push_back(request.echo ? echo_of(service, call, request, prompt) : Echo());
    if (request.answer.return_token_ids) ids.push_back(json_list(prompt));
    prompt_tokens += static_cast<std::int64_t>(prompt.size());
  }
  const bool echoes_only = request.sampling.max_tokens == 0;
  if (echoes_only) request.sampling.max_tokens = 1;
  const api::SamplingParams params = sampling_params(service, request.sampling, request.answer);
  const std::string structure_param = request.sampling.structure.param;
  const auto generation = std::make_shared<CompletionGeneration>(
      service, call, std::move(request),
      protocol::AnswerHead{random_id("cmpl-"), static_cast<std::int64_t>(std::time(nullptr)), model});
  generation->set_prompts(std::move(echoes), std::move(ids));
  if (echoes_only) return generation->answer_echoes_only(prompt_tokens);
  generation->run(std::move(prompts), params, structure_param);
}

}  // namespace

void completions(Service& service, const CallPtr& call) {
  Prepared prepared{protocol::read_completion_request(protocol::parse_body(call->request().body)), {}, {}};
  call->note_ignored(prepared.request.ignored, service.options().strict_fields);
  prepared.model = service.model_name(prepared.request.model);
  for (auto& prompt : prepared.request.prompts) {
    const auto* text = std::get_if<std::string>(&prompt);
    prepared.prompts.push_back(text ? service.engine().tokenize(*text)
                                    : std::move(std::get<std::vector<std::int32_t>>(prompt)));
    fit_prompt(prepared.prompts.back(), prepared.request.sampling, service.engine().info().max_model_len, "prompt");
  }
  if (!prepared.request.echo || !prepared.request.answer.logprobs) return answer(service, call, std::move(prepared));
  auto shared = std::make_shared<Prepared>(std::move(prepared));
  service.run_slow(call, [&service, call, shared] { answer(service, call, std::move(*shared)); });
}

}  // namespace cajal::server
