// What the books of the KV cache cost: kv_cache_bench prints microseconds (median and best of many) for one round of
// reserve() and commit() of a token for each of 256 sequences, and for an admission and a release, with prefix caching.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "engine/scheduling/kv_cache_manager.h"

namespace {

using cajal::KVCacheManager;
using Tokens = std::vector<std::int32_t>;

constexpr std::uint64_t kNumSequences = 256;
constexpr std::int64_t kMaxBlocks = 64;

template <class Body>
void report(const char* what, int times, const Body& body) {
  std::vector<double> micros;
  for (int i = 0; i < times; ++i) {
    const auto start = std::chrono::steady_clock::now();
    body();
    micros.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(micros.begin(), micros.end());
  std::printf("%-58s median %8.2f us, best %8.2f us\n", what, micros[micros.size() / 2], micros.front());
}

// Sequence i starts with 1 + i % 64 blocks and grows by a token a round, to which the block that gets full is added.
class Rounds {
 public:
  Rounds() : kv_(options()) {
    for (std::uint64_t id = 0; id < kNumSequences; ++id) {
      const auto length = static_cast<std::size_t>(1 + id % (kMaxBlocks - 2)) * cajal::kKvBlockSize - id % 60;
      tokens_.emplace_back(kMaxBlocks * cajal::kKvBlockSize, static_cast<std::int32_t>(id));
      lengths_.push_back(length);
      CAJAL_CHECK(kv_.add(id, {}) && kv_.reserve(id, 0, static_cast<std::int64_t>(length)));
      kv_.commit(id, std::span(tokens_[id]).first(length));
    }
  }
  void run() {
    for (std::uint64_t id = 0; id < kNumSequences; ++id) {
      const auto position = static_cast<std::int64_t>(lengths_[id]++);
      CAJAL_CHECK(kv_.reserve(id, position, position + 1));
      kv_.commit(id, std::span(tokens_[id]).first(lengths_[id]));
    }
  }

 private:
  static cajal::KVCacheOptions options() {
    return {.num_blocks = 1 + static_cast<std::int64_t>(kNumSequences) * kMaxBlocks, .max_blocks_per_seq = kMaxBlocks};
  }
  KVCacheManager kv_;
  std::vector<Tokens> tokens_;
  std::vector<std::size_t> lengths_;
};

}  // namespace

int main() {
  Rounds rounds;
  report("256 sequences of 1 to 64 blocks, a token each", 120, [&] { rounds.run(); });

  KVCacheManager kv({.num_blocks = 1025, .max_blocks_per_seq = kMaxBlocks});
  Tokens prompt(32 * cajal::kKvBlockSize + 10);
  std::iota(prompt.begin(), prompt.end(), 0);
  const auto admit = [&] {
    const auto found = kv.add(1, prompt);
    CAJAL_CHECK(found && kv.reserve(1, *found, std::ssize(prompt)));
    kv.commit(1, prompt);
    kv.release(1);
  };
  report("a prompt of 2058 tokens that is found, and its release", 1000, admit);
  report("the same, computed and named, while others are evicted", 1000, [&] {
    ++prompt.front();
    admit();
  });
  return 0;
}
