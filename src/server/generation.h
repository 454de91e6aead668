#pragma once
// Prompts that the engine runs for one request, and what becomes of them; chats and completions differ in how they write it.
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "api/public.h"
#include "protocol/answers.h"
#include "protocol/chat_answer.h"
#include "protocol/sampling_fields.h"
#include "server/call.h"
#include "server/service.h"

namespace cajal::server {

class Generation : public std::enable_shared_from_this<Generation> {
 public:
  Generation(Service& service, CallPtr call) : service_(service), call_(std::move(call)) {}
  virtual ~Generation() = default;
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  // Gives the prompts to the engine and returns; choice i * n + k is the k-th answer to prompt i. RequestError if one of
  // them is not taken: then none is. When the client leaves, all of them end.
  // What has a structure is compiled first, on a thread that may wait; `structure_param` names the field that asks for it.
  void run(std::vector<std::vector<std::int32_t>> prompts, const api::SamplingParams& params,
           const std::string& structure_param = {});

 protected:
  // These are called one at a time, under a lock.
  virtual void begin() = 0;  // all prompts were taken
  virtual void take(std::size_t choice, const api::Delta& delta) = 0;
  virtual void end() = 0;                                   // every choice is over
  virtual void fail(const protocol::ErrorBody& error) = 0;  // instead of end()

  Service& service() { return service_; }
  Call& call() { return *call_; }
  const protocol::UsageCount& usage() const { return usage_; }
  void count_reasoning(std::int64_t num_tokens) { usage_.reasoning_tokens += num_tokens; }  // in take()
  std::size_t num_choices() const { return num_choices_; }
  protocol::TokenLogprobs logprobs_of(const api::LogprobsOfToken& token) const;

 private:
  void start(std::vector<std::vector<std::int32_t>> prompts, const api::SamplingParams& params,
             const std::string& structure_param);
  void on_delta(std::size_t prompt, const api::Delta& delta);
  void process(std::size_t prompt, const api::Delta& delta);
  void count(const api::Delta& delta);
  void cancel() noexcept;
  void give_up(const protocol::ErrorBody& error);

  Service& service_;
  const CallPtr call_;
  std::size_t per_prompt_ = 1, num_choices_ = 0;

  std::mutex mutex_;  // of all that follows
  std::vector<api::Engine::RequestId> requests_;
  std::vector<std::pair<std::size_t, api::Delta>> early_;  // that came before begin()
  bool begun_ = false, over_ = false, cancelled_ = false;
  std::size_t unfinished_ = 0;
  protocol::UsageCount usage_;
};

// As the engine wants them, with the service's deadline if the request has none.
api::SamplingParams sampling_params(const Service& service, const protocol::SamplingFields& fields,
                                    const protocol::AnswerFields& answer);
// Cuts the prompt's beginning where the request says so and checks that it leaves room for an answer. `field` of the request
// has made the prompt.
void fit_prompt(std::vector<std::int32_t>& prompt, const protocol::SamplingFields& fields, std::int64_t max_model_len,
                std::string_view field);

std::string_view finish_reason(api::FinishReason reason);  // "stop" or "length"
Json json_list(const std::vector<std::int32_t>& ids);

}  // namespace cajal::server
