#include "protocol/completion_request.h"

#include <algorithm>

namespace cajal::protocol {
namespace {

constexpr std::size_t kMaxPrompts = 1024;
constexpr std::int64_t kDefaultMaxTokens = 16;  // OpenAI's

TextOrIds read_one(const Json& value, const std::string& name) {
  if (value.is_string()) return value.as_string();
  if (value.is_array()) return token_ids_of(value.as_array(), name);
  refuse(name, " is ", value.type_name(), ", expected a string or an array of token ids");
}

}  // namespace

std::vector<TextOrIds> read_texts(const Json& value, const std::string& name, std::size_t max_count) {
  if (value.is_string()) return {value.as_string()};
  if (!value.is_array()) refuse(name, " is ", value.type_name(), ", expected a string or an array");
  const Json::Array& array = value.as_array();
  if (array.empty()) refuse(name, " is empty");
  if (array[0].is_int()) return {token_ids_of(array, name)};
  if (array.size() > max_count) refuse(name, " has ", array.size(), " entries, expected at most ", max_count);
  std::vector<TextOrIds> texts;
  for (std::size_t i = 0; i < array.size(); ++i) texts.push_back(read_one(array[i], detail::join(name, "[", i, "]")));
  return texts;
}

CompletionRequest read_completion_request(const Json& body) {
  Fields f(body);
  CompletionRequest request;
  request.model = f.text("model");
  const Json* prompt = f.find("prompt");
  if (!prompt) refuse("prompt", " is missing");
  request.prompts = read_texts(*prompt, "prompt", kMaxPrompts);
  request.echo = f.boolean("echo").value_or(false);
  request.sampling = read_sampling(f);
  const std::int64_t least = request.echo ? 0 : 1;
  request.sampling.max_tokens = f.integer("max_tokens", {least, std::int64_t{1} << 40}).value_or(kDefaultMaxTokens);
  request.answer = read_answer(f);
  if (const auto logprobs = f.integer("logprobs", {0, kMaxTopLogprobs}))
    request.answer.logprobs = static_cast<int>(*logprobs);
  if (request.echo && request.answer.stream) refuse("echo", " cannot be streamed — ask without stream");
  f.refuse_unless("suffix", "text is only written after a prompt", {""});
  f.refuse_unless("best_of", "use n", {1, static_cast<std::int64_t>(request.sampling.n)});
  f.refuse_unless("prompt_embeds", "prompts are text or token ids");
  f.boolean("add_special_tokens");  // Qwen3's tokenizer has none to add
  request.ignored = f.unknown();
  if (request.prompts.size() * static_cast<std::size_t>(request.sampling.n) > kMaxPrompts)
    refuse("n", " times the number of prompts is more than ", kMaxPrompts);
  return request;
}

}  // namespace cajal::protocol
