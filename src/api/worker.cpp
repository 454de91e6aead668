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
    case FinishReason::deadline_exceeded: return api::FinishReason::timeout;
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

// Of a sequence of a job: what waited in front of the engine has waited, too.
api::RequestMetrics metrics_of(RequestTimings times, const Job& job) {
  times.arrived = job.arrived;
  return {times.num_cached_tokens, times.queue_seconds(), times.ttft_seconds(), times.e2e_seconds()};
}

void append(api::Completion& completion, const api::Delta& delta) {
  completion.text += delta.text;
  completion.token_ids.insert(completion.token_ids.end(), delta.token_ids.begin(), delta.token_ids.end());
  completion.logprobs.insert(completion.logprobs.end(), delta.logprobs.begin(), delta.logprobs.end());
  completion.finish_reason = delta.finish_reason;
  completion.stopped_by = delta.stopped_by;
  completion.metrics = delta.metrics;
}

void finish(Job& job) {
  if (job.engine_failure)
    job.over.set_exception(job.engine_failure);
  else
    job.over.set_value();
}

}  // namespace

Worker::Worker(MakeEngine make_engine) : make_engine_(std::move(make_engine)), engine_(make_engine_(*this)) {
  // Twice as many as run at a time, so that seats that become free are taken at once.
  if (engine_) max_ahead_ = 2 * static_cast<std::size_t>(engine_->runner().limits().max_num_seqs);
  thread_ = std::thread([this] { loop(); });
}

void Worker::close() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Worker::push(const std::shared_ptr<Job>& job) {
  job->unfinished = job->requests.size() * job->per_prompt;
  job->completions.resize(job->unfinished);
  job->arrived = SteadyClock().now();
  if (job->timeout)
    for (EngineRequest& request : job->requests) request.deadline = job->arrived + *job->timeout;
  queue_.push_back(job);
  changed_.notify_all();
}

std::future<void> Worker::add(std::shared_ptr<Job> job) {
  std::future<void> over = job->over.get_future();
  const std::lock_guard lock(mutex_);
  push(job);
  return over;
}

std::uint64_t Worker::add_named(std::shared_ptr<Job> job, std::int64_t max_waiting) {
  const std::lock_guard lock(mutex_);
  if (num_waiting_ >= max_waiting) return 0;
  job->waits = true;
  ++num_waiting_;
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

std::string Worker::metrics_text() const {
  const std::lock_guard lock(metrics_mutex_);
  return engine_ ? engine_->metrics().prometheus_text() : last_metrics_;
}

std::string Worker::failure() const {
  const std::lock_guard lock(metrics_mutex_);
  return failure_;
}

void Worker::waits_no_longer(Job& job) {
  if (!job.waits) return;
  job.waits = false;
  --num_waiting_;
}

void Worker::give(Job& job, std::size_t sequence, api::Delta delta) {
  const bool last = delta.finish_reason != api::FinishReason::none;
  if (last) waits_no_longer(job);  // whoever hears of it may take the place
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
  if (last && --job.unfinished == 0) finish(job);
}

// Of a sequence that the engine does not have.
void Worker::end(Job& job, std::size_t sequence, api::FinishReason reason) {
  RequestTimings times;
  times.finished = SteadyClock().now();
  give(job, sequence, {.finish_reason = reason, .metrics = metrics_of(times, job)});
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
  for (const auto& job : unwanted) {
    if (job->task) finish(*job);
    for (std::size_t i = 0; i < job->completions.size(); ++i) end(*job, i, api::FinishReason::aborted);
  }
}

void Worker::drop_unwanted() {
  std::vector<RequestId> unwanted;
  for (const auto& [id, owner] : owners_)
    if (closing_ || !owner.job->wanted()) unwanted.push_back(id);
  std::sort(unwanted.begin(), unwanted.end());
  for (const RequestId id : unwanted) engine_->core().abort(id);
}

// Gives the engine all that waits, but not everything at once of a job of very many prompts: those of others come in between.
void Worker::start_jobs() {
  std::vector<std::shared_ptr<Job>> jobs;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& job : queue_)
      if (!job->task) jobs.push_back(job);
  }
  // Outside of the lock: callbacks may submit and abort.
  std::erase_if(jobs, [&](const auto& job) { return !start(job); });
  if (jobs.empty()) return;
  const std::lock_guard lock(mutex_);
  std::erase_if(queue_, [&](const auto& job) { return std::count(jobs.begin(), jobs.end(), job) > 0; });
}

