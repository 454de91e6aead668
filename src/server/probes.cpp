// What says how the server is: /health, /ready, /version, /metrics, and which models it has; and the page.
#include "server/chat_page.h"
#include "server/service.h"

namespace cajal::server {
namespace {

Json model_json(const Service& service, const std::string& name, const api::ModelInfo& info) {
  return Json::Object{{"id", name},
                      {"object", "model"},
                      {"created", service.start_time()},
                      {"owned_by", "cajal"},
                      {"root", service.options().model_names[0]},
                      {"parent", Json()},
                      {"max_model_len", info.max_model_len}};
}

}  // namespace

void health(Service&, const CallPtr& call) { call->respond(200, Json::Object{{"status", "ok"}}); }

void ready(Service& service, const CallPtr& call) {
  const std::string why = service.why_not_ready();
  if (why.empty()) return call->respond(200, Json::Object{{"status", "ready"}});
  call->add_header("Retry-After", "1");
  call->respond(503, Json::Object{{"status", why}});
}

void version(Service&, const CallPtr& call) { call->respond(200, Json::Object{{"version", api::version()}}); }

void metrics(Service& service, const CallPtr& call) {
  call->respond({.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = service.metrics_text()});
}

// It has no secrets, and asks for the key itself.
void page(Service&, const CallPtr& call) {
  call->add_header("Content-Security-Policy", std::string(chat_page_policy()));
  call->add_header("X-Content-Type-Options", "nosniff");
  call->respond({.content_type = "text/html; charset=utf-8", .body = std::string(chat_page())});
}

void list_models(Service& service, const CallPtr& call) {
  Json::Array data;
  for (const std::string& name : service.options().model_names)
    data.push_back(model_json(service, name, service.engine().info()));
  call->respond(200, Json::Object{{"object", "list"}, {"data", std::move(data)}});
}

void show_model(Service& service, const CallPtr& call) {
  const std::string name = call->request().path.substr(std::string_view("/v1/models/").size());
  call->respond(200, model_json(service, service.model_name(name), service.engine().info()));
}

}  // namespace cajal::server
