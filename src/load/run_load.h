#pragma once
// Sends the requests of a load to a server that speaks OpenAI's API, and watches the answers come.
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "http/client.h"
#include "load/prompts.h"
#include "load/statistics.h"

namespace cajal::load {

struct LoadTarget {
  std::string endpoint = "/v1/completions";
  bool chat = false;  // messages instead of a prompt
  std::string model;
  bool ignore_eos = false;
  Json::Object extra_body = {};            // members of every request
  std::vector<http::Header> headers = {};  // besides Content-Type
};

struct LoadRun {
  std::vector<RequestOutcome> outcomes;  // as the requests
  double duration = 0;                   // from the first request's time to the last answer's end, in seconds
  std::int64_t prompt_tokens_told = 0;   // of the first request, as the server counts them; 0: it did not say
};

// The text of one request.
std::string request_body(const LoadTarget& target, const LoadRequest& request);

// Sends requests[i] at times[i] seconds, but no more than `max_concurrency` at a time; the others wait for their turn here.
// Afterwards each has its outcome: what one comes to does not stop the others. `progress` is called with how many are done.
LoadRun run_load(http::Client& client, const LoadTarget& target, std::span<const LoadRequest> requests,
                 std::span<const double> times, std::optional<std::int64_t> max_concurrency,
                 const std::function<void(std::size_t)>& progress);

// The answer to a GET. Error(unavailable) if there is none, or one of another status than 200.
Json get_json(http::Client& client, const std::string& path, const std::vector<http::Header>& headers);

}  // namespace cajal::load
