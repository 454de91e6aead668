#include "engine/ranks/rank_leader.h"

#include <algorithm>

#include "engine/model_runner.h"

namespace cajal {

RankObject::~RankObject() {
  if (leader_) leader_->drop(number_);
}

RankLeader::~RankLeader() {
  try {
    const std::lock_guard lock(mutex_);
    if (!broken_) link_.send_bare(PlanKind::stop, 0);
  } catch (const std::exception& e) {
    world_.abandon(detail::join("failed: ", e.what()));
  }
}

// Runs what all ranks must come through together. After a failure in between nobody knows where the others are: they are let
// go.
template <class Body>
void RankLeader::guarded(Body&& body) {
  if (broken_) throw Error(*broken_);
  try {
    body();
  } catch (const std::exception& e) {
    const auto* error = dynamic_cast<const Error*>(&e);
    broken_ = error ? *error : Error(ErrorCode::unavailable, e.what());
    world_.abandon(detail::join("failed: ", broken_->message()));
    throw;
  }
}

RankReports RankLeader::together(PlanKind kind, std::uint64_t object, const std::function<RankOutcome()>& here) {
  RankReports reports;
  guarded([&] {
    link_.send(kind, object);
    reports = do_together(world_, to_string(kind), here);
  });
  return reports;
}

RankObject RankLeader::make(PlanKind kind, const std::function<RankOutcome()>& here) {
  const std::uint64_t number = ++last_number_;
  const RankReports reports = together(kind, number, here);
  if (!reports.all_done()) {
    guarded([&] { link_.send_bare(PlanKind::drop, number); });
    reports.check();
  }
  if (kind == PlanKind::load_model) {
    least_free_bytes_ = UINT64_MAX;
    for (const RankOutcome& outcome : reports.outcomes)
      least_free_bytes_ = std::min(least_free_bytes_, outcome.free_bytes);
  }
  return {*this, number};
}

RankObject RankLeader::load_model(const ModelOptions& options, const std::function<RankOutcome()>& here) {
  const std::lock_guard lock(mutex_);
  write(link_.new_body(), options);
  return make(PlanKind::load_model, here);
}

RankObject RankLeader::make_runner(const RankObject& model, const RunnerLimits& limits,
                                   const std::function<void()>& here) {
  const std::lock_guard lock(mutex_);
  PlanWriter& body = link_.new_body();
  body.put(model.number());
  write(body, limits);
  return make(PlanKind::make_runner, [&] {
    here();
    return RankOutcome{};
  });
}

void RankLeader::make_bucket(const RankObject& runner, std::int64_t rows, const std::function<void()>& here) {
  const std::lock_guard lock(mutex_);
  link_.new_body().put(rows);
  together(PlanKind::make_bucket, runner.number(), [&] {
    here();
    return RankOutcome{};
  }).check();
}

void RankLeader::step(const RankObject& runner, const StepInput& input, const std::function<void()>& here) {
  const std::lock_guard lock(mutex_);
  write(link_.new_body(), input);
  guarded([&] {
    link_.send(PlanKind::step, runner.number());
    here();
  });
}

void RankLeader::drop(std::uint64_t object) noexcept {
  try {
    const std::lock_guard lock(mutex_);
    if (!broken_) guarded([&] { link_.send_bare(PlanKind::drop, object); });
  } catch (const std::exception&) {
    // broken: the next call says so
  }
}

}  // namespace cajal