// False if some of its prompts have to wait.
bool Worker::start(const std::shared_ptr<Job>& job) {
  while (job->num_started < job->requests.size()) {
    const bool wanted = !closing_ && job->wanted();
    if (wanted && job->num_started - job->num_over >= max_ahead_) return false;
    EngineRequest request = job->requests[job->num_started];
    const std::size_t first = job->num_started++ * job->per_prompt;
    const auto end_here = [&](api::FinishReason reason) {
      ++job->num_over;
      for (std::size_t i = first; i < first + job->per_prompt; ++i) end(*job, i, reason);
    };
    if (!wanted) {
      end_here(api::FinishReason::aborted);
      continue;
    }
    if (request.deadline && *request.deadline <= SteadyClock().now()) {
      end_here(api::FinishReason::timeout);
      continue;
    }
    request.id = ++last_request_;
    owners_[request.id] = {job, first};
    if (const auto refusal = engine_->core().add(std::move(request))) {
      owners_.erase(last_request_);
      job->engine_failure = std::make_exception_ptr(Error(refusal->code, refusal->message, refusal->remedy));
      end_here(api::FinishReason::error);
    }
  }
  return true;
}

// The first one, wherever it stands: prompts do not wait for tasks.
std::shared_ptr<Job> Worker::take_task() {
  const std::lock_guard lock(mutex_);
  const auto first = std::find_if(queue_.begin(), queue_.end(), [](const auto& job) { return job->task != nullptr; });
  if (first == queue_.end()) return nullptr;
  auto job = std::move(*first);
  queue_.erase(first);
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
    } else {
      refuse_jobs();
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
  std::unique_ptr<LLMEngine> ended;
  {
    const std::lock_guard lock(metrics_mutex_);
    last_metrics_ = engine_->metrics().prometheus_text();
    ended = std::move(engine_);
  }
  ended.reset();  // before the new one, so that there is memory for that
  std::unique_ptr<LLMEngine> fresh;
  try {
    fresh = make_engine_(*this);
  } catch (const std::exception& e) {
    const auto* error = dynamic_cast<const Error*>(&e);
    const std::string why = error ? error->message() : e.what();
    log_warning("the engine could not begin anew: ", why);
    const std::lock_guard lock(metrics_mutex_);
    failure_ = why;
    return;
  }
  const std::lock_guard lock(metrics_mutex_);
  engine_ = std::move(fresh);
}

// Where there is no engine to run them.
void Worker::refuse_jobs() {
  std::vector<std::shared_ptr<Job>> refused;
  {
    const std::lock_guard lock(mutex_);
    for (; !queue_.empty() && !queue_.front()->task; queue_.pop_front()) {
      waits_no_longer(*queue_.front());
      refused.push_back(queue_.front());
    }
  }
  for (const auto& job : refused) {
    job->engine_failure = std::make_exception_ptr(Error(
        ErrorCode::unavailable, "the engine has ended and could not begin anew: " + failure(), "open the model again"));
    for (std::size_t i = 0; i < job->completions.size(); ++i)
      if (job->completions[i].finish_reason == api::FinishReason::none) end(*job, i, api::FinishReason::error);
  }
}

void Worker::on_admitted(const Sequence& sequence) noexcept {
  waits_no_longer(*owners_.at(sequence.owner.request.id).job);
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
    delta.stopped_by = update.stopped_by;
    delta.metrics = metrics_of(*update.times, job);
    if (*update.finish_reason == FinishReason::error)
      job.engine_failure = std::make_exception_ptr(Error(ErrorCode::unavailable, std::string(update.error)));
    const std::size_t sequences = owner.first + job.per_prompt;
    std::size_t over = 0;
    for (std::size_t i = owner.first; i < sequences; ++i)
      over += job.completions[i].finish_reason != api::FinishReason::none;
    if (over + 1 == job.per_prompt) {
      owners_.erase(update.request);
      ++job.num_over;
    }
  }
  give(job, owner.first + update.sequence, std::move(delta));
}

}  // namespace cajal
