#include "server/chat.h"

#include <optional>
#include <string_view>
#include <utility>

namespace cajal::server {
namespace {

// Whether the answer goes on in a thought that the prompt has begun.
bool ends_in_thinking(std::string_view prompt) {
  return prompt.substr(0, prompt.find_last_not_of(" \n") + 1).ends_with("<think>");
}

std::optional<std::int32_t> token_of(const api::Engine& engine, std::string_view name) {
  const auto ids = engine.tokenize(name);
  return ids.size() == 1 ? std::optional(ids[0]) : std::nullopt;
}

}  // namespace

PreparedChat prepare_chat(Service& service, protocol::ChatRequest& request, std::string_view field) {
  const api::Engine& engine = service.engine();
  api::ChatPrompt prompt = engine.apply_chat_template(to_json(request.variables));
  const std::int64_t most = engine.info().max_model_len;
  fit_prompt(prompt.token_ids, request.sampling, most, field);
  // As long as there is room, where nothing else is said.
  if (!request.sampling.max_tokens)
    request.sampling.max_tokens = most - static_cast<std::int64_t>(prompt.token_ids.size());
  return {.prompt = std::move(prompt.token_ids),
          .params = sampling_params(service, request.sampling, request.answer),
          .start = {.inside = ends_in_thinking(prompt.text),
                    .begin_token = token_of(engine, "<think>"),
                    .end_token = token_of(engine, "</think>")}};
}

std::int64_t count_prompt_tokens(Service& service, const protocol::ChatRequest& request) {
  return static_cast<std::int64_t>(service.engine().apply_chat_template(to_json(request.variables)).token_ids.size());
}

}  // namespace cajal::server
