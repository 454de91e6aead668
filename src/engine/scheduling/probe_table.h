#pragma once
// A hash table that allocates only when it is told to make room.
#include <cstddef>
#include <cstdint>
#include <vector>

namespace cajal {

// From 64-bit hashes to numbers, by linear probing; several numbers may have one hash. At most half of it is full, and
// erasing moves later entries up, so that no search runs over graves.
class ProbeTable {
 public:
  static constexpr std::int32_t kNone = -1;

  // Room for so many entries. What throws std::bad_alloc leaves the table as it was.
  void reserve(std::size_t count) {
    if (2 * count <= entries_.size()) return;
    std::size_t capacity = 16;
    int bits = 4;
    for (; capacity < 2 * count; capacity *= 2) ++bits;
    std::vector<Entry> old(capacity);
    old.swap(entries_);
    shift_ = 64 - bits;
    size_ = 0;
    for (const Entry& e : old)
      if (e.item != kNone) insert(e.hash, e.item);
  }

  // The first number with this hash that `matches`, or kNone.
  template <class Matches>
  std::int32_t find(std::uint64_t hash, const Matches& matches) const {
    if (size_ == 0) return kNone;
    for (std::size_t i = home(hash); entries_[i].item != kNone; i = next(i))
      if (entries_[i].hash == hash && matches(entries_[i].item)) return entries_[i].item;
    return kNone;
  }

  // There must be room.
  void insert(std::uint64_t hash, std::int32_t item) noexcept {
    std::size_t i = home(hash);
    while (entries_[i].item != kNone) i = next(i);
    entries_[i] = {hash, item};
    ++size_;
  }

  // The entry must be there.
  void erase(std::uint64_t hash, std::int32_t item) noexcept {
    std::size_t hole = home(hash);
    while (entries_[hole].hash != hash || entries_[hole].item != item) hole = next(hole);
    for (std::size_t i = next(hole); entries_[i].item != kNone; i = next(i)) {
      if (distance(home(entries_[i].hash), i) < distance(hole, i)) continue;  // it may not stand before its home
      entries_[hole] = entries_[i];
      hole = i;
    }
    entries_[hole].item = kNone;
    --size_;
  }

  std::size_t size() const { return size_; }

 private:
  struct Entry {
    std::uint64_t hash = 0;
    std::int32_t item = kNone;
  };

  // Multiplying spreads hashes that are near each other, such as the numbers of requests, over the upper bits.
  std::size_t home(std::uint64_t hash) const {
    return static_cast<std::size_t>((hash * 0x9E3779B97F4A7C15u) >> shift_);
  }
  std::size_t next(std::size_t i) const { return (i + 1) & (entries_.size() - 1); }
  std::size_t distance(std::size_t from, std::size_t to) const { return (to - from) & (entries_.size() - 1); }

  std::vector<Entry> entries_;  // a power of two of them
  int shift_ = 63;
  std::size_t size_ = 0;
};

}  // namespace cajal
