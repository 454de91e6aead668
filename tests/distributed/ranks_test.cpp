#include "distributed/ranks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <span>
#include <thread>
#include <vector>

#include "base/error.h"

namespace cajal {
namespace {

using testing::ElementsAre;

std::vector<int> members_of(Communicator& group, int world_rank) {
  std::vector<int> members(static_cast<std::size_t>(group.size()));
  group.all_gather(std::as_bytes(std::span(&world_rank, 1)), std::as_writable_bytes(std::span(members)));
  return members;
}

TEST(Ranks, NeighboursShareLayersAndStridesShareExperts) {
  auto ranks = make_thread_rank_groups({.tensor = 3, .expert = 2});
  ASSERT_EQ(ranks.size(), 6U);
  std::vector<std::vector<int>> tensor(6), expert(6);
  std::vector<std::thread> threads;
  threads.reserve(6);
  for (int r = 0; r < 6; ++r)
    threads.emplace_back([&, r] {
      RankGroups& mine = ranks[static_cast<std::size_t>(r)];
      tensor[static_cast<std::size_t>(r)] = members_of(*mine.tensor, mine.world->rank());
      expert[static_cast<std::size_t>(r)] = members_of(*mine.expert, mine.world->rank());
    });
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(tensor[1], ElementsAre(0, 1, 2));
  EXPECT_THAT(tensor[5], ElementsAre(3, 4, 5));
  EXPECT_THAT(expert[1], ElementsAre(1, 4));
  EXPECT_THAT(expert[5], ElementsAre(2, 5));
}

TEST(Ranks, DegreesThatDoNotMakeUpTheWorldAreRefusedWithTheNumbers) {
  auto world = make_thread_group(1);
  try {
    make_rank_groups(std::move(world[0]), {.tensor = 2, .expert = 2});
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.message(), "tensor-parallel-size 2 x expert-parallel-size 2 needs 4 ranks, and 1 have been started");
  }
}

}  // namespace
}  // namespace cajal
