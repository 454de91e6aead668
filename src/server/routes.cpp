#include "server/routes.h"

#include <array>

namespace cajal::server {
namespace {

using Runs = Route::Runs;

constexpr auto kRoutes = std::to_array<Route>({
    {"POST", "/v1/chat/completions", chat_completions},
    {"POST", "/v1/completions", completions},
    {"POST", "/v1/responses", responses},
    {"POST", "/v1/responses/input_tokens", count_response_tokens},
    {"POST", "/v1/messages", messages},
    {"POST", "/v1/messages/count_tokens", count_message_tokens},
    {"POST", "/v1/embeddings", embeddings, Runs::slow},
    {"POST", "/v1/rerank", rerank, Runs::slow},
    {"POST", "/rerank", rerank, Runs::slow},
    {"POST", "/tokenize", tokenize},
    {"POST", "/detokenize", detokenize},
    {"GET", "/v1/models", list_models, Runs::at_once},
    {"GET", "/v1/models/*", show_model, Runs::at_once},
    {"GET", "/health", health, Runs::at_once, true, false},
    {"GET", "/ready", ready, Runs::at_once, true, false},
    {"GET", "/version", version, Runs::at_once, false, false},
    {"GET", "/", page, Runs::at_once, true, false},
    {"GET", "/metrics", metrics, Runs::at_once, false, false},
});

bool matches(std::string_view pattern, std::string_view path) {
  if (!pattern.ends_with("/*")) return pattern == path;
  const std::string_view folder = pattern.substr(0, pattern.size() - 1);
  return path.starts_with(folder) && path.size() > folder.size();
}

}  // namespace

std::span<const Route> routes() { return kRoutes; }

const Route& find_route(std::string_view method, std::string_view path, std::string& allowed) {
  if (method == "HEAD") method = "GET";
  for (const Route& route : kRoutes) {
    if (!matches(route.path, path)) continue;
    if (route.method == method) return route;
    allowed += (allowed.empty() ? "" : ", ") + std::string(route.method);
  }
  if (!allowed.empty())
    throw protocol::RequestError({.status = 405,
                                  .code = "method_not_allowed",
                                  .message = detail::join(method, " ", path, " is not there, only ", allowed)});
  throw protocol::RequestError(
      {.status = 404, .code = "not_found", .message = detail::join(path, " is no path of this server")});
}

}  // namespace cajal::server
