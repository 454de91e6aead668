#include "distributed/ranks.h"

#include <thread>
#include <utility>

#include "base/error.h"

namespace cajal {

RankGroups make_rank_groups(std::unique_ptr<Communicator> world, const ParallelDegrees& degrees) {
  if (degrees.tensor < 1 || degrees.expert < 1 || degrees.world() != world->size())
    fail(ErrorCode::invalid_argument, "tensor-parallel-size ", degrees.tensor, " x expert-parallel-size ",
         degrees.expert, " needs ", degrees.world(), " ranks, and ", world->size(), " have been started",
         remedy("start as many ranks as the two make, or change them"));
  RankGroups groups;
  groups.tensor = world->split(degrees.expert_rank(world->rank()));
  groups.expert = world->split(degrees.tensor_rank(world->rank()));
  groups.world = std::move(world);
  return groups;
}

std::vector<RankGroups> make_thread_rank_groups(const ParallelDegrees& degrees, const ThreadGroupOptions& options) {
  auto worlds = make_thread_group(degrees.world(), options);
  std::vector<RankGroups> all(worlds.size());
  std::vector<std::thread> threads;  // splitting is something that all ranks do together
  threads.reserve(worlds.size());
  for (std::size_t r = 0; r < worlds.size(); ++r)
    threads.emplace_back([&, r] { all[r] = make_rank_groups(std::move(worlds[r]), degrees); });
  for (auto& thread : threads) thread.join();
  return all;
}

}  // namespace cajal
