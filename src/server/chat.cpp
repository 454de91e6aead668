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

// Whether a model may begin its answer with a thought: where it is told not to, its template has ended one for it.
bool may_begin_thinking(const api::Engine& engine, Json variables, std::string_view prompt) {
  const auto has_thought = [](std::string_view text) {
    return text.substr(0, text.find_last_not_of(" \n") + 1).ends_with("</think>");
  };
  if (ends_in_thinking(prompt) || has_thought(prompt)) return false;
  variables.set("enable_thinking", false);
  return has_thought(engine.apply_chat_template(to_json(variables)).text);
}

// What the answer has to be: the calls that are forced, or whose tools are strict, and what the request says by itself.
// Gives the field that says so.
std::string set_structure(const protocol::ChatRequest& request, std::string_view prompt, api::SamplingParams& params) {
  const protocol::StructureFields& own = request.sampling.structure;
  const bool forced = request.tool_choice.kind == protocol::ToolChoiceKind::required ||
                      request.tool_choice.kind == protocol::ToolChoiceKind::named;
  const protocol::ToolCallForm form = protocol::tool_call_form(prompt);
  if (forced && !own.param.empty())
    protocol::refuse("tool_choice", " forces a call, and ", own.param, " wants another answer — leave one of them out");
  if (!own.param.empty()) {
    if (!request.tools.empty())
      params.structured_outputs = {.structural_tag = to_json(protocol::structure_or_calls_tag(
                                       own, request.tools, request.parallel_tool_calls, form))};
    return own.param;
  }
  const Json calls = protocol::tool_call_tag(request.tools, request.tool_choice, request.parallel_tool_calls, form);
  if (calls.is_null()) return {};
  params.structured_outputs = {.structural_tag = to_json(calls)};
  return forced ? "tool_choice" : "tools";
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
  api::SamplingParams params = sampling_params(service, request.sampling, request.answer);
  std::string structure_param = set_structure(request, prompt.text, params);
  if (params.structured_outputs || params.thinking_token_budget)
    params.may_think = may_begin_thinking(engine, request.variables, prompt.text);
  return {.prompt = std::move(prompt.token_ids),
          .params = std::move(params),
          .structure_param = std::move(structure_param),
          .start = {.inside = ends_in_thinking(prompt.text),
                    .begin_token = token_of(engine, "<think>"),
                    .end_token = token_of(engine, "</think>")}};
}

std::int64_t count_prompt_tokens(Service& service, const protocol::ChatRequest& request) {
  return static_cast<std::int64_t>(service.engine().apply_chat_template(to_json(request.variables)).token_ids.size());
}

}  // namespace cajal::server
