#include "engine/kv_cache_manager.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace cajal {
namespace {

TEST(KVCacheManager, NeverGivesOutTheSpareBlock) {
  KVCacheManager kv(5, 10);
  ASSERT_TRUE(kv.reserve(1, 4 * kKvBlockSize));
  for (const auto block : kv.block_table(1)) EXPECT_NE(block, KVCacheManager::kSpareBlock);
  EXPECT_EQ(kv.num_free_blocks(), 0);
}

TEST(KVCacheManager, RefusalChangesNothing) {
  KVCacheManager kv(4, 2);
  EXPECT_FALSE(kv.reserve(1, 2 * kKvBlockSize + 1)) << "more than a sequence may have";
  ASSERT_TRUE(kv.reserve(1, 2 * kKvBlockSize));
  EXPECT_FALSE(kv.reserve(2, 2 * kKvBlockSize)) << "more than there are";
  EXPECT_EQ(kv.num_free_blocks(), 1);
  EXPECT_TRUE(kv.reserve(2, 1));
  EXPECT_EQ(kv.find_inconsistency(), "");
}

TEST(KVCacheManager, SlotsOfLivingSequencesAreDistinct) {
  KVCacheManager kv(9, 4);
  ASSERT_TRUE(kv.reserve(1, 100) && kv.reserve(2, 130));
  std::set<std::int32_t> slots;
  for (int p = 0; p < 100; ++p) EXPECT_TRUE(slots.insert(kv.slot(1, p)).second);
  for (int p = 0; p < 130; ++p) EXPECT_TRUE(slots.insert(kv.slot(2, p)).second);
  EXPECT_GE(*slots.begin(), kKvBlockSize) << "a slot in the spare block";
}

TEST(KVCacheManager, GrowingKeepsTheBlocksThatWereThere) {
  KVCacheManager kv(9, 8);
  ASSERT_TRUE(kv.reserve(1, 70));
  const auto slot = kv.slot(1, 69);
  ASSERT_TRUE(kv.reserve(2, 64) && kv.reserve(1, 300));
  EXPECT_EQ(kv.slot(1, 69), slot);
}

TEST(KVCacheManager, BooksBalanceThroughAnyStory) {
  std::mt19937 rng(5);
  KVCacheManager kv(40, 12);
  for (int i = 0; i < 5000; ++i) {
    const KVCacheManager::SequenceId id = rng() % 10;
    if (rng() % 3 == 0)
      kv.release(id);
    else
      static_cast<void>(kv.reserve(id, static_cast<std::int64_t>(rng() % 900)));
    ASSERT_EQ(kv.find_inconsistency(), "") << "after step " << i;
  }
  for (std::uint64_t id = 0; id < 10; ++id) kv.release(id);
  EXPECT_EQ(kv.num_free_blocks(), 39);
}

}  // namespace
}  // namespace cajal
