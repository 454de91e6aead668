#include "api/worker.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace cajal {
namespace {

api::FinishReason public_reason(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop: return api::FinishReason::stop;
    case FinishReason::length: return api::FinishReason::length;
    case FinishReason::interrupted: return api::FinishReason::aborted;
    case FinishReason::deadline_exceeded: return api::FinishReason::aborted;
    case FinishReason::numerical_error:
    case FinishReason::error: return api::FinishReason::error;
  }
  return api::FinishReason::error;
}

api::LogprobsOfToken public_logprobs(const GeneratedToken& token) {
  api::LogprobsOfToken result{{token.chosen.token_id, token.chosen.logprob}, {}};
  for (const TokenLogprob& t : token.top) result.top.push_back({t.token_id, t.logprob});
  return result;
}

void append(api::Completion& completion, const api::Delta& delta) {
  completion.text += delta.text;
  completion.token_ids.insert(completion.token_ids.end(), delta.token_ids.begin(), delta.token_ids.end());
  completion.logprobs.insert(completion.logprobs.end(), delta.logprobs.begin(), delta.logprobs.end());
  completion.finish_reason = delta.finish_reason;
}

void finish(Job& job) {
  if (job.engine_failure)
    job.over.set_exception(job.engine_failure);
  else
    job.over.set_value();
}

void give(Job& job, std::size_t sequence, api::Delta delta) {
  delta.prompt = sequence / job.per_prompt;
  delta.sequence = sequence % job.per_prompt;
  append(job.completions[sequence], delta);
  if (job.on_delta && !job.callback_failure) {
    try {
      job.on_delta(delta);
    } catch (...) {
      job.callback_failure = std::current_exception();
      job.stopped = true;
    }
  }
  if (delta.finish_reason != api::FinishReason::none && --job.unfinished == 0) finish(job);
}

// Ends what is not over yet of a job.
void end(Job& job, api::FinishReason reason) {
  if (job.task) return finish(job);
  for (std::size_t i = 0; i < job.sequences.size(); ++i)
    if (job.completions[i].finish_reason == api::FinishReason::none) give(job, i, {.finish_reason = reason});
}

}  // namespace

Worker::Worker(std::function<std::unique_ptr<Generator>()> make_generator)
    : make_generator_(std::move(make_generator)), generator_(make_generator_()), thread_([this] { loop(); }) {}

Worker::~Worker() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Worker::push(const std::shared_ptr<Job>& job) {
  job->completions.resize(job->sequences.size());
  job->unfinished = job->sequences.size();
  queue_.push_back(job);
  changed_.notify_all();
}

std::future<void> Worker::add(std::shared_ptr<Job> job) {
  std::future<void> over = job->over.get_future();
  const std::lock_guard lock(mutex_);
  push(job);
  return over;
}

std::uint64_t Worker::add_named(std::shared_ptr<Job> job, std::size_t max_waiting) {
  const std::lock_guard lock(mutex_);
  if (queue_.size() >= max_waiting) return 0;
  std::erase_if(named_, [](const auto& entry) { return entry.second.expired(); });
  named_.emplace(++last_id_, job);
  push(job);
  return last_id_;
}

void Worker::abort(std::uint64_t id) noexcept {
  const std::lock_guard lock(mutex_);
  if (const auto found = named_.find(id); found != named_.end())
    if (const auto job = found->second.lock()) job->stopped = true;
}

void Worker::sweep_queue() {
  Jobs unwanted;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& job : queue_)
      if (closing_ || !job->wanted()) unwanted.push_back(job);
    std::erase_if(queue_, [&](const auto& job) { return std::count(unwanted.begin(), unwanted.end(), job) > 0; });
  }
  // Outside of the lock: callbacks may submit and abort.
  for (const auto& job : unwanted) end(*job, api::FinishReason::aborted);
}

// The first job, and of those behind it as many as can run with it; empty when the worker is to end.
Worker::Jobs Worker::take_next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return closing_ || !queue_.empty(); });
  Jobs jobs;
  while (!closing_ && !queue_.empty() && (jobs.empty() || (!jobs[0]->task && !queue_.front()->task))) {
    jobs.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  return jobs;
}

void Worker::loop() {
  for (Jobs jobs = take_next(); !jobs.empty(); jobs = take_next()) {
    run(jobs);
    jobs.clear();
  }
  sweep_queue();
}

void Worker::run(const Jobs& jobs) {
  try {
    if (jobs[0]->task) {
      jobs[0]->task();
      return finish(*jobs[0]);
    }
    if (!generator_) generator_ = make_generator_();
    generate(jobs);
  } catch (...) {
    if (!jobs[0]->task) generator_.reset();  // what it holds of the failed run is of no use
    for (const auto& job : jobs) {
      job->engine_failure = std::current_exception();
      end(*job, api::FinishReason::error);
    }
  }
}

void Worker::generate(const Jobs& jobs) {
  struct Owner {
    Job* job;
    std::size_t sequence;
  };
  std::vector<SequenceRequest> requests;
  std::vector<Owner> owners;
  for (const auto& job : jobs)
    for (std::size_t i = 0; i < job->sequences.size(); ++i) {
      requests.push_back(job->sequences[i]);
      owners.push_back({job.get(), i});
    }
  RunHooks hooks;
  hooks.is_wanted = [&](std::size_t i) {
    if (i == 0 || owners[i].job != owners[i - 1].job) sweep_queue();
    return !closing_ && owners[i].job->wanted();
  };
  hooks.on_progress = [&](const SequenceProgress& progress) {
    const Owner& owner = owners[progress.sequence];
    api::Delta delta;
    delta.text = progress.text;
    if (progress.token) {
      delta.token_ids.push_back(progress.token->chosen.token_id);
      if (owner.job->wants_logprobs) delta.logprobs.push_back(public_logprobs(*progress.token));
    }
    if (progress.finish_reason) delta.finish_reason = public_reason(*progress.finish_reason);
    give(*owner.job, owner.sequence, std::move(delta));
  };
  generator_->run(requests, hooks);
}

}  // namespace cajal
