#pragma once
// A way between ranks that changes what it carries.
#include <memory>

#include "distributed/communicator.h"

namespace cajal {

// Changes one byte of the n-th broadcast on its way to this rank.
class Damaging final : public Communicator {
 public:
  Damaging(Communicator& inner, int broadcast, std::size_t byte) : inner_(inner), left_(broadcast), byte_(byte) {}
  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  void all_reduce(std::span<float> x) override { inner_.all_reduce(x); }
  void reduce_scatter(std::span<const float> x, std::span<float> mine) override { inner_.reduce_scatter(x, mine); }
  void all_gather(std::span<const std::byte> mine, std::span<std::byte> all) override { inner_.all_gather(mine, all); }
  void all_to_all(std::span<const std::byte> from, std::span<std::byte> to) override { inner_.all_to_all(from, to); }
  void broadcast(std::span<std::byte> data, int root) override {
    inner_.broadcast(data, root);
    if (left_-- == 0) data[byte_] ^= std::byte{1};
  }
  void barrier() override { inner_.barrier(); }
  std::unique_ptr<Communicator> split(int color) override { return inner_.split(color); }
  void abandon(std::string_view why) noexcept override { inner_.abandon(why); }
  std::string failure() const override { return inner_.failure(); }

 private:
  Communicator& inner_;
  int left_;
  std::size_t byte_;
};

}  // namespace cajal
