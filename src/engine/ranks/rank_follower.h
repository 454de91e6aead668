#pragma once
// What every rank but 0 does: carry out plans, one after another.
#include <cstdint>
#include <map>
#include <memory>

#include "backends/backend.h"
#include "distributed/communicator.h"
#include "engine/ranks/plan.h"

namespace cajal {

class Model;
class ModelRunner;

class RankFollower {
 public:
  // The communicator of all ranks, and this rank's own backend; both must outlive this.
  RankFollower(Communicator& world, Backend& backend);
  ~RankFollower();

  // Until rank 0 says stop. What the plans make and what fails in making it is reported to rank 0, and life goes on; throws
  // Error for what leaves this rank out of step with the others: they have been told then.
  void run();

 private:
  bool carry_out(const Plan& plan);  // false: it was the last one
  void load_model(const Plan& plan);
  void make_runner(const Plan& plan);
  void make_bucket(const Plan& plan);
  void step(const Plan& plan);
  ModelRunner& runner(std::uint64_t number) const;

  Communicator& world_;
  Backend& backend_;
  PlanLink link_;
  ReceivedStep step_;
  std::map<std::uint64_t, std::unique_ptr<Model>> models_;
  std::map<std::uint64_t, std::unique_ptr<ModelRunner>> runners_;  // they use the models
};

}  // namespace cajal
