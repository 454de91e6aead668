#include "engine/scheduling/kv_cache_manager.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

namespace cajal {
namespace {

using Tokens = std::vector<std::int32_t>;

constexpr std::int64_t kBlock = kKvBlockSize;

// A sequence of nothing in particular.
bool begin(KVCacheManager& kv, KVCacheManager::SequenceId id, std::int64_t num_tokens) {
  return kv.add(id, {}) && kv.reserve(id, 0, num_tokens);
}

// Blocks of 4 tokens: what the tests of names use.
KVCacheOptions small_blocks(std::int64_t num_blocks) {
  return {.num_blocks = num_blocks, .max_blocks_per_seq = 8, .block_size = 4};
}

Tokens count_up(std::int32_t first, std::size_t count) {
  Tokens tokens(count);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

// A sequence whose tokens are all computed and committed; how many of them were found.
std::int64_t compute(KVCacheManager& kv, KVCacheManager::SequenceId id, const Tokens& tokens,
                     std::string_view salt = {}) {
  const auto found = kv.add(id, tokens, salt);
  EXPECT_TRUE(found && kv.reserve(id, *found, std::ssize(tokens)));
  kv.clear_pending_copies();
  kv.commit(id, tokens);
  EXPECT_EQ(kv.find_inconsistency(), "");
  return found.value_or(-1);
}

TEST(KVCacheManager, NeverGivesOutTheSpareBlock) {
  KVCacheManager kv({.num_blocks = 5, .max_blocks_per_seq = 10});
  ASSERT_TRUE(begin(kv, 1, 4 * kBlock));
  for (const auto block : kv.block_table(1)) EXPECT_NE(block, KVCacheManager::kSpareBlock);
  EXPECT_EQ(kv.num_available_blocks(), 0);
}

TEST(KVCacheManager, RefusalChangesNothing) {
  KVCacheManager kv({.num_blocks = 4, .max_blocks_per_seq = 2});
  ASSERT_TRUE(kv.add(1, {}) && kv.add(2, {}));
  EXPECT_FALSE(kv.reserve(1, 0, 2 * kBlock + 1)) << "more than a sequence may have";
  ASSERT_TRUE(kv.reserve(1, 0, 2 * kBlock));
  EXPECT_FALSE(kv.reserve(2, 0, 2 * kBlock)) << "more than there are";
  EXPECT_EQ(kv.num_available_blocks(), 1);
  EXPECT_TRUE(kv.reserve(2, 0, 1));
  EXPECT_FALSE(kv.fork(1, 3, kBlock + 1)) << "no block for the copy";
  EXPECT_FALSE(kv.contains(3));
  EXPECT_EQ(kv.find_inconsistency(), "");
}

TEST(KVCacheManager, SlotsOfLivingSequencesAreDistinct) {
  KVCacheManager kv({.num_blocks = 9, .max_blocks_per_seq = 4});
  ASSERT_TRUE(begin(kv, 1, 100) && begin(kv, 2, 130));
  std::set<std::int32_t> slots;
  for (int p = 0; p < 100; ++p) EXPECT_TRUE(slots.insert(kv.slot(1, p)).second);
  for (int p = 0; p < 130; ++p) EXPECT_TRUE(slots.insert(kv.slot(2, p)).second);
  EXPECT_GE(*slots.begin(), kBlock) << "a slot in the spare block";
}

TEST(KVCacheManager, GrowingKeepsTheBlocksThatWereThere) {
  KVCacheManager kv({.num_blocks = 9, .max_blocks_per_seq = 8});
  ASSERT_TRUE(begin(kv, 1, 70));
  const auto slot = kv.slot(1, 69);
  ASSERT_TRUE(begin(kv, 2, 64) && kv.reserve(1, 70, 300));
  EXPECT_EQ(kv.slot(1, 69), slot);
}

TEST(KVCacheManager, WhatWasComputedOnceIsFoundUnderTheSameSaltOnly) {
  KVCacheManager kv(small_blocks(32));
  EXPECT_EQ(compute(kv, 1, count_up(0, 10)), 0);
  EXPECT_EQ(compute(kv, 2, count_up(0, 12)), 8);
  EXPECT_EQ(compute(kv, 3, count_up(0, 12), "a"), 0);
  EXPECT_EQ(compute(kv, 4, count_up(0, 13), "a"), 12);
  EXPECT_EQ(compute(kv, 5, count_up(0, 13), "b"), 0);
  Tokens other = count_up(0, 12);
  other[5] = 99;
  EXPECT_EQ(kv.find_prefix(other), 4);
  EXPECT_EQ(kv.statistics().prefix_hits, 20);
}

}  // namespace
}  // namespace cajal
