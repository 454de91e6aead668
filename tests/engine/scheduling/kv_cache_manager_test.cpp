#include "engine/scheduling/kv_cache_manager.h"

#include <gtest/gtest.h>

#include <algorithm>
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

TEST(KVCacheManager, EvictsTheLeastRecentlyUsedFirstAndChildrenBeforeParents) {
  KVCacheManager kv(small_blocks(7));
  compute(kv, 1, count_up(0, 12));
  compute(kv, 2, count_up(100, 12));
  kv.release(2);
  kv.release(1);
  ASSERT_TRUE(kv.add(3, {}) && kv.reserve(3, 0, 4));
  EXPECT_EQ(kv.find_prefix(count_up(100, 13)), 8) << "the last block goes first";
  EXPECT_EQ(kv.find_prefix(count_up(0, 13)), 12);
  ASSERT_TRUE(kv.reserve(3, 0, 12));
  EXPECT_EQ(kv.find_prefix(count_up(100, 13)), 0);
  EXPECT_EQ(kv.find_prefix(count_up(0, 13)), 12);
  EXPECT_EQ(kv.statistics().evicted_blocks, 3);
  EXPECT_EQ(kv.find_inconsistency(), "");
}

TEST(KVCacheManager, TheSecondOfTwoDuplicatesStaysPrivateAndHangsNothingUnderTheFirst) {
  KVCacheManager kv(small_blocks(32));
  ASSERT_TRUE(kv.add(1, count_up(0, 8)) && kv.add(2, count_up(0, 12)));  // both before either is computed
  ASSERT_TRUE(kv.reserve(1, 0, 8) && kv.reserve(2, 0, 12));
  const Tokens before(kv.block_table(2).begin(), kv.block_table(2).end());
  kv.commit(1, count_up(0, 8));
  kv.commit(2, count_up(0, 12));
  EXPECT_EQ(Tokens(kv.block_table(2).begin(), kv.block_table(2).end()), before);
  EXPECT_EQ(kv.find_prefix(count_up(0, 13)), 8) << "a child of a block that its own sequence does not use";
  EXPECT_EQ(kv.find_inconsistency(), "");
  const std::int64_t available = kv.num_available_blocks();
  kv.release(2);
  EXPECT_EQ(kv.num_available_blocks(), available + 3);
}

TEST(KVCacheManager, AForkSharesFullBlocksAndCopiesTheRest) {
  KVCacheManager kv(small_blocks(32));
  compute(kv, 1, count_up(0, 10));
  ASSERT_TRUE(kv.fork(1, 2, 10));
  const auto parent = kv.block_table(1), child = kv.block_table(2);
  EXPECT_TRUE(std::equal(parent.begin(), parent.begin() + 2, child.begin()));
  ASSERT_EQ(kv.pending_copies().size(), 1u);
  EXPECT_EQ(kv.pending_copies()[0], (BlockCopy{parent[2], child[2]}));
  EXPECT_EQ(kv.find_inconsistency(), "");
}

TEST(KVCacheManager, GoingBackReplacesWhatOthersReadAndKeepsItsTokens) {
  KVCacheManager kv(small_blocks(32));
  compute(kv, 1, count_up(0, 12));
  ASSERT_TRUE(kv.fork(1, 2, 12));
  const Tokens before(kv.block_table(1).begin(), kv.block_table(1).end());
  ASSERT_TRUE(kv.reserve(2, 6, 9));
  const auto table = kv.block_table(2);
  EXPECT_EQ(table[0], before[0]);
  EXPECT_NE(table[1], before[1]);
  EXPECT_NE(table[2], before[2]);
  ASSERT_EQ(kv.pending_copies().size(), 1u) << "nothing of the third block stays";
  EXPECT_EQ(kv.pending_copies()[0], (BlockCopy{before[1], table[1]}));
  EXPECT_EQ(Tokens(kv.block_table(1).begin(), kv.block_table(1).end()), before);
  EXPECT_EQ(kv.find_prefix(count_up(0, 13)), 12) << "the other still has it";
  EXPECT_EQ(kv.find_inconsistency(), "");
}

