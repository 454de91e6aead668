#include "server/generation.h"

#include <utility>

#include "base/error.h"
#include "base/log.h"

namespace cajal::server {
namespace {

// Why a sequence has no end of its own.
std::optional<protocol::ErrorBody> error_of(api::FinishReason reason) {
  switch (reason) {
    case api::FinishReason::none:
    case api::FinishReason::stop:
    case api::FinishReason::length: return std::nullopt;
    case api::FinishReason::aborted:
      return protocol::ErrorBody{.status = 503,
                                 .type = "service_unavailable_error",
                                 .code = "cancelled",
                                 .message = "the answer was cancelled: the server is closing"};
    case api::FinishReason::timeout:
      return protocol::ErrorBody{.status = 504,
                                 .type = "timeout_error",
                                 .code = "deadline_exceeded",
                                 .message = "the time of the request was over before its answer was complete"};
    case api::FinishReason::error: break;
  }
  return protocol::ErrorBody{.status = 500,
                             .type = "server_error",
                             .code = "numerical_error",
                             .message = "the model has failed at this request"};
}

// An engine that has ended, because a rank is lost, say, is why, whatever else it seemed to be.
protocol::ErrorBody with_failure(protocol::ErrorBody error, const std::string& failure) {
  if (failure.empty()) return error;
  return {.status = 503,
          .type = "service_unavailable_error",
          .code = "engine_failed",
          .message = "the engine has ended: " + failure};
}

// What the engine finds wrong is named as it knows it.
protocol::ErrorBody with_param(protocol::ErrorBody error, const std::string& structure_param) {
  constexpr std::string_view kStructure = "structured_outputs: ";
  if (error.message.starts_with(kStructure)) {
    error.param = structure_param;
    if (!structure_param.empty()) error.message.replace(0, kStructure.size(), structure_param + ": ");
  }
  for (const char* name : {"logit_bias", "min_tokens", "thinking_token_budget"})
    if (error.message.starts_with(name)) error.param = name;
  return error;
}

}  // namespace

void Generation::run(std::vector<std::vector<std::int32_t>> prompts, const api::SamplingParams& params,
                     const std::string& structure_param) {
  if (!params.structured_outputs) return start(std::move(prompts), params, structure_param);
  service_.run_slow(call_, [self = shared_from_this(), prompts = std::move(prompts), params,
                            structure_param]() mutable { self->start(std::move(prompts), params, structure_param); });
}

void Generation::start(std::vector<std::vector<std::int32_t>> prompts, const api::SamplingParams& params,
                       const std::string& structure_param) {
  per_prompt_ = static_cast<std::size_t>(params.n);
  num_choices_ = unfinished_ = prompts.size() * per_prompt_;
  call_->exchange().on_gone([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->cancel();
  });
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const auto admission =
        service_.engine().submit(std::move(prompts[i]), params,
                                 [self = shared_from_this(), i](const api::Delta& delta) { self->on_delta(i, delta); });
    if (!admission) {
      cancel();
      const std::lock_guard lock(mutex_);
      over_ = true;
      throw protocol::RequestError(with_param(server::error_of(*admission.refusal), structure_param));
    }
    bool unwanted = false;
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(admission.id);
      usage_.prompt_tokens += admission.prompt_tokens;
      unwanted = cancelled_;
    }
    if (unwanted) service_.engine().abort(admission.id);
  }
  call_->record([&](CallRecord& r) { r.prompt_tokens = usage_.prompt_tokens; });
  const std::lock_guard lock(mutex_);
  begun_ = true;
  try {
    begin();
    for (const auto& [prompt, delta] : std::exchange(early_, {}))
      if (!over_) process(prompt, delta);
  } catch (...) {
    give_up(current_error());
  }
}

// On the engine's thread.
void Generation::on_delta(std::size_t prompt, const api::Delta& delta) {
  const std::lock_guard lock(mutex_);
  if (over_) return;
  if (!begun_) {
    early_.emplace_back(prompt, delta);
    return;
  }
  try {
    process(prompt, delta);
  } catch (...) {
    give_up(current_error());
  }
}

void Generation::process(std::size_t prompt, const api::Delta& delta) {
  count(delta);
  if (auto error = error_of(delta.finish_reason)) return give_up(with_failure(*std::move(error), service_.failure()));
  take(prompt * per_prompt_ + delta.sequence, delta);
  if (delta.finish_reason == api::FinishReason::none || --unfinished_ > 0) return;
  over_ = true;
  end();
}

