#include "hub/hub_settings.h"

#include <algorithm>
#include <cctype>

#include "base/error.h"
#include "base/file.h"
#include "engine/hub_cache.h"

namespace cajal {
namespace {

using Environment = std::map<std::string, std::string>;

std::string variable(const Environment& environment, const std::string& name) {
  const auto found = environment.find(name);
  return found == environment.end() ? "" : found->second;
}

bool is_on(std::string value) {
  std::transform(value.begin(), value.end(), value.begin(), [](unsigned char c) { return std::tolower(c); });
  return value == "1" || value == "true" || value == "yes" || value == "on";
}

std::string trimmed(std::string text) {
  const auto space = [](unsigned char c) { return std::isspace(c) != 0; };
  text.erase(text.begin(), std::find_if_not(text.begin(), text.end(), space));
  text.erase(std::find_if_not(text.rbegin(), text.rend(), space).base(), text.end());
  return text;
}

std::string token_file(const Environment& environment) {
  if (std::string path = variable(environment, "HF_TOKEN_PATH"); !path.empty()) return path;
  return hub_home(environment) + "/token";
}

std::string find_token(const Environment& environment) {
  for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"})
    if (std::string token = trimmed(variable(environment, name)); !token.empty()) return token;
  const std::string file = token_file(environment);
  return file_exists(file) ? trimmed(read_file(file, 4096)) : "";
}

}  // namespace

HubSettings hub_settings(const Environment& environment) {
  HubSettings settings;
  if (std::string endpoint = trimmed(variable(environment, "HF_ENDPOINT")); !endpoint.empty())
    settings.endpoint = endpoint;
  while (settings.endpoint.ends_with('/')) settings.endpoint.pop_back();
  if (!settings.endpoint.starts_with("https://") && !settings.endpoint.starts_with("http://"))
    fail(ErrorCode::invalid_argument, "HF_ENDPOINT is '", settings.endpoint,
         "', expected http:// or https:// and a host", remedy("unset it to use https://huggingface.co"));
  settings.token = find_token(environment);
  if (settings.token.find_first_of("\r\n") != std::string::npos)
    fail(ErrorCode::invalid_argument, "the hub's token has more than one line", remedy("check HF_TOKEN"));
  settings.cache = hub_cache_folder(environment);
  settings.offline =
      is_on(variable(environment, "HF_HUB_OFFLINE")) || is_on(variable(environment, "TRANSFORMERS_OFFLINE"));
  return settings;
}

}  // namespace cajal
