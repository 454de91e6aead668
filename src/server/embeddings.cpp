// POST /v1/embeddings
#include <charconv>
#include <utility>

#include "base/base64.h"
#include "protocol/completion_request.h"
#include "server/generation.h"

namespace cajal::server {
namespace {

constexpr std::size_t kMaxTexts = 2048;  // OpenAI's

// The numbers are many, and so written without a Json of each; the fewest digits that read back to the same float.
std::string numbers(std::span<const float> values) {
  std::string text = "[";
  for (const float value : values) {
    if (text.size() > 1) text += ',';
    std::array<char, 32> digits{};
    text.append(digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr);
  }
  return text + "]";
}

}  // namespace

void embeddings(Service& service, const CallPtr& call) {
  const Json body = protocol::parse_body(call->request().body);
  protocol::Fields f(body);
  const std::string& model = service.model_name(f.text("model"));
  const Json* input = f.find("input");
  if (!input) protocol::refuse("input", " is missing");
  std::vector<api::Prompt> prompts;
  for (auto& text : protocol::read_texts(*input, "input", kMaxTexts))
    std::visit([&](auto& t) { prompts.emplace_back(std::move(t)); }, text);
  const std::string format = f.text("encoding_format").value_or("float");
  if (format != "float" && format != "base64")
    protocol::refuse("encoding_format", " is '", format, "', expected float or base64");
  api::EmbedOptions options;
  options.dimensions = f.integer("dimensions", {1, 1 << 20});
  options.prompt_name = f.text("prompt_name");
  options.instruction = f.text("instruction");
  options.truncate = f.integer("truncate_prompt_tokens", {-1, std::int64_t{1} << 40}).has_value();
  for (const char* name : {"user", "priority", "add_special_tokens"}) f.accept(name);
  call->note_ignored(f.unknown(), service.options().strict_fields);

  api::Cancellation cancellation;
  call->exchange().on_gone([cancellation]() mutable { cancellation.cancel(); });
  const auto vectors = service.engine().embed(prompts, options, cancellation);
  std::string data;
  protocol::UsageCount usage;
  for (std::size_t i = 0; i < vectors.size(); ++i) {
    const auto& values = vectors[i].values;
    usage.prompt_tokens += static_cast<std::int64_t>(vectors[i].token_ids.size());
    data += detail::join(i == 0 ? "" : ",", R"({"object":"embedding","index":)", i, R"(,"embedding":)",
                         format == "float" ? numbers(values) : '"' + to_base64(std::as_bytes(std::span(values))) + '"',
                         "}");
  }
  call->record([&](CallRecord& r) { r.prompt_tokens = usage.prompt_tokens; });
  const Json counts = Json::Object{
      {"prompt_tokens", usage.prompt_tokens}, {"total_tokens", usage.prompt_tokens}, {"completion_tokens", 0}};
  call->respond({.body = detail::join(R"({"id":")", random_id("embd-"), R"(","object":"list","data":[)", data,
                                      R"(],"model":)", to_json(Json(model)), R"(,"usage":)", to_json(counts), "}")});
}

}  // namespace cajal::server
