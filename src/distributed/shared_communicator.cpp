#include "distributed/shared_communicator.h"

#include <sched.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <new>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "distributed/tree_sum.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cajal {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kWatchFor = std::chrono::microseconds(200);  // where every rank has a core
constexpr auto kYieldFor = std::chrono::microseconds(50);   // where they have not: the awaited may need ours
constexpr auto kSleepFor = std::chrono::milliseconds(50);   // until failures are looked for again
constexpr auto kUnwindFor = std::chrono::seconds(2);        // between a rank's throwing and its telling why
constexpr std::size_t kAtOnce = std::size_t{16} << 10;  // bytes, of all ranks together, that every rank sums for itself
constexpr int kGroupsARegion = 12;

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#else
  sched_yield();
#endif
}

bool has_come(const RankLine& line, std::uint32_t phase) {
  return static_cast<std::int32_t>(line.arrived.load(std::memory_order_acquire) - phase) >= 0;
}

std::size_t floats_of(std::size_t bytes) { return bytes / sizeof(float); }

}  // namespace

const char* SharedCommunicator::name_of(Op op) {
  switch (op) {
    case Op::all_reduce: return "all_reduce";
    case Op::reduce_scatter: return "reduce_scatter";
    case Op::all_gather: return "all_gather";
    case Op::all_to_all: return "all_to_all";
    case Op::broadcast: return "broadcast";
    case Op::barrier: return "barrier";
  }
  return "?";
}

std::size_t SharedCommunicator::bytes_for(int size) {
  const auto ranks = static_cast<std::size_t>(size);
  return round_up(ranks * sizeof(RankLine), std::size_t{4096}) + ranks * 2 * kSlotBytes;
}

std::size_t SharedCommunicator::region_bytes_for(int size) { return kGroupsARegion * bytes_for(size); }

std::size_t SharedCommunicator::make_group(SharedRegion& region, int size) {
  const std::size_t offset = region.allocate(bytes_for(size));
  if (offset == 0) return 0;
  for (int r = 0; r < size; ++r) new (region.at(offset) + static_cast<std::size_t>(r) * sizeof(RankLine)) RankLine;
  return offset;
}

SharedCommunicator::SharedCommunicator(std::shared_ptr<SharedRegion> region, Place place)
    : region_(std::move(region)),
      place_(std::move(place)),
      lines_(reinterpret_cast<RankLine*>(region_->at(place_.offset))),
      slots_(region_->at(place_.offset) + bytes_for(size()) - static_cast<std::size_t>(size()) * 2 * kSlotBytes),
      parts_(place_.members.size()) {}

SharedCommunicator::~SharedCommunicator() {
  RankLine& mine = lines_[rank()];
  mine.left.store(std::uncaught_exceptions() > 0 ? RankLine::kUnwound : RankLine::kLeft);
  futex_wake_all(mine.arrived);
}

void SharedCommunicator::abandon(std::string_view why) noexcept {
  region_->report_failure(place_.members[static_cast<std::size_t>(rank())], why);
  for (int r = 0; r < size(); ++r) futex_wake_all(lines_[r].arrived);
}

void SharedCommunicator::meet(Op op, std::size_t bytes) {
  if (region_->failed()) region_->throw_failure();
  RankLine& mine = lines_[rank()];
  const std::uint32_t phase = ++phase_;
  const std::uint64_t doing = bytes * 8 + static_cast<std::uint64_t>(op);
  mine.doing[phase % 2] = doing;
  mine.core.store(sched_getcpu(), std::memory_order_relaxed);
  // Sequentially consistent, as the sleeper's steps are: either it sees this, or it is seen here.
  mine.arrived.store(phase);
  if (mine.sleepers.load() > 0) futex_wake_all(mine.arrived);
  for (int i = 1; i < size(); ++i) {
    const int r = (rank() + i) % size();
    if (!has_come(lines_[r], phase)) wait_for(r, op);
    check_same(r, doing);
  }
}

void SharedCommunicator::check_same(int r, std::uint64_t doing) const {
  const std::uint64_t theirs = lines_[r].doing[phase_ % 2];
  CAJAL_CHECK(theirs == doing, "rank ", r, " calls ", name_of(static_cast<Op>(theirs % 8)), " with ", theirs / 8,
              " bytes where rank ", rank(), " calls ", name_of(static_cast<Op>(doing % 8)), " with ", doing / 8);
}

