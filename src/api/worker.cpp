#include "api/worker.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/log.h"

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
  for (std::size_t i = 0; i < job.completions.size(); ++i)
    if (job.completions[i].finish_reason == api::FinishReason::none) give(job, i, {.finish_reason = reason});
}

}  // namespace

Worker::Worker(MakeEngine make_engine) : make_engine_(std::move(make_engine)), engine_(make_engine_(*this)) {
  if (engine_) max_num_seqs_ = engine_->runner().limits().max_num_seqs;
  thread_ = std::thread([this] { loop(); });
}

Worker::~Worker() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Worker::push(const std::shared_ptr<Job>& job) {
  job->unfinished = job->requests.size() * job->per_prompt;
  job->completions.resize(job->unfinished);
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
  std::vector<std::shared_ptr<Job>> unwanted;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& job : queue_)
      if (job->num_started == 0 && (closing_ || !job->wanted())) unwanted.push_back(job);
    std::erase_if(queue_, [&](const auto& job) { return std::count(unwanted.begin(), unwanted.end(), job) > 0; });
  }
  // Outside of the lock: callbacks may submit and abort.
  for (const auto& job : unwanted) end(*job, api::FinishReason::aborted);
}

void Worker::drop_unwanted() {
  std::vector<RequestId> unwanted;
  for (const auto& [id, owner] : owners_)
    if (closing_ || !owner.job->wanted()) unwanted.push_back(id);
  std::sort(unwanted.begin(), unwanted.end());
  for (const RequestId id : unwanted) engine_->core().abort(id);
}

// Gives the engine as much as may run now; the rest waits here, where it can be counted and dropped.
void Worker::start_jobs() {
  while (true) {
    std::shared_ptr<Job> job;
    {
      const std::lock_guard lock(mutex_);
      if (queue_.empty() || queue_.front()->task) return;
      job = queue_.front();
    }
    const bool all = start(job);
    if (!all) return;
    const std::lock_guard lock(mutex_);
    queue_.pop_front();
  }
}

// False if some of its prompts have to wait.
bool Worker::start(const std::shared_ptr<Job>& job) {
  EngineCore& core = engine_->core();
  for (; job->num_started < job->requests.size(); ++job->num_started) {
    const bool wanted = !closing_ && job->wanted();
    if (wanted && core.num_waiting() + core.num_running() >= max_num_seqs_) return false;
    const std::size_t first = job->num_started * job->per_prompt;
    const auto end_here = [&](api::FinishReason reason) {
      for (std::size_t i = first; i < first + job->per_prompt; ++i) give(*job, i, {.finish_reason = reason});
    };
    if (!wanted) {
      end_here(api::FinishReason::aborted);
      continue;
    }
    EngineRequest request = job->requests[job->num_started];
    request.id = ++last_request_;
    owners_[request.id] = {job, first};
    if (const auto refusal = core.add(std::move(request))) {
      owners_.erase(last_request_);
      job->engine_failure = std::make_exception_ptr(Error(refusal->code, refusal->message, refusal->remedy));
      end_here(api::FinishReason::error);
    }
  }
  return true;
}

std::shared_ptr<Job> Worker::take_task() {
  const std::lock_guard lock(mutex_);
  if (queue_.empty() || !queue_.front()->task) return nullptr;
  auto job = std::move(queue_.front());
  queue_.pop_front();
  return job;
}

void Worker::run_task(Job& job) {
  try {
    job.task();
  } catch (...) {
    job.engine_failure = std::current_exception();
  }
  finish(job);
}

void Worker::step_others() {
  sweep_queue();
  if (!engine_) return;
  drop_unwanted();
  start_jobs();
  engine_->core().step();
  engine_->core().settle();  // the task needs the device next
}

void Worker::loop() {
  while (true) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return closing_ || !queue_.empty() || (engine_ && engine_->core().has_work()); });
    }
    sweep_queue();
    if (engine_) {
      drop_unwanted();
      start_jobs();
    }
    if (closing_) break;
    if (const auto task = take_task()) {
      if (engine_) engine_->core().settle();
      run_task(*task);
    }
    if (!engine_) continue;
    engine_->core().step();
    replace_ended_engine();
  }
  if (engine_) engine_->core().abort_all();
}

// A step that never ends still uses the memory of its engine, which can only go on refusing then.
void Worker::replace_ended_engine() {
  if (engine_->core().failure().empty() || engine_->core().hangs()) return;
  log_warning("the engine has ended and begins anew: ", engine_->core().failure());
  engine_.reset();
  engine_ = make_engine_(*this);
}

void Worker::on_update(const SequenceUpdate& update) noexcept {
  const Owner owner = owners_.at(update.request);
  Job& job = *owner.job;
  api::Delta delta;
  delta.text = update.text;
  if (update.token) {
    delta.token_ids.push_back(update.token->chosen.token_id);
    if (job.wants_logprobs) delta.logprobs.push_back(public_logprobs(*update.token));
  }
  if (update.finish_reason) {
    delta.finish_reason = public_reason(*update.finish_reason);
    if (*update.finish_reason == FinishReason::error)
      job.engine_failure = std::make_exception_ptr(Error(ErrorCode::unavailable, std::string(update.error)));
    const std::size_t sequences = owner.first + job.per_prompt;
    std::size_t over = 0;
    for (std::size_t i = owner.first; i < sequences; ++i)
      over += job.completions[i].finish_reason != api::FinishReason::none;
    if (over + 1 == job.per_prompt) owners_.erase(update.request);
  }
  give(job, owner.first + update.sequence, std::move(delta));
}

}  // namespace cajal
