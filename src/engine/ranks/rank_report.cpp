#include "engine/ranks/rank_report.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <new>
#include <span>
#include <type_traits>

#include "base/checksum.h"

namespace cajal {
namespace {

// Of a fixed size, so that one gather brings all of them.
struct Report {
  std::uint32_t failed = 0;
  ErrorCode code = ErrorCode::unavailable;
  RankOutcome outcome;
  char message[1024] = {};
  char remedy[256] = {};
};
static_assert(std::is_trivially_copyable_v<Report>);

template <std::size_t kSize>
void copy_text(const std::string& text, char (&into)[kSize]) {
  std::memcpy(into, text.data(), std::min(text.size(), kSize - 1));
}

Report report_of(const Error& error) {
  Report report{.failed = 1, .code = error.code()};
  copy_text(error.message(), report.message);
  copy_text(error.remedy(), report.remedy);
  return report;
}

}  // namespace

void RankReports::check() const {
  if (own) std::rethrow_exception(own);
  if (other) throw Error(*other);
}

RankReports do_together(Communicator& world, std::string_view what, const std::function<RankOutcome()>& part) {
  RankReports reports;
  Report mine;
  try {
    mine.outcome = part();
  } catch (const Error& e) {
    reports.own = std::current_exception();
    mine = report_of(e);
  } catch (const std::bad_alloc&) {
    reports.own = std::current_exception();
    mine = report_of(Error(ErrorCode::out_of_memory, "there is not enough memory"));
  }
  std::vector<Report> all(static_cast<std::size_t>(world.size()));
  world.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
  for (int r = 0; r < world.size(); ++r) {
    const Report& report = all[static_cast<std::size_t>(r)];
    reports.outcomes.push_back(report.outcome);
    if (reports.other) continue;
    const std::uint64_t expected = all.front().outcome.fingerprint, found = report.outcome.fingerprint;
    if (report.failed)
      reports.other.emplace(report.code, detail::join("rank ", r, ": ", report.message), report.remedy);
    else if (!all.front().failed && found != expected)
      reports.other.emplace(ErrorCode::invalid_argument,
                            detail::join("rank ", r, ": ", what, ": the fingerprint is ", checksum_text(found),
                                         ", and rank 0's is ", checksum_text(expected)),
                            "give all ranks the same files and the same build of cajal");
  }
  return reports;
}

}  // namespace cajal