void SharedCommunicator::wait_for(int r, Op op) {
  RankLine& line = lines_[r];
  const auto start = Clock::now();
  // Who waits on the core of the awaited keeps it from coming.
  const bool same_core = line.core.load(std::memory_order_relaxed) == sched_getcpu();
  const auto awake = place_.crowded ? kYieldFor : same_core ? std::chrono::microseconds(0) : kWatchFor;
  auto now = start;
  for (;;) {
    for (int spins = 0; spins < (place_.crowded ? 8 : 64); ++spins) {
      relax();
      if (has_come(line, phase_)) return;
    }
    if (region_->failed()) region_->throw_failure();
    const int world_rank = place_.members[static_cast<std::size_t>(r)];
    // What unwinds a rank is about to be told by it, and says more than that it has gone.
    const auto left = line.left.load();
    const bool given_up = left == RankLine::kLeft || (left == RankLine::kUnwound && Clock::now() - start > kUnwindFor);
    if (given_up && !has_come(line, phase_)) {
      region_->report_failure(world_rank, detail::join("has left while others wait for it in ", name_of(op)));
      region_->throw_failure();
    }
    now = Clock::now();
    if (place_.timeout.count() > 0 && now - start > place_.timeout) {
      region_->report_failure(world_rank,
                              detail::join("did not come to ", name_of(op), " within ", place_.timeout.count(), " ms"));
      region_->throw_failure();
    }
    if (now - start < awake) {
      if (place_.crowded) sched_yield();
      continue;
    }
    line.sleepers.fetch_add(1);
    const std::uint32_t seen = line.arrived.load();
    if (static_cast<std::int32_t>(seen - phase_) < 0) {
      const auto nap = place_.timeout.count() > 0 ? std::min<Clock::duration>(kSleepFor, place_.timeout) : kSleepFor;
      futex_wait(line.arrived, seen, nap);
    }
    line.sleepers.fetch_sub(1);
  }
}

const float** SharedCommunicator::slots_of_all(std::size_t offset_floats) {
  for (int r = 0; r < size(); ++r)
    parts_[static_cast<std::size_t>(r)] = reinterpret_cast<const float*>(met_slot(r)) + offset_floats;
  return parts_.data();
}

void SharedCommunicator::all_reduce(std::span<float> x) {
  if (size() == 1) return;
  const std::size_t step = floats_of(kSlotBytes);
  for (std::size_t begin = 0; begin < x.size(); begin += step) {
    const auto piece = x.subspan(begin, std::min(step, x.size() - begin));
    if (size() == 2 || piece.size_bytes() * parts_.size() <= kAtOnce)
      reduce_at_once(piece);
    else
      reduce_in_pieces(piece);
  }
}

// Every rank sums everything: the least meetings.
void SharedCommunicator::reduce_at_once(std::span<float> x) {
  std::memcpy(slot(rank()), x.data(), x.size_bytes());
  meet(Op::all_reduce, x.size_bytes());
  tree_sum({slots_of_all(0), parts_.size()}, x);
}

// Every rank sums its piece and fetches the others': the least bytes.
void SharedCommunicator::reduce_in_pieces(std::span<float> x) {
  const auto ranks = static_cast<std::size_t>(size());
  const std::size_t per_rank = ceil_div(x.size(), ranks);
  const auto piece_of = [&](std::size_t r) {
    const std::size_t begin = std::min(r * per_rank, x.size());
    return x.subspan(begin, std::min(per_rank, x.size() - begin));
  };
  std::memcpy(slot(rank()), x.data(), x.size_bytes());
  meet(Op::all_reduce, x.size_bytes());
  const auto mine = piece_of(static_cast<std::size_t>(rank()));
  tree_sum({slots_of_all(static_cast<std::size_t>(mine.data() - x.data())), ranks},
           {reinterpret_cast<float*>(slot(rank())), mine.size()});
  meet(Op::all_reduce, x.size_bytes());
  for (std::size_t r = 0; r < ranks; ++r)
    std::memcpy(piece_of(r).data(), met_slot(static_cast<int>(r)), piece_of(r).size_bytes());
}

