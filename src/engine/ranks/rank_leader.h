#pragma once
// Rank 0's side: tells the other ranks what to do and does its own part at the same time, so that models, runners and steps
// are on all ranks what they are here.
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <utility>

#include "base/error.h"
#include "engine/ranks/plan.h"
#include "engine/ranks/rank_report.h"

namespace cajal {

class RankLeader;

// A model or a runner that every rank has under the same number. Where there is one rank it is nothing.
class RankObject {
 public:
  RankObject() = default;
  RankObject(RankLeader& leader, std::uint64_t number) : leader_(&leader), number_(number) {}
  RankObject(RankObject&& other) noexcept : leader_(std::exchange(other.leader_, nullptr)), number_(other.number_) {}
  RankObject& operator=(RankObject&& other) noexcept {
    std::swap(leader_, other.leader_);
    std::swap(number_, other.number_);
    return *this;
  }
  ~RankObject();
  RankLeader* leader() const { return leader_; }  // null: there are no other ranks
  std::uint64_t number() const { return number_; }

 private:
  RankLeader* leader_ = nullptr;
  std::uint64_t number_ = 0;
};

// For any thread; one plan at a time is carried out. Once a rank has died or a step has failed, all of it fails at once and
// with the same Error.
class RankLeader {
 public:
  // The communicator of all ranks; it must outlive this.
  explicit RankLeader(Communicator& world) : world_(world), link_(world) {}
  ~RankLeader();  // tells all ranks to stop
  RankLeader(const RankLeader&) = delete;
  RankLeader& operator=(const RankLeader&) = delete;

  int size() const { return world_.size(); }

  // Each calls `here` for this rank's part and returns when all ranks are done. If a part fails no rank has the object, and
  // RankReports::check() throws.
  RankObject load_model(const ModelOptions& options, const std::function<RankOutcome()>& here);
  RankObject make_runner(const RankObject& model, const RunnerLimits& limits, const std::function<void()>& here);
  void make_bucket(const RankObject& runner, std::int64_t rows, const std::function<void()>& here);

  // Does not wait for the others: `here` waits for them where they compute together.
  void step(const RankObject& runner, const StepInput& input, const std::function<void()>& here);
  void drop(std::uint64_t object) noexcept;

  // The least memory that a rank had left when a model was loaded last.
  std::uint64_t least_free_bytes() const { return least_free_bytes_; }

 private:
  RankReports together(PlanKind kind, std::uint64_t object, const std::function<RankOutcome()>& here);
  RankObject make(PlanKind kind, const std::function<RankOutcome()>& here);
  template <class Body>
  void guarded(Body&& body);

  Communicator& world_;
  std::mutex mutex_;  // of all that follows
  PlanLink link_;
  std::uint64_t last_number_ = 0;
  std::uint64_t least_free_bytes_ = UINT64_MAX;
  std::optional<Error> broken_;
};

}  // namespace cajal