TEST(KVCacheManager, AFullHitCopiesTheLastBlock) {
  KVCacheManager kv(small_blocks(32));
  compute(kv, 1, count_up(0, 8));
  EXPECT_EQ(kv.find_prefix(count_up(0, 8)), 7);
  EXPECT_EQ(kv.add(2, count_up(0, 8)), 7);
  ASSERT_EQ(kv.pending_copies().size(), 1u);
  EXPECT_EQ(kv.pending_copies()[0], (BlockCopy{kv.block_table(1)[1], kv.block_table(2)[1]}));
}

// Otherwise a sequence that fills the pool could run once, and never again.
TEST(KVCacheManager, AFullHitNeedsNoBlockThatIsNotThere) {
  KVCacheManager kv(small_blocks(3));
  compute(kv, 1, count_up(0, 8));
  EXPECT_EQ(kv.find_prefix(count_up(0, 8)), 4);
  EXPECT_EQ(kv.add(2, count_up(0, 8)), 4) << "the last block is in use: it must be computed again";
  kv.release(2);
  kv.release(1);
  EXPECT_EQ(kv.find_prefix(count_up(0, 8)), 7);
  EXPECT_EQ(kv.add(3, count_up(0, 8)), 7);
  EXPECT_TRUE(kv.pending_copies().empty()) << "it took the block itself";
  EXPECT_TRUE(kv.reserve(3, 7, 8));
  kv.commit(3, count_up(0, 8));
  EXPECT_EQ(kv.find_prefix(count_up(0, 9)), 8) << "and named it again";
  EXPECT_EQ(kv.find_inconsistency(), "");
}

TEST(KVCacheManager, ForgettingAlsoCoversBlocksThatWereHalfFull) {
  KVCacheManager kv(small_blocks(32));
  compute(kv, 1, count_up(0, 6));
  kv.clear_prefix_cache();
  ASSERT_TRUE(kv.reserve(1, 6, 12));
  kv.commit(1, count_up(0, 12));
  EXPECT_EQ(kv.find_prefix(count_up(0, 13)), 0);
  compute(kv, 2, count_up(0, 12));
  EXPECT_EQ(kv.find_prefix(count_up(0, 13)), 12);
  kv.release(1);
  EXPECT_EQ(kv.find_inconsistency(), "");
}

TEST(KVCacheManager, ASlotIsARunOfNeighboursFromBeginningToEnd) {
  KVCacheManager kv({.num_blocks = 7, .max_blocks_per_seq = 3, .block_size = 4, .num_slots = 2});
  ASSERT_TRUE(kv.add(1, count_up(0, 8)) && kv.reserve(1, 0, 8));
  kv.commit(1, count_up(0, 8));
  ASSERT_TRUE(kv.fork(1, 2, 5));
  const auto parent = kv.block_table(1), child = kv.block_table(2);
  for (const auto table : {parent, child})
    for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(table[i], table[0] + static_cast<std::int32_t>(i));
  ASSERT_EQ(kv.pending_copies().size(), 2u);
  EXPECT_EQ(kv.pending_copies()[1], (BlockCopy{parent[1], child[1]}));
  EXPECT_EQ(kv.add(3, {}), std::nullopt);
  EXPECT_FALSE(kv.reserve(2, 5, 13));
  EXPECT_EQ(kv.num_available_blocks(), 0);
  kv.release(1);
  EXPECT_EQ(kv.add(3, count_up(0, 8)), 0) << "nothing is shared";
  EXPECT_EQ(kv.find_inconsistency(), "");
}

TEST(KVCacheManagerDeathTest, WhatIsNotThereIsNotGivenOut) {
  KVCacheManager kv(small_blocks(8));
  compute(kv, 1, count_up(0, 4));
  EXPECT_DEATH(kv.commit(1, count_up(0, 40)), "more than are reserved");
  EXPECT_DEATH(static_cast<void>(kv.block_table(9)), "unknown");
}

}  // namespace
}  // namespace cajal