void Generation::count(const api::Delta& delta) {
  usage_.completion_tokens += static_cast<std::int64_t>(delta.token_ids.size());
  if (delta.finish_reason == api::FinishReason::none) return;
  if (delta.sequence == 0) usage_.cached_tokens += delta.metrics.cached_tokens;
  call_->record([&](CallRecord& r) {
    r.completion_tokens = usage_.completion_tokens;
    r.cached_tokens = usage_.cached_tokens;
    r.finish_reason = api::to_string(delta.finish_reason);
    if (!r.queue_seconds) r.queue_seconds = delta.metrics.queue_seconds;
    if (!r.ttft_seconds) r.ttft_seconds = delta.metrics.ttft_seconds;
  });
}

// With the lock. The sequences that go on are of no use: one answer stands for all.
void Generation::give_up(const protocol::ErrorBody& error) {
  if (std::exchange(over_, true)) return;
  for (const auto id : requests_) service_.engine().abort(id);
  call_->record([&](CallRecord& r) { r.error = error.message; });
  try {
    fail(error);
  } catch (const std::exception& e) {
    log_warning("an error could not be reported: ", e.what());
  }
}

void Generation::cancel() noexcept {
  std::vector<api::Engine::RequestId> requests;
  {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
    requests = requests_;
  }
  for (const auto id : requests) service_.engine().abort(id);
}

protocol::TokenLogprobs Generation::logprobs_of(const api::LogprobsOfToken& token) const {
  const auto text = [&](const api::TokenLogprob& t) {
    return protocol::TokenText{t.token_id, service_.engine().token_bytes(t.token_id), t.logprob};
  };
  protocol::TokenLogprobs result{text(token.chosen), {}};
  for (const auto& t : token.top) result.top.push_back(text(t));
  return result;
}

api::SamplingParams sampling_params(const Service& service, const protocol::SamplingFields& f,
                                    const protocol::AnswerFields& answer) {
  api::SamplingParams p;
  p.n = f.n;
  p.max_tokens = f.max_tokens;
  p.temperature = f.temperature;
  p.top_k = f.top_k;
  p.top_p = f.top_p;
  p.min_p = f.min_p;
  p.repetition_penalty = f.repetition_penalty;
  p.presence_penalty = f.presence_penalty;
  p.frequency_penalty = f.frequency_penalty;
  p.seed = f.seed;
  p.stop = f.stop;
  p.stop_token_ids = f.stop_token_ids;
  p.ignore_eos = f.ignore_eos;
  p.skip_special_tokens = f.skip_special_tokens;
  p.logprobs = answer.logprobs;
  p.priority = f.priority;
  p.cache_salt = f.cache_salt;
  p.min_tokens = f.min_tokens;
  for (const auto& [token, bias] : f.logit_bias) p.logit_bias.push_back({token, bias});
  p.thinking_token_budget = f.thinking_token_budget;
  if (const auto& s = f.structure; !s.param.empty())
    p.structured_outputs = {s.json, s.regex, s.choice, s.grammar, s.json_object, s.structural_tag};
  p.timeout_ms = f.timeout_ms ? f.timeout_ms : service.options().request_timeout_ms;
  return p;
}

void fit_prompt(std::vector<std::int32_t>& prompt, const protocol::SamplingFields& fields, std::int64_t max_model_len,
                std::string_view field) {
  if (prompt.empty()) protocol::refuse(std::string(field), " has no tokens");
  if (fields.truncate_prompt_tokens) {
    const std::int64_t answer = fields.max_tokens.value_or(1);
    const std::int64_t wanted = *fields.truncate_prompt_tokens < 0
                                    ? std::max<std::int64_t>(1, max_model_len - answer)
                                    : std::max<std::int64_t>(1, *fields.truncate_prompt_tokens);
    const auto length = static_cast<std::int64_t>(prompt.size());
    if (length > wanted) prompt.erase(prompt.begin(), prompt.begin() + (length - wanted));
  }
  if (static_cast<std::int64_t>(prompt.size()) >= max_model_len)
    throw protocol::RequestError(
        {.code = "context_length_exceeded",
         .param = std::string(field),
         .message = detail::join("the prompt has ", prompt.size(), " tokens and the model takes ", max_model_len,
                                 " with the answer — shorten it")});
}

std::string_view finish_reason(api::FinishReason reason) {
  return reason == api::FinishReason::length ? "length" : "stop";
}

Json json_list(const std::vector<std::int32_t>& ids) {
  Json::Array list;
  list.reserve(ids.size());
  for (const std::int32_t id : ids) list.emplace_back(id);
  return list;
}

}  // namespace cajal::server
