#include "distributed/exchange.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/checked.h"
#include "base/checksum.h"
#include "base/error.h"
#include "distributed/tree_sum.h"

namespace cajal {
namespace {

constexpr std::size_t kAtOnce = std::size_t{32} << 10;  // bytes that every rank of many sums for itself

std::size_t at(int r) { return static_cast<std::size_t>(r); }

}  // namespace

ExchangeCommunicator::ExchangeCommunicator(std::shared_ptr<Carrier> carrier, std::shared_ptr<SharedRegion> region,
                                           std::vector<int> members, int rank)
    : carrier_(std::move(carrier)),
      region_(std::move(region)),
      members_(std::move(members)),
      rank_(rank),
      group_(checksum(std::as_bytes(std::span(members_)))),
      pieces_(members_.size()),
      parts_(members_.size()) {}

void ExchangeCommunicator::clear() {
  for (std::size_t r = 0; r < members_.size(); ++r) pieces_[r] = {members_[r], {}, {}};
}

void ExchangeCommunicator::exchange() {
  if (region_->failed()) region_->throw_failure();
  piece_for(rank_) = {members_[at(rank_)], {}, {}};
  carrier_->exchange(pieces_, group_ << 32U | ++calls_);
}

std::span<float> ExchangeCommunicator::scratch(std::size_t floats) {
  if (scratch_.size() < floats) scratch_.resize(floats);
  return std::span(scratch_).first(floats);
}

void ExchangeCommunicator::all_reduce(std::span<float> x) {
  if (size() == 1 || x.empty()) return;
  if (size() == 2 || x.size_bytes() <= kAtOnce)
    reduce_at_once(x);
  else
    reduce_in_pieces(x);
}

// Every rank sums everything: one exchange.
void ExchangeCommunicator::reduce_at_once(std::span<float> x) {
  const auto theirs = scratch(x.size() * members_.size());
  clear();
  for (int r = 0; r < size(); ++r) {
    const auto in = theirs.subspan(at(r) * x.size(), x.size());
    piece_for(r) = {members_[at(r)], std::as_bytes(x), std::as_writable_bytes(in)};
    parts_[at(r)] = r == rank_ ? x.data() : in.data();
  }
  exchange();
  tree_sum(parts_, x);
}

// Every rank sums its piece and sends the sum: the least bytes.
void ExchangeCommunicator::reduce_in_pieces(std::span<float> x) {
  const std::size_t per_rank = ceil_div(x.size(), members_.size());
  const auto piece_of = [&](int r) {
    const std::size_t begin = std::min(at(r) * per_rank, x.size());
    return x.subspan(begin, std::min(per_rank, x.size() - begin));
  };
  const auto mine = piece_of(rank_);
  const auto theirs = scratch(per_rank * members_.size());
  clear();
  for (int r = 0; r < size(); ++r) {
    const auto in = theirs.subspan(at(r) * per_rank, mine.size());
    piece_for(r) = {members_[at(r)], std::as_bytes(piece_of(r)), std::as_writable_bytes(in)};
    parts_[at(r)] = r == rank_ ? mine.data() : in.data();
  }
  exchange();
  tree_sum(parts_, mine);
  clear();
  for (int r = 0; r < size(); ++r)
    piece_for(r) = {members_[at(r)], std::as_bytes(mine), std::as_writable_bytes(piece_of(r))};
  exchange();
}

void ExchangeCommunicator::reduce_scatter(std::span<const float> x, std::span<float> mine) {
  const std::size_t n = mine.size();
  CAJAL_CHECK(x.size() == n * members_.size(), x.size(), " floats over ", size(), " ranks into ", n);
  const auto theirs = scratch(x.size());
  clear();
  for (int r = 0; r < size(); ++r) {
    const auto out = x.subspan(at(r) * n, n);
    const auto in = theirs.subspan(at(r) * n, n);
    piece_for(r) = {members_[at(r)], std::as_bytes(out), std::as_writable_bytes(in)};
    parts_[at(r)] = r == rank_ ? out.data() : in.data();
  }
  exchange();
  tree_sum(parts_, mine);
}

void ExchangeCommunicator::all_gather(std::span<const std::byte> mine, std::span<std::byte> all) {
  const std::size_t n = mine.size();
  CAJAL_CHECK(all.size() == n * members_.size(), n, " bytes of ", size(), " ranks into ", all.size());
  clear();
  for (int r = 0; r < size(); ++r) piece_for(r) = {members_[at(r)], mine, all.subspan(at(r) * n, n)};
  if (n > 0) std::memmove(all.data() + at(rank_) * n, mine.data(), n);
  exchange();
}

void ExchangeCommunicator::all_to_all(std::span<const std::byte> from, std::span<std::byte> to) {
  CAJAL_CHECK(from.size() == to.size() && from.size() % members_.size() == 0, from.size(), " bytes to ", to.size(),
              " over ", size(), " ranks");
  const std::size_t n = from.size() / members_.size();
  clear();
  for (int r = 0; r < size(); ++r)
    piece_for(r) = {members_[at(r)], from.subspan(at(r) * n, n), to.subspan(at(r) * n, n)};
  if (n > 0) std::memcpy(to.data() + at(rank_) * n, from.data() + at(rank_) * n, n);
  exchange();
}

void ExchangeCommunicator::broadcast(std::span<std::byte> data, int root) {
  CAJAL_CHECK(root >= 0 && root < size(), "root ", root, " of ", size(), " ranks");
  clear();
  if (rank_ == root) {
    for (Piece& piece : pieces_) piece.out = data;
  } else {
    piece_for(root).in = data;
  }
  exchange();
}

void ExchangeCommunicator::barrier() {
  std::vector<std::byte>& bytes = barrier_;
  bytes.resize(members_.size() + 1);
  clear();
  for (int r = 0; r < size(); ++r)
    piece_for(r) = {members_[at(r)], std::span(bytes).last(1), std::span(bytes).subspan(at(r), 1)};
  exchange();
}

std::unique_ptr<Communicator> ExchangeCommunicator::split(int color) {
  std::vector<int> colors(members_.size());
  all_gather(std::as_bytes(std::span(&color, 1)), std::as_writable_bytes(std::span(colors)));
  std::vector<int> members;
  int rank = 0;
  for (std::size_t r = 0; r < colors.size(); ++r) {
    if (colors[r] != color) continue;
    if (static_cast<int>(r) == rank_) rank = static_cast<int>(members.size());
    members.push_back(members_[r]);
  }
  return std::make_unique<ExchangeCommunicator>(carrier_, region_, std::move(members), rank);
}

void ExchangeCommunicator::abandon(std::string_view why) noexcept { region_->report_failure(members_[at(rank_)], why); }

}  // namespace cajal