void SharedCommunicator::reduce_scatter(std::span<const float> x, std::span<float> mine) {
  const auto ranks = static_cast<std::size_t>(size());
  CAJAL_CHECK(x.size() == mine.size() * ranks, x.size(), " floats over ", ranks, " ranks into ", mine.size());
  const std::size_t step = floats_of(kSlotBytes) / ranks;
  for (std::size_t begin = 0; begin < mine.size(); begin += step) {
    const std::size_t n = std::min(step, mine.size() - begin);
    auto* out = reinterpret_cast<float*>(slot(rank()));
    for (std::size_t r = 0; r < ranks; ++r)
      std::memcpy(out + r * n, x.data() + r * mine.size() + begin, n * sizeof(float));
    meet(Op::reduce_scatter, x.size_bytes());
    tree_sum({slots_of_all(static_cast<std::size_t>(rank()) * n), ranks}, mine.subspan(begin, n));
  }
}

void SharedCommunicator::all_gather(std::span<const std::byte> mine, std::span<std::byte> all) {
  const auto ranks = static_cast<std::size_t>(size());
  CAJAL_CHECK(all.size() == mine.size() * ranks, mine.size(), " bytes of ", ranks, " ranks into ", all.size());
  for (std::size_t begin = 0; begin < mine.size(); begin += kSlotBytes) {
    const std::size_t n = std::min(kSlotBytes, mine.size() - begin);
    std::memcpy(slot(rank()), mine.data() + begin, n);
    meet(Op::all_gather, mine.size());
    for (std::size_t r = 0; r < ranks; ++r)
      std::memcpy(all.data() + r * mine.size() + begin, met_slot(static_cast<int>(r)), n);
  }
}

void SharedCommunicator::all_to_all(std::span<const std::byte> from, std::span<std::byte> to) {
  const auto ranks = static_cast<std::size_t>(size());
  CAJAL_CHECK(from.size() == to.size() && from.size() % ranks == 0, from.size(), " bytes to ", to.size(), " over ",
              ranks, " ranks");
  const std::size_t piece = from.size() / ranks;
  const std::size_t step = kSlotBytes / ranks;
  for (std::size_t begin = 0; begin < piece; begin += step) {
    const std::size_t n = std::min(step, piece - begin);
    for (std::size_t r = 0; r < ranks; ++r) std::memcpy(slot(rank()) + r * n, from.data() + r * piece + begin, n);
    meet(Op::all_to_all, from.size());
    for (std::size_t r = 0; r < ranks; ++r)
      std::memcpy(to.data() + r * piece + begin, met_slot(static_cast<int>(r)) + static_cast<std::size_t>(rank()) * n,
                  n);
  }
}

void SharedCommunicator::broadcast(std::span<std::byte> data, int root) {
  CAJAL_CHECK(root >= 0 && root < size(), "root ", root, " of ", size(), " ranks");
  for (std::size_t begin = 0; begin < data.size(); begin += kSlotBytes) {
    const auto piece = data.subspan(begin, std::min(kSlotBytes, data.size() - begin));
    if (rank() == root) std::memcpy(slot(root), piece.data(), piece.size());
    meet(Op::broadcast, data.size());
    if (rank() != root) std::memcpy(piece.data(), met_slot(root), piece.size());
  }
}

void SharedCommunicator::barrier() { meet(Op::barrier, 0); }

std::unique_ptr<Communicator> SharedCommunicator::split(int color) {
  const auto ranks = static_cast<std::size_t>(size());
  std::vector<int> colors(ranks);
  all_gather(std::as_bytes(std::span(&color, 1)), std::as_writable_bytes(std::span(colors)));
  Place place = place_;
  place.members.clear();
  std::size_t leader = ranks;
  for (std::size_t r = 0; r < ranks; ++r) {
    if (colors[r] != color) continue;
    leader = std::min(leader, r);
    if (static_cast<int>(r) == rank()) place.rank = static_cast<int>(place.members.size());
    place.members.push_back(place_.members[r]);
  }
  if (place.rank == 0) place.offset = make_group(*region_, static_cast<int>(place.members.size()));
  std::vector<std::size_t> offsets(ranks);
  all_gather(std::as_bytes(std::span(&place.offset, 1)), std::as_writable_bytes(std::span(offsets)));
  place.offset = offsets[leader];
  CAJAL_CHECK(place.offset != 0, "a group of ", ranks, " ranks has been split too often");
  return std::make_unique<SharedCommunicator>(region_, std::move(place));
}

}  // namespace cajal
