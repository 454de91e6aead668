// POST /tokenize and /detokenize, as vLLM has them.
#include "protocol/chat_request.h"
#include "server/generation.h"

namespace cajal::server {

void tokenize(Service& service, const CallPtr& call) {
  const Json body = protocol::parse_body(call->request().body);
  protocol::Fields f(body);
  service.model_name(f.text("model"));
  const auto text = f.text("prompt");
  const Json::Array* messages = f.array("messages");
  if (text.has_value() == (messages != nullptr))
    protocol::refuse("prompt", " or messages is needed, and only one of them");
  f.boolean("add_special_tokens");  // Qwen3's tokenizer has none to add
  const bool with_texts = f.boolean("return_token_strs").value_or(false);
  std::vector<std::int32_t> ids;
  if (text) {
    ids = service.engine().tokenize(*text);
  } else {
    Json variables = Json::Object{{"messages", protocol::read_messages(*messages)}};
    variables.set("add_generation_prompt", f.boolean("add_generation_prompt").value_or(true));
    if (const Json::Array* tools = f.array("tools")) variables.set("tools", *tools);
    if (const Json::Object* more = f.object("chat_template_kwargs"))
      for (const auto& [name, value] : *more) variables.set(name, value);
    ids = service.engine().apply_chat_template(to_json(variables)).token_ids;
  }
  call->note_ignored(f.unknown(), service.options().strict_fields);
  Json texts;
  if (with_texts) {
    texts = Json::Array{};
    for (const std::int32_t id : ids) texts.push_back(service.engine().detokenize(std::span(&id, 1)));
  }
  call->respond(200, Json::Object{{"count", static_cast<std::int64_t>(ids.size())},
                                  {"max_model_len", service.engine().info().max_model_len},
                                  {"tokens", json_list(ids)},
                                  {"token_strs", std::move(texts)}});
}

void detokenize(Service& service, const CallPtr& call) {
  const Json body = protocol::parse_body(call->request().body);
  protocol::Fields f(body);
  service.model_name(f.text("model"));
  const Json::Array* tokens = f.array("tokens");
  if (!tokens) protocol::refuse("tokens", " is missing");
  const auto ids = protocol::token_ids_of(*tokens, "tokens");
  call->note_ignored(f.unknown(), service.options().strict_fields);
  call->respond(200, Json::Object{{"prompt", service.engine().detokenize(ids)}});
}

}  // namespace cajal::server
