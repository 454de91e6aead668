#pragma once
// A communicator over memory that all ranks see. Data crosses in slots, two a rank: a rank fills one, says that it has come
// to the next phase, waits for the others, and reads theirs. Whoever has come to phase p has read everything of phase p - 1,
// so a slot is free again two phases later, and a collective of less than a slot costs one meeting of the ranks.
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "distributed/communicator.h"
#include "distributed/shared_region.h"

namespace cajal {

// The longest piece that crosses at once; half of a usual L2 cache with both slots of two ranks.
inline constexpr std::size_t kSlotBytes = std::size_t{256} << 10;

class SharedCommunicator final : public Communicator {
 public:
  // Where a group lies in a region. Made by one rank, told to the others.
  struct Place {
    std::size_t offset = 0;
    std::vector<int> members;              // world ranks, in the order of their ranks here
    int rank = 0;                          // which of the members this is
    std::chrono::milliseconds timeout{0};  // how long to wait for a rank that is there but does not come; 0: for ever
    bool crowded = false;                  // more ranks than cores: watching would keep the awaited from working
  };
  static std::size_t bytes_for(int size);
  // Enough for the world's group of `size` and for splits of it.
  static std::size_t region_bytes_for(int size);
  // Makes room for a group; 0 where there is none left.
  static std::size_t make_group(SharedRegion& region, int size);

  SharedCommunicator(std::shared_ptr<SharedRegion> region, Place place);
  ~SharedCommunicator() override;
  SharedCommunicator(const SharedCommunicator&) = delete;
  SharedCommunicator& operator=(const SharedCommunicator&) = delete;

  int rank() const override { return place_.rank; }
  int size() const override { return static_cast<int>(place_.members.size()); }
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
  enum class Op : std::uint8_t { all_reduce, reduce_scatter, all_gather, all_to_all, broadcast, barrier };
  static const char* name_of(Op op);

  std::byte* slot(int r) { return slots_ + (static_cast<std::size_t>(r) * 2 + (phase_ + 1) % 2) * kSlotBytes; }
  std::byte* met_slot(int r) { return slots_ + (static_cast<std::size_t>(r) * 2 + phase_ % 2) * kSlotBytes; }
  // Comes to the next phase and waits until all others have: what they put into slot() is then in met_slot().
  void meet(Op op, std::size_t bytes);
  void wait_for(int r, Op op);
  void check_same(int r, std::uint64_t doing) const;
  void reduce_at_once(std::span<float> x);
  void reduce_in_pieces(std::span<float> x);
  const float** slots_of_all(std::size_t offset_floats);

  std::shared_ptr<SharedRegion> region_;
  Place place_;
  RankLine* lines_;
  std::byte* slots_;
  std::uint32_t phase_ = 0;
  std::vector<const float*> parts_;  // scratch of a sum
};

}  // namespace cajal
