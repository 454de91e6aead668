// POST /v1/chat/completions
#include <ctime>
#include <deque>
#include <utility>

#include "server/chat.h"

namespace cajal::server {
namespace {

using protocol::ToolCall;

// One of the n answers while it comes.
struct Choice {
  Choice(const protocol::ChatRequest& request, const protocol::ThinkingStart& start) : parts(request, start) {}

  protocol::ChatParts parts;
  std::string content, reasoning;
  std::deque<ToolCall> calls;  // whose addresses stay
  Json::Array logprobs;
  std::vector<std::int32_t> token_ids;
  std::string finish_reason;
};

using Piece = protocol::ChatPiece;

class ChatGeneration final : public Generation {
 public:
  ChatGeneration(Service& service, const CallPtr& call, protocol::ChatRequest request, protocol::AnswerHead head)
      : Generation(service, call),
        request_(std::move(request)),
        head_(std::move(head)),
        chunks_(head_, request_.answer.include_usage, service.options().reasoning_field) {}

  void set_prompt(const protocol::ThinkingStart& start, Json prompt_token_ids) {
    start_ = start;
    prompt_token_ids_ = std::move(prompt_token_ids);
  }

 private:
  void begin() override;
  void take(std::size_t choice, const api::Delta& delta) override;
  void end() override;
  void fail(const protocol::ErrorBody& error) override;

  void keep(Choice& choice, Piece piece);
  void stream(std::size_t index, Choice& choice, const Piece& piece, const api::Delta& delta);
  Json logprobs_json(const api::Delta& delta) const;

  protocol::ChatRequest request_;
  protocol::AnswerHead head_;
  protocol::ChatChunks chunks_;
  protocol::ThinkingStart start_;
  Json prompt_token_ids_;
  std::deque<Choice> choices_;
};

void ChatGeneration::begin() {
  for (std::size_t i = 0; i < num_choices(); ++i) choices_.emplace_back(request_, start_);
  if (!request_.answer.stream) return;
  call().begin_events();
  for (std::size_t i = 0; i < num_choices(); ++i) call().exchange().write(chunks_.chunk({.choice = i, .begins = true}));
}

void ChatGeneration::keep(Choice& choice, Piece piece) {
  choice.content += piece.content;
  choice.reasoning += piece.reasoning;
  for (const auto& delta : piece.calls) choice.calls.at(delta.index).arguments += delta.arguments;
}

Json ChatGeneration::logprobs_json(const api::Delta& delta) const {
  std::vector<protocol::TokenLogprobs> tokens;
  for (const auto& token : delta.logprobs) tokens.push_back(logprobs_of(token));
  return protocol::chat_logprobs_json(
      tokens, request_.answer.return_tokens_as_token_ids ? protocol::TokenStyle::id : protocol::TokenStyle::text);
}

void ChatGeneration::take(std::size_t index, const api::Delta& delta) {
  Choice& choice = choices_.at(index);
  Piece piece = choice.parts.push(delta.text, delta.finish_reason != api::FinishReason::none);
  count_reasoning(choice.parts.count_reasoning(delta.token_ids));
  for (const auto& call : piece.calls)
    if (call.name) choice.calls.push_back({random_id("call_"), *call.name, {}});
  if (delta.finish_reason != api::FinishReason::none) {
    const bool calls = !choice.calls.empty() && delta.finish_reason == api::FinishReason::stop;
    choice.finish_reason = calls ? "tool_calls" : std::string(finish_reason(delta.finish_reason));
  }
  if (request_.answer.stream) return stream(index, choice, piece, delta);
  keep(choice, std::move(piece));
  if (request_.answer.logprobs) {
    const Json json = logprobs_json(delta);
    const Json::Array& content = json.find("content")->as_array();
    choice.logprobs.insert(choice.logprobs.end(), content.begin(), content.end());
  }
  if (request_.answer.return_token_ids)
    choice.token_ids.insert(choice.token_ids.end(), delta.token_ids.begin(), delta.token_ids.end());
}

void ChatGeneration::stream(std::size_t index, Choice& choice, const Piece& piece, const api::Delta& delta) {
  const protocol::UsageCount so_far = usage();
  const protocol::UsageCount* shown = request_.answer.continuous_usage ? &so_far : nullptr;
  Json logprobs, ids;
  protocol::ChatDelta chunk{.choice = index, .content = piece.content, .reasoning = piece.reasoning};
  if (request_.answer.logprobs && !delta.logprobs.empty()) {
    logprobs = logprobs_json(delta);
    chunk.logprobs = &logprobs;
  }
  if (request_.answer.return_token_ids && !delta.token_ids.empty()) {
    ids = json_list(delta.token_ids);
    chunk.token_ids = &ids;
  }
  for (const auto& call : piece.calls)
    chunk.calls.push_back({call.index, call.name ? &choice.calls.at(call.index) : nullptr, call.arguments});
  std::string text;
  if (!chunk.content.empty() || !chunk.reasoning.empty() || !chunk.calls.empty() || chunk.logprobs || chunk.token_ids)
    text = chunks_.chunk(chunk, shown);
  if (!choice.finish_reason.empty())
    text += chunks_.chunk({.choice = index, .finish_reason = choice.finish_reason}, shown);
  if (!text.empty()) call().exchange().write(text);
}

void ChatGeneration::end() {
  if (request_.answer.stream) {
    std::string text = request_.answer.include_usage ? chunks_.usage_chunk(usage()) : "";
    call().exchange().write(text += protocol::kDoneEvent);
    return call().exchange().finish();
  }
  Json::Array list;
  for (std::size_t i = 0; i < choices_.size(); ++i) {
    Choice& choice = choices_[i];
    protocol::ChatChoice answer{.index = i,
                                .content = std::move(choice.content),
                                .reasoning = std::move(choice.reasoning),
                                .calls = {choice.calls.begin(), choice.calls.end()},
                                .finish_reason = choice.finish_reason};
    if (request_.answer.logprobs) answer.logprobs = Json::Object{{"content", std::move(choice.logprobs)}};
    if (request_.answer.return_token_ids) answer.token_ids = json_list(choice.token_ids);
    list.push_back(chat_choice_json(answer, service().options().reasoning_field));
  }
  Json answer = chat_answer_json(head_, std::move(list), usage());
  if (request_.answer.return_token_ids) answer.set("prompt_token_ids", std::move(prompt_token_ids_));
  call().respond(200, answer);
}

void ChatGeneration::fail(const protocol::ErrorBody& error) {
  if (!request_.answer.stream) return call().refuse(error);
  call().exchange().write(protocol::event_of(to_json(protocol::to_json(error))) + std::string(protocol::kDoneEvent));
  call().exchange().finish();
}

}  // namespace

void chat_completions(Service& service, const CallPtr& call) {
  protocol::ChatRequest request = protocol::read_chat_request(protocol::parse_body(call->request().body));
  call->note_ignored(request.ignored, service.options().strict_fields);
  const std::string& model = service.model_name(request.model);
  PreparedChat chat = prepare_chat(service, request);
  Json ids = request.answer.return_token_ids ? json_list(chat.prompt) : Json();
  const auto generation = std::make_shared<ChatGeneration>(
      service, call, std::move(request),
      protocol::AnswerHead{random_id("chatcmpl-"), static_cast<std::int64_t>(std::time(nullptr)), model});
  generation->set_prompt(chat.start, std::move(ids));
  generation->run({std::move(chat.prompt)}, chat.params, chat.structure_param);
}

}  // namespace cajal::server
