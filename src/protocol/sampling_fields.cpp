#include "protocol/sampling_fields.h"

#include <charconv>

namespace cajal::protocol {
namespace {

constexpr std::size_t kMaxStops = 16, kMaxStopBytes = 256, kMaxStopTokens = 1024, kMaxSaltBytes = 256,
                      kMaxBiases = 1024;
constexpr double kMostBias = 100;
constexpr double kLarge = 1e6;  // beyond it no parameter makes a difference
constexpr std::int64_t kLongest = std::int64_t{1} << 40;

std::vector<std::string> read_stop(Fields& fields) {
  const Json* value = fields.find("stop");
  if (!value) return {};
  std::vector<std::string> stop;
  if (value->is_string()) {
    stop = {value->as_string()};
  } else if (value->is_array()) {
    for (const Json& entry : value->as_array()) {
      if (!entry.is_string()) refuse("stop", " holds ", entry.type_name(), ", expected strings");
      stop.push_back(entry.as_string());
    }
  } else {
    refuse("stop", " is ", value->type_name(), ", expected a string or an array of strings");
  }
  std::erase(stop, "");  // some clients send it for "none"
  if (stop.size() > kMaxStops) refuse("stop", " has ", stop.size(), " strings, expected at most ", kMaxStops);
  for (const std::string& s : stop)
    if (s.size() > kMaxStopBytes) refuse("stop", " has a string of ", s.size(), " bytes, expected ", kMaxStopBytes);
  return stop;
}

// {"1234": -100}, as OpenAI writes it.
std::vector<std::pair<std::int32_t, double>> read_logit_bias(Fields& fields) {
  const Json::Object* given = fields.object("logit_bias");
  if (!given) return {};
  if (given->size() > kMaxBiases)
    refuse("logit_bias", " has ", given->size(), " tokens, expected at most ", kMaxBiases);
  std::vector<std::pair<std::int32_t, double>> result;
  for (const auto& [key, bias] : *given) {
    std::int32_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0)
      refuse("logit_bias", " names '", key, "', expected token ids");
    if (!bias.is_number() || !(bias.as_double() >= -kMostBias && bias.as_double() <= kMostBias))
      refuse("logit_bias." + key, " is no number of -100 to 100");
    result.emplace_back(id, bias.as_double());
  }
  return result;
}

void refuse_what_is_not_there(Fields& fields) {
  const Json none = Json::Object{}, no_list = Json::Array{};
  fields.refuse_unless("bad_words", "no words are forbidden", {no_list});
  fields.refuse_unless("allowed_token_ids", "no tokens are forbidden", {no_list});
  fields.refuse_unless("prompt_logprobs", "use echo with logprobs in /v1/completions");
  fields.refuse_unless("include_stop_str_in_output", "the stop string is never part of the text", {false});
  fields.refuse_unless("use_beam_search", "there is no beam search", {false});
  fields.refuse_unless("length_penalty", "there is no beam search", {1, 1.0});
  fields.refuse_unless("early_stopping", "there is no beam search", {false});
  fields.refuse_unless("kv_transfer_params", "caches are not handed from server to server");
  fields.refuse_unless("vllm_xargs", "there are no further arguments", {none});
}

}  // namespace

SamplingFields read_sampling(Fields& f) {
  SamplingFields s;
  if (const auto n = f.integer("n", {1, kMaxAnswers})) s.n = static_cast<int>(*n);
  s.temperature = f.number("temperature", {0, kLarge});
  s.top_p = f.number("top_p", {0, 1, true});
  s.top_k = f.integer("top_k", {-1, std::int64_t{1} << 30});
  s.min_p = f.number("min_p", {0, 1});
  s.repetition_penalty = f.number("repetition_penalty", {0, kLarge, true});
  s.presence_penalty = f.number("presence_penalty", {-2, 2}).value_or(0);
  s.frequency_penalty = f.number("frequency_penalty", {-2, 2}).value_or(0);
  if (const auto seed = f.integer("seed", kAnyInteger)) s.seed = static_cast<std::uint64_t>(*seed);
  s.stop = read_stop(f);
  if (const Json::Array* ids = f.array("stop_token_ids")) {
    if (ids->size() > kMaxStopTokens)
      refuse("stop_token_ids", " has ", ids->size(), " ids, expected at most ", kMaxStopTokens);
    s.stop_token_ids = token_ids_of(*ids, "stop_token_ids");
  }
  s.ignore_eos = f.boolean("ignore_eos").value_or(false);
  s.skip_special_tokens = f.boolean("skip_special_tokens").value_or(true);
  f.boolean("spaces_between_special_tokens");  // there are none: such spaces come from tokenizers of another kind
  if (const auto p = f.integer("priority", {-(std::int64_t{1} << 31), (std::int64_t{1} << 31) - 1}))
    s.priority = static_cast<std::int32_t>(*p);
  s.cache_salt = f.text("cache_salt").value_or("");
  if (s.cache_salt.size() > kMaxSaltBytes)
    refuse("cache_salt", " has ", s.cache_salt.size(), " bytes, expected at most ", kMaxSaltBytes);
  s.timeout_ms = f.integer("timeout_ms", {0, kLongest});
  s.truncate_prompt_tokens = f.integer("truncate_prompt_tokens", {-1, kLongest});
  s.structure = read_structure(f);
  s.min_tokens = f.integer("min_tokens", {0, kLongest}).value_or(0);
  s.logit_bias = read_logit_bias(f);
  if (const auto budget = f.integer("thinking_token_budget", {-1, kLongest}); budget && *budget >= 0)
    s.thinking_token_budget = budget;
  refuse_what_is_not_there(f);
  // What only says who asks, or is about what is elsewhere: it changes no answer.
  for (const char* name :
       {"user", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "request_id", "stream_interval"})
    f.accept(name);
  return s;
}

AnswerFields read_answer(Fields& f) {
  AnswerFields a;
  a.stream = f.boolean("stream").value_or(false);
  if (const Json* options = f.find("stream_options")) {
    Fields o(*options, "stream_options.");
    a.include_usage = o.boolean("include_usage").value_or(false);
    a.continuous_usage = o.boolean("continuous_usage_stats").value_or(false);
    if (!a.stream) refuse("stream_options", " is given without stream");
  }
  a.return_token_ids = f.boolean("return_token_ids").value_or(false);
  a.return_tokens_as_token_ids = f.boolean("return_tokens_as_token_ids").value_or(false);
  return a;
}

}  // namespace cajal::protocol
