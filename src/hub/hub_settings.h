#pragma once
// Where the hub is and who asks, as Hugging Face's libraries are told it.
#include <map>
#include <string>

namespace cajal {

struct HubSettings {
  std::string endpoint = "https://huggingface.co";  // HF_ENDPOINT, without a slash at its end
  std::string token;     // HF_TOKEN, else the file that HF_TOKEN_PATH or HF_HOME names; or empty
  std::string cache;     // see hub_cache_folder()
  bool offline = false;  // HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is 1, true, yes or on
};

// Error(invalid_argument) for an endpoint that is not http:// or https://.
HubSettings hub_settings(const std::map<std::string, std::string>& environment);

}  // namespace cajal
