#pragma once
// What the ranks of a group do together. One implementation carries threads of one process, another processes under MPI; a
// later one GPUs. The caller of every operation is the one thread that computes for its rank.
//
// Each operation is called by every rank of the group, in the same order and with the same sizes. It returns when this
// rank's result is there; the others may still be at work. Nothing is allocated after the group has been made and its
// largest operation has run once. Throws Error(unavailable) that names the rank that died, or that did not come in time:
// the group is of no use then, and neither are its splits.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace cajal {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // x[n] becomes the sum over ranks, in f32 and as a balanced tree in the order of ranks: ((x0 + x1) + (x2 + x3)) + …, an
  // odd one out waiting for the next round. So every rank has the same bits, and they are those of ops::Linear's parts.
  virtual void all_reduce(std::span<float> x) = 0;
  // x[n * size] is summed as all_reduce does it; rank r gets elements [r * n, (r + 1) * n).
  virtual void reduce_scatter(std::span<const float> x, std::span<float> mine) = 0;
  // Rank r's bytes become the r-th piece of `all`.
  virtual void all_gather(std::span<const std::byte> mine, std::span<std::byte> all) = 0;
  // The r-th of size() equal pieces of `from` goes to rank r; what rank r sent is the r-th piece of `to`.
  virtual void all_to_all(std::span<const std::byte> from, std::span<std::byte> to) = 0;
  virtual void broadcast(std::span<std::byte> data, int root) = 0;
  virtual void barrier() = 0;

  // The ranks that name the same colour, as a group of their own, ordered by rank: rows and columns of a tp x ep grid.
  virtual std::unique_ptr<Communicator> split(int color) = 0;

  // This rank gives up: every call of the others, waiting or yet to come, in this group, what it was split from and its
  // splits, throws Error(unavailable) with this rank's number and `why`. For whoever catches what a rank's work throws.
  virtual void abandon(std::string_view why) noexcept = 0;
  // The rank that is lost and how, as what is thrown then says it; empty while all are there. Any thread, at any time.
  virtual std::string failure() const = 0;
};

}  // namespace cajal
