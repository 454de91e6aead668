#include "load/run_load.h"

#include <algorithm>
#include <chrono>
#include <deque>

#include "base/error.h"
#include "load/stream_reader.h"

namespace cajal::load {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMostErrorBytes = 64 << 10;

double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

class Runner {
 public:
  Runner(http::Client& client, const LoadTarget& target, std::span<const LoadRequest> requests,
         std::optional<std::int64_t> max_concurrency, const std::function<void(std::size_t)>& progress)
      : client_(client),
        target_(target),
        requests_(requests),
        limit_(static_cast<std::size_t>(max_concurrency.value_or(static_cast<std::int64_t>(requests.size())))),
        progress_(progress),
        headers_(target.headers) {
    headers_.push_back({"Content-Type", "application/json"});
    run_.outcomes.resize(requests.size());
  }

  LoadRun run(std::span<const double> times) {
    begin_ = Clock::now();
    for (std::size_t i = 0; i < requests_.size(); ++i)
      client_.at(begin_ + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(times[i])),
                 [this, i] { arrive(i); });
    client_.run();
    run_.duration = seconds(Clock::now() - begin_);
    return std::move(run_);
  }

 private:
  // One request under way.
  struct Flight {
    Clock::time_point sent;
    int status = 0;
    std::string error_body;
    StreamReader reader;
  };

  void arrive(std::size_t index) {
    waiting_.emplace_back(index, Clock::now());
    send_waiting();
  }

  void send_waiting() {
    while (num_flying_ < limit_ && !waiting_.empty()) {
      const auto [index, since] = waiting_.front();
      waiting_.pop_front();
      ++num_flying_;
      send(index, since);
    }
  }

  void send(std::size_t index, Clock::time_point arrived) {
    const auto flight = std::make_shared<Flight>();
    flight->sent = Clock::now();
    RequestOutcome& outcome = run_.outcomes[index];
    outcome.prompt_len = requests_[index].prompt_len;
    outcome.start = seconds(flight->sent - begin_);
    outcome.client_queue_time = seconds(flight->sent - arrived);
    http::ReplyHandler handler;
    handler.on_head = [flight](int status) { flight->status = status; };
    handler.on_body = [flight](std::string_view piece) {
      if (flight->status == 200)
        flight->reader.push(piece, seconds(Clock::now() - flight->sent));
      else if (flight->error_body.size() < kMostErrorBytes)
        flight->error_body += piece;
    };
    handler.on_end = [this, flight, index](const std::string& error) { land(*flight, index, error); };
    client_.send("POST", target_.endpoint, headers_, request_body(target_, requests_[index]), std::move(handler));
  }

  void land(const Flight& flight, std::size_t index, const std::string& error) {
    const bool refused = error.empty() && flight.status != 200;
    flight.reader.finish(refused ? error_text(flight.status, flight.error_body) : error, run_.outcomes[index]);
    if (index == 0) run_.prompt_tokens_told = flight.reader.prompt_tokens();
    --num_flying_;
    ++num_done_;
    if (progress_) progress_(num_done_);
    send_waiting();
  }

  http::Client& client_;
  const LoadTarget& target_;
  const std::span<const LoadRequest> requests_;
  const std::size_t limit_;
  const std::function<void(std::size_t)>& progress_;
  std::vector<http::Header> headers_;
  Clock::time_point begin_;
  std::deque<std::pair<std::size_t, Clock::time_point>> waiting_;
  std::size_t num_flying_ = 0, num_done_ = 0;
  LoadRun run_;
};

}  // namespace

std::string request_body(const LoadTarget& target, const LoadRequest& request) {
  Json body = Json::Object{{"model", target.model}};
  if (target.chat) {
    Json::Array messages{Json::Object{{"role", "user"}, {"content", request.prompt}}};
    body.set("messages", std::move(messages));
    body.set("max_completion_tokens", request.output_len);
  } else {
    body.set("prompt", request.prompt);
    body.set("max_tokens", request.output_len);
  }
  body.set("stream", true);
  body.set("stream_options", Json::Object{{"include_usage", true}});
  if (target.ignore_eos) body.set("ignore_eos", true);
  for (const auto& [key, value] : target.extra_body) body.set(key, value);
  return to_json(body);
}

LoadRun run_load(http::Client& client, const LoadTarget& target, std::span<const LoadRequest> requests,
                 std::span<const double> times, std::optional<std::int64_t> max_concurrency,
                 const std::function<void(std::size_t)>& progress) {
  CAJAL_CHECK(times.size() == requests.size());
  return Runner(client, target, requests, max_concurrency, progress).run(times);
}

Json get_json(http::Client& client, const std::string& path, const std::vector<http::Header>& headers) {
  int status = 0;
  std::string body, failure;
  http::ReplyHandler handler;
  handler.on_head = [&](int s) { status = s; };
  handler.on_body = [&](std::string_view piece) {
    if (body.size() < (std::size_t{1} << 24)) body += piece;
  };
  handler.on_end = [&](const std::string& error) { failure = error; };
  client.send("GET", path, headers, {}, std::move(handler));
  client.run();
  if (failure.empty() && status != 200) failure = error_text(status, body);
  if (!failure.empty()) fail(ErrorCode::unavailable, "GET ", path, ": ", failure);
  return parse_json(body, "the answer to GET " + path);
}

}  // namespace cajal::load
