#pragma once
// A communicator over messages: what a rank has for each other goes out while what each other has for it comes in. Where no
// memory is shared; the carrier is TCP or MPI.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "distributed/communicator.h"
#include "distributed/shared_region.h"

namespace cajal {

// How messages go between the ranks of the world. One thread at a time.
class Carrier {
 public:
  struct Piece {
    int world_rank;
    std::span<const std::byte> out;
    std::span<std::byte> in;
  };
  virtual ~Carrier() = default;
  // Sends and receives all pieces, each of which may be empty. `tag` is the same on both sides of a piece. Throws
  // Error(unavailable) that names the rank which died, or the failure that the region tells of.
  virtual void exchange(std::span<const Piece> pieces, std::uint64_t tag) = 0;
};

class ExchangeCommunicator final : public Communicator {
 public:
  // `region` is where this process hears of failures.
  ExchangeCommunicator(std::shared_ptr<Carrier> carrier, std::shared_ptr<SharedRegion> region, std::vector<int> members,
                       int rank);

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(members_.size()); }
  void all_reduce(std::span<float> x) override;
  void reduce_scatter(std::span<const float> x, std::span<float> mine) override;
  void all_gather(std::span<const std::byte> mine, std::span<std::byte> all) override;
  void all_to_all(std::span<const std::byte> from, std::span<std::byte> to) override;
  void broadcast(std::span<std::byte> data, int root) override;
  void barrier() override;
  std::unique_ptr<Communicator> split(int color) override;
  void abandon(std::string_view why) noexcept override;
  std::string failure() const override { return region_->failure(); }

 private:
  using Piece = Carrier::Piece;
  Piece& piece_for(int r) { return pieces_[static_cast<std::size_t>(r)]; }
  void clear();  // all pieces empty
  void exchange();
  std::span<float> scratch(std::size_t floats);
  void reduce_at_once(std::span<float> x);
  void reduce_in_pieces(std::span<float> x);

  std::shared_ptr<Carrier> carrier_;
  std::shared_ptr<SharedRegion> region_;
  std::vector<int> members_;  // world ranks
  int rank_;
  std::uint64_t group_ = 0;  // the same on all members, another in most other groups: part of the tag
  std::uint32_t calls_ = 0;
  std::vector<Piece> pieces_;
  std::vector<float> scratch_;
  std::vector<std::byte> barrier_;
  std::vector<const float*> parts_;
};

}  // namespace cajal
