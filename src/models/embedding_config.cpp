#include "models/embedding_config.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/file.h"
#include "models/config_reader.h"

namespace cajal {
namespace {

constexpr const char* kPoolings =
    "cajal pools by lasttoken, mean and cls; use such a model, or pool the hidden states of another engine";
constexpr const char* kModules =
    "cajal knows the modules Transformer, Pooling and Normalize, once each and in this order";
constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 26;

std::optional<PoolingMode> pooling_mode_named(std::string_view name) {
  if (name == "lasttoken") return PoolingMode::last_token;
  if (name == "mean") return PoolingMode::mean;
  if (name == "cls") return PoolingMode::cls_token;
  return std::nullopt;
}

// Since sentence-transformers 5.4 "pooling_mode" names the kinds; before, each had a switch of its own.
std::vector<std::string> pooling_names(const ConfigReader& r) {
  std::vector<std::string> names;
  if (const Json* mode = r.find("pooling_mode")) {
    if (mode->is_string()) return {mode->as_string()};
    if (!mode->is_array()) r.fail_value("pooling_mode", *mode, "a string or a list of strings");
    for (const Json& name : mode->as_array()) {
      if (!name.is_string()) r.fail_value("pooling_mode", *mode, "a string or a list of strings");
      names.push_back(name.as_string());
    }
    return names;
  }
  constexpr std::pair<const char*, const char*> kSwitches[] = {
      {"pooling_mode_cls_token", "cls"},
      {"pooling_mode_mean_tokens", "mean"},
      {"pooling_mode_max_tokens", "max"},
      {"pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"},
      {"pooling_mode_weightedmean_tokens", "weightedmean"},
      {"pooling_mode_lasttoken", "lasttoken"},
  };
  for (const auto& [key, name] : kSwitches)
    if (r.truthy(key)) names.emplace_back(name);
  return names;
}

std::string path_in(const std::string& folder, const std::string& name) { return folder + "/" + name; }

// What stands after the last dot of a Python class's path: "sentence_transformers.models.Pooling".
std::string_view class_name(std::string_view type) { return type.substr(type.rfind('.') + 1); }

void read_pooling_module(const std::string& folder, const Json& module, const ConfigReader& r, EmbeddingConfig& into) {
  std::string path;
  r.required("path", path);
  if (path.empty() || path.find("..") != std::string::npos || path.front() == '/')
    r.fail_value("path", *module.find("path"), "a folder inside the model's");
  const std::string file = path_in(path_in(folder, path), "config.json");
  into.pooling = read_pooling_config(parse_json(read_file(file, kMostBytes), file), file);
}

void read_modules(const std::string& folder, const Json& modules, const std::string& file, EmbeddingConfig& into) {
  if (!modules.is_array())
    fail(ErrorCode::data_loss, file, ": the file holds ", modules.type_name(), ", expected a list", remedy(kCompare));
  constexpr std::string_view kOrder[] = {"Transformer", "Pooling", "Normalize"};
  std::size_t next = 0;
  for (std::size_t i = 0; i < modules.as_array().size(); ++i) {
    const Json& module = modules.as_array()[i];
    const ConfigReader r(module, detail::join(file, ", entry ", i));
    std::string type;
    r.required("type", type);
    if (next == std::size(kOrder) || class_name(type) != kOrder[next])
      fail(ErrorCode::unsupported, r.where(), ": module ", show(Json(type)), " is not supported ",
           next < std::size(kOrder) ? detail::join("here, expected ", kOrder[next]) : "after Normalize",
           remedy(kModules));
    if (next == 1) read_pooling_module(folder, module, r, into);
    ++next;
  }
  if (next < 2)
    fail(ErrorCode::unsupported, file, ": has no Pooling module, so that it gives no vector of a text",
         remedy(kModules));
  into.normalize = next == 3;
  into.is_embedding_model = true;
}

}  // namespace

const char* to_string(PoolingMode mode) {
  switch (mode) {
    case PoolingMode::last_token: return "lasttoken";
    case PoolingMode::mean: return "mean";
    case PoolingMode::cls_token: return "cls";
  }
  return "unknown";
}

const std::string& EmbeddingConfig::prompt(std::string_view name) const {
  std::string names;
  for (const auto& [known, text] : prompts) {
    if (known == name) return text;
    names += (names.empty() ? "'" : ", '") + known + "'";
  }
  fail(ErrorCode::not_found, "the model has no prompt named '", name, "'",
       names.empty() ? std::string(": its config_sentence_transformers.json names none") : ", expected one of " + names,
       remedy("give the task of a query as --instruction instead"));
}

std::string instruct_prompt(std::string_view task) { return detail::join("Instruct: ", task, "\nQuery:"); }

PoolingMode read_pooling_config(const Json& config, std::string_view file) {
  const ConfigReader r(config, std::string(file));
  const std::vector<std::string> names = pooling_names(r);
  if (names.empty()) fail(ErrorCode::data_loss, file, ": names no pooling", remedy(kCompare));
  if (names.size() > 1)
    fail(ErrorCode::unsupported, file, ": pools by ", names[0], " and ", names[1],
         ", and vectors of several poolings are not supported", remedy(kPoolings));
  const auto mode = pooling_mode_named(names[0]);
  if (!mode) fail(ErrorCode::unsupported, file, ": pooling by ", names[0], " is not supported", remedy(kPoolings));
  bool include_prompt = true;
  r.optional("include_prompt", include_prompt);
  if (!include_prompt && *mode != PoolingMode::last_token)
    r.fail_unsupported("include_prompt", "and pooling without the prompt's tokens is not supported", kPoolings);
  return *mode;
}

void read_sentence_bert_config(const Json& config, std::string_view file, EmbeddingConfig& into) {
  const ConfigReader r(config, std::string(file));
  if (r.truthy("do_lower_case"))
    r.fail_unsupported("do_lower_case", "and texts are not made lower case",
                       "give texts in lower case and set it to false");
  std::int64_t most = 0;
  r.optional("max_seq_length", most, {1, std::numeric_limits<std::int32_t>::max()});
  if (most > 0) into.max_seq_length = most;
}

void read_sentence_transformers_config(const Json& config, std::string_view file, EmbeddingConfig& into) {
  const ConfigReader r(config, std::string(file));
  if (const Json* prompts = r.find("prompts")) {
    if (!prompts->is_object()) r.fail_value("prompts", *prompts, "an object of texts by name");
    for (const auto& [name, text] : prompts->as_object()) {
      if (!text.is_string()) r.fail_value("prompts", *prompts, "an object of texts by name");
      into.prompts.emplace_back(name, text.as_string());
    }
  }
  std::string name;
  r.optional("default_prompt_name", name);
  if (name.empty()) return;
  into.default_prompt_name = name;
  const bool known =
      std::any_of(into.prompts.begin(), into.prompts.end(), [&](const auto& p) { return p.first == name; });
  if (!known) r.fail_value("default_prompt_name", Json(name), "a name that 'prompts' has");
}

EmbeddingConfig load_embedding_config(const std::string& folder) {
  EmbeddingConfig config;
  if (const std::string file = path_in(folder, "modules.json"); file_exists(file))
    read_modules(folder, parse_json(read_file(file, kMostBytes), file), file, config);
  else if (const std::string pooling = path_in(folder, "1_Pooling/config.json"); file_exists(pooling))
    config.pooling = read_pooling_config(parse_json(read_file(pooling, kMostBytes), pooling), pooling);
  if (const std::string file = path_in(folder, "sentence_bert_config.json"); file_exists(file))
    read_sentence_bert_config(parse_json(read_file(file, kMostBytes), file), file, config);
  if (const std::string file = path_in(folder, "config_sentence_transformers.json"); file_exists(file))
    read_sentence_transformers_config(parse_json(read_file(file, kMostBytes), file), file, config);
  return config;
}

}  // namespace cajal
