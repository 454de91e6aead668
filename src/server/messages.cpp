// POST /v1/messages and /v1/messages/count_tokens
#include <utility>

#include "protocol/messages_answer.h"
#include "protocol/messages_request.h"
#include "server/chat.h"

namespace cajal::server {
namespace {

class MessagesGeneration final : public Generation {
 public:
  MessagesGeneration(Service& service, const CallPtr& call, protocol::MessagesRequest request, const std::string& model)
      : Generation(service, call),
        request_(std::move(request.chat)),
        answer_(model, random_id, request.omits_thinking) {}

  void start_with(const protocol::ThinkingStart& start) { parts_.emplace(request_, start); }

 private:
  void begin() override;
  void take(std::size_t choice, const api::Delta& delta) override;
  void end() override;
  void fail(const protocol::ErrorBody& error) override;
  std::string_view stop_reason() const;

  protocol::ChatRequest request_;
  std::optional<protocol::ChatParts> parts_;
  protocol::MessagesAnswer answer_;
  api::FinishReason finish_reason_ = api::FinishReason::none;
  std::string stop_sequence_;
};

void MessagesGeneration::begin() {
  if (!request_.answer.stream) return;
  call().begin_events(protocol::kAnthropicPing);
  call().exchange().write(answer_.begin(usage()));
}

void MessagesGeneration::take(std::size_t, const api::Delta& delta) {
  count_reasoning(parts_->count_reasoning(delta.token_ids));
  finish_reason_ = delta.finish_reason;
  stop_sequence_ = delta.stopped_by;
  const std::string events = answer_.add(parts_->push(delta.text, delta.finish_reason != api::FinishReason::none));
  if (request_.answer.stream && !events.empty()) call().exchange().write(events);
}

std::string_view MessagesGeneration::stop_reason() const {
  if (finish_reason_ != api::FinishReason::length) return stop_sequence_.empty() ? "end_turn" : "stop_sequence";
  return usage().completion_tokens < *request_.sampling.max_tokens ? "model_context_window_exceeded" : "max_tokens";
}

void MessagesGeneration::end() {
  const std::string events = answer_.end(stop_reason(), stop_sequence_, usage());
  if (!request_.answer.stream) return call().respond(200, answer_.whole());
  call().exchange().write(events);
  call().exchange().finish();
}

void MessagesGeneration::fail(const protocol::ErrorBody& error) {
  if (!request_.answer.stream) return call().refuse(error);
  const Json json = protocol::anthropic_error_json(error, call().id());
  call().exchange().write(protocol::event_of("error", to_json(json)));
  call().exchange().finish();
}

protocol::MessagesRequest read(Service& service, const CallPtr& call, protocol::MessagesUse use) {
  protocol::MessagesRequest request = protocol::read_messages_request(protocol::parse_body(call->request().body), use);
  call->note_ignored(request.chat.ignored, service.options().strict_fields);
  return request;
}

}  // namespace

void messages(Service& service, const CallPtr& call) {
  protocol::MessagesRequest request = read(service, call, protocol::MessagesUse::answer);
  const std::string& model = service.model_name(request.chat.model);
  PreparedChat chat = prepare_chat(service, request.chat);
  const auto generation = std::make_shared<MessagesGeneration>(service, call, std::move(request), model);
  generation->start_with(chat.start);
  generation->run({std::move(chat.prompt)}, chat.params, protocol::messages_field(std::move(chat.structure_param)));
}

void count_message_tokens(Service& service, const CallPtr& call) {
  const protocol::MessagesRequest request = read(service, call, protocol::MessagesUse::count_tokens);
  service.model_name(request.chat.model);
  call->respond(200, Json::Object{{"input_tokens", count_prompt_tokens(service, request.chat)}});
}

}  // namespace cajal::server
