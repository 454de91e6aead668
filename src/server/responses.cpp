// POST /v1/responses and /v1/responses/input_tokens
#include <ctime>
#include <utility>

#include "protocol/responses_answer.h"
#include "protocol/responses_request.h"
#include "server/chat.h"

namespace cajal::server {
namespace {

class ResponsesGeneration final : public Generation {
 public:
  ResponsesGeneration(Service& service, const CallPtr& call, protocol::ResponsesRequest request,
                      const std::string& model)
      : Generation(service, call),
        request_(std::move(request.chat)),
        answer_({.created = static_cast<std::int64_t>(std::time(nullptr)),
                 .model = model,
                 .echo = std::move(request.echo),
                 .encrypted_content = request.encrypted_content,
                 .namespaced = std::move(request.namespaced)},
                random_id) {}

  void start_with(const protocol::ThinkingStart& start) { parts_.emplace(request_, start); }

 private:
  void begin() override;
  void take(std::size_t choice, const api::Delta& delta) override;
  void end() override;
  void fail(const protocol::ErrorBody& error) override;

  protocol::ChatRequest request_;
  std::optional<protocol::ChatParts> parts_;
  protocol::ResponsesAnswer answer_;
  bool complete_ = true;
};

void ResponsesGeneration::begin() {
  if (!request_.answer.stream) return;
  call().begin_events();
  call().exchange().write(answer_.begin());
}

void ResponsesGeneration::take(std::size_t, const api::Delta& delta) {
  count_reasoning(parts_->count_reasoning(delta.token_ids));
  complete_ = delta.finish_reason != api::FinishReason::length;
  const std::string events = answer_.add(parts_->push(delta.text, delta.finish_reason != api::FinishReason::none));
  if (request_.answer.stream && !events.empty()) call().exchange().write(events);
}

void ResponsesGeneration::end() {
  const std::string events = answer_.end(complete_, usage());
  if (!request_.answer.stream) return call().respond(200, answer_.whole());
  call().exchange().write(events);
  call().exchange().finish();
}

void ResponsesGeneration::fail(const protocol::ErrorBody& error) {
  if (!request_.answer.stream) return call().refuse(error);
  call().exchange().write(answer_.fail(error));
  call().exchange().finish();
}

protocol::ResponsesRequest read(Service& service, const CallPtr& call) {
  protocol::ResponsesRequest request = protocol::read_responses_request(protocol::parse_body(call->request().body));
  call->note_ignored(request.chat.ignored, service.options().strict_fields);
  return request;
}

}  // namespace

void responses(Service& service, const CallPtr& call) {
  protocol::ResponsesRequest request = read(service, call);
  const std::string& model = service.model_name(request.chat.model);
  PreparedChat chat = prepare_chat(service, request.chat, "input");
  const auto generation = std::make_shared<ResponsesGeneration>(service, call, std::move(request), model);
  generation->start_with(chat.start);
  generation->run({std::move(chat.prompt)}, chat.params, protocol::responses_field(std::move(chat.structure_param)));
}

void count_response_tokens(Service& service, const CallPtr& call) {
  const protocol::ResponsesRequest request = read(service, call);
  service.model_name(request.chat.model);
  call->respond(200, Json::Object{{"object", "response.input_tokens"},
                                  {"input_tokens", count_prompt_tokens(service, request.chat)}});
}

}  // namespace cajal::server
