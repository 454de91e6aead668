#include "engine/ranks/rank_follower.h"

#include "base/error.h"
#include "engine/model_runner.h"
#include "engine/ranks/model_fingerprint.h"
#include "engine/ranks/rank_report.h"

namespace cajal {

RankFollower::RankFollower(Communicator& world, Backend& backend) : world_(world), backend_(backend), link_(world) {}

RankFollower::~RankFollower() = default;

void RankFollower::run() {
  try {
    while (carry_out(link_.receive())) {
    }
  } catch (const std::exception& e) {
    const auto* error = dynamic_cast<const Error*>(&e);
    world_.abandon(detail::join("failed: ", error ? error->message() : e.what()));
    throw;
  }
}

bool RankFollower::carry_out(const Plan& plan) {
  switch (plan.kind) {
    case PlanKind::load_model: load_model(plan); return true;
    case PlanKind::make_runner: make_runner(plan); return true;
    case PlanKind::make_bucket: make_bucket(plan); return true;
    case PlanKind::step: step(plan); return true;
    case PlanKind::drop:
      runners_.erase(plan.object);
      models_.erase(plan.object);
      return true;
    case PlanKind::stop: return false;
  }
  fail(ErrorCode::data_loss, "plan ", link_.num_plans(), " is of kind ", static_cast<std::uint32_t>(plan.kind),
       ", which this build does not know", remedy("run the same build of cajal on all ranks"));
}

void RankFollower::load_model(const Plan& plan) {
  PlanReader body(plan.body);
  const ModelOptions options = read_model_options(body);
  body.expect_end();
  do_together(world_, to_string(plan.kind), [&] {
    models_[plan.object] = std::make_unique<Model>(options, backend_);
    return RankOutcome{.fingerprint = model_fingerprint(options.folder), .free_bytes = backend_.free_bytes()};
  });
}

void RankFollower::make_runner(const Plan& plan) {
  PlanReader body(plan.body);
  const auto number = body.get<std::uint64_t>();
  const RunnerLimits limits = read_limits(body);
  body.expect_end();
  const auto model = models_.find(number);
  if (model == models_.end()) fail(ErrorCode::data_loss, "a plan names model ", number, ", which is not here");
  do_together(world_, to_string(plan.kind), [&] {
    runners_[plan.object] = std::make_unique<ModelRunner>(*model->second, limits);
    return RankOutcome{};
  });
}

void RankFollower::make_bucket(const Plan& plan) {
  PlanReader body(plan.body);
  const auto rows = body.get<std::int64_t>();
  body.expect_end();
  ModelRunner& runner = this->runner(plan.object);
  do_together(world_, to_string(plan.kind), [&] {
    runner.executable(rows);
    return RankOutcome{};
  });
}

void RankFollower::step(const Plan& plan) {
  PlanReader body(plan.body);
  read(body, step_);
  body.expect_end();
  runner(plan.object).run(step_.input);
}

ModelRunner& RankFollower::runner(std::uint64_t number) const {
  const auto found = runners_.find(number);
  if (found == runners_.end()) fail(ErrorCode::data_loss, "a plan names runner ", number, ", which is not here");
  return *found->second;
}

}  // namespace cajal
