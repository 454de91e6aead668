#pragma once
// How a rank tells the others that it has done what a plan said, or why not.
#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "distributed/communicator.h"

namespace cajal {

// What a plan's part on one rank came to.
struct RankOutcome {
  std::uint64_t fingerprint = 0;  // of what was made; the same on all ranks
  std::uint64_t free_bytes = 0;   // of the rank's memory, afterwards
};

struct RankReports {
  std::vector<RankOutcome> outcomes;  // by rank
  std::exception_ptr own;             // this rank's failure, as it was thrown
  std::optional<Error> other;         // the first other rank's, with its number in front

  bool all_done() const { return !own && !other; }
  // Throws this rank's own failure, else the other's.
  void check() const;
};

// Does this rank's part of `what` and tells all others what it came to. Returns once all are done, and throws only what the
// communicator throws. A rank whose fingerprint is not rank 0's has failed.
RankReports do_together(Communicator& world, std::string_view what, const std::function<RankOutcome()>& part);

}  // namespace cajal
