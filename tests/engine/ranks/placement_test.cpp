// Where ranks compute, on machines that are made up.
#include "engine/ranks/placement.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <set>

namespace cajal {
namespace {

std::vector<int> cores(int first, int last) {
  std::vector<int> list(static_cast<std::size_t>(last - first + 1));
  std::iota(list.begin(), list.end(), first);
  return list;
}

std::vector<NumaNode> machine(int num_nodes, int cores_each) {
  std::vector<NumaNode> nodes;
  nodes.reserve(static_cast<std::size_t>(num_nodes));
  for (int n = 0; n < num_nodes; ++n) nodes.push_back({n, cores(n * cores_each, (n + 1) * cores_each - 1)});
  return nodes;
}

std::vector<RankPlacement> place(int num_ranks, int num_threads, const std::vector<NumaNode>& nodes) {
  std::vector<RankPlacement> all;
  all.reserve(static_cast<std::size_t>(num_ranks));
  for (int r = 0; r < num_ranks; ++r) all.push_back(place_rank(r, num_ranks, num_threads, nodes));
  return all;
}

std::vector<int> nodes_of(const std::vector<RankPlacement>& all) {  // the first of each
  std::vector<int> nodes;
  nodes.reserve(all.size());
  for (const RankPlacement& p : all) nodes.push_back(p.nodes.empty() ? -1 : p.nodes[0]);
  return nodes;
}

TEST(RankPlacement, OfOneNodeBindsNobodyAndSharesOutThreads) {
  const auto all = place(3, 8, machine(1, 8));
  for (const RankPlacement& p : all) EXPECT_TRUE(p.cores.empty() && p.nodes.empty());
  EXPECT_EQ(all[0].num_threads, 3);
  EXPECT_EQ(all[1].num_threads, 3);
  EXPECT_EQ(all[2].num_threads, 2);
  EXPECT_EQ(to_string(all[0]), "");
}

TEST(RankPlacement, PutsNeighboursOnOneNodeAndEachOnItsCores) {
  EXPECT_EQ(nodes_of(place(2, 16, machine(2, 8))), (std::vector{0, 1}));
  EXPECT_EQ(nodes_of(place(4, 16, machine(2, 8))), (std::vector{0, 0, 1, 1}));
  EXPECT_EQ(nodes_of(place(8, 16, machine(4, 4))), (std::vector{0, 0, 1, 1, 2, 2, 3, 3}));
  const auto all = place(4, 16, machine(2, 8));
  EXPECT_EQ(all[2].cores, cores(8, 15));
  EXPECT_EQ(all[2].num_threads, 4);
  EXPECT_EQ(all[2].ranks_here, 4);
  EXPECT_EQ(to_string(all[2]), "node 1 (cores 8-15)");
}

TEST(RankPlacement, GivesFewRanksSeveralNodes) {
  const auto all = place(2, 16, machine(4, 4));
  EXPECT_EQ(all[0].nodes, (std::vector{0, 1}));
  EXPECT_EQ(all[1].cores, cores(8, 15));
  EXPECT_EQ(all[1].num_threads, 8);
  EXPECT_EQ(to_string(all[1]), "nodes 2-3 (cores 8-15)");
}

TEST(RankPlacement, OfUnevenNodesPutsMoreRanksWhereMoreCoresAre) {
  const std::vector<NumaNode> uneven{{0, cores(0, 11)}, {1, cores(12, 15)}};
  const auto all = place(4, 16, uneven);
  EXPECT_EQ(nodes_of(all), (std::vector{0, 0, 0, 1}));
  for (const RankPlacement& p : all) EXPECT_EQ(p.num_threads, 4);
  // All wait for the slowest, so none goes where it would have fewer cores than on the other.
  const auto two = place(2, 16, uneven);
  EXPECT_EQ(nodes_of(two), (std::vector{0, 0}));
  EXPECT_EQ(two[0].num_threads, 6);
}

TEST(RankPlacement, GivesEveryRankAThreadAndACoreWhereRanksAreMoreThanCores) {
  const auto all = place(9, 4, machine(2, 2));
  for (const RankPlacement& p : all) {
    EXPECT_EQ(p.num_threads, 1);
    EXPECT_EQ(p.cores.size(), 2u);
  }
  EXPECT_EQ(std::set<int>({all[0].nodes[0], all[8].nodes[0]}), (std::set{0, 1}));
}

TEST(RankPlacement, ARankNeverHasMoreThreadsThanItsPartOfItsCores) {
  for (const int num_nodes : {2, 3, 4})
    for (int num_ranks = 1; num_ranks <= 12; ++num_ranks) {
      const auto nodes = machine(num_nodes, 6);
      const auto all = place(num_ranks, 1000, nodes);
      for (const RankPlacement& p : all) {
        const auto beside = std::count_if(all.begin(), all.end(), [&](const auto& q) { return q.nodes == p.nodes; });
        EXPECT_LE(p.num_threads, std::max<std::int64_t>(1, std::ssize(p.cores) / beside));
        EXPECT_GE(p.num_threads, 1);
      }
    }
}

TEST(RankPlacement, IsTheLaunchersWhereItGaveProcessesCoresOfTheirOwn) {
  const RankHome a0{1, 10}, a1{1, 11}, b0{2, 12};
  EXPECT_TRUE(bound_by_launcher(std::vector{a0, a1, b0}, a0));
  EXPECT_FALSE(bound_by_launcher(std::vector{a0, a0, b0, b0}, b0));  // each machine's are shared by its ranks
  EXPECT_FALSE(bound_by_launcher(std::vector{a0, b0}, a0));
}

TEST(UsableNodes, AreThoseOfWhichThisProcessMayUseCores) {
  const auto nodes = machine(4, 4);
  EXPECT_EQ(usable_nodes(nodes, {1, 2, 9}), (std::vector<NumaNode>{{0, {1, 2}}, {2, {9}}}));
  EXPECT_EQ(usable_nodes(nodes, cores(4, 7)), (std::vector<NumaNode>{{1, cores(4, 7)}}));
  EXPECT_EQ(usable_nodes({}, {0, 1}), (std::vector<NumaNode>{{0, {0, 1}}}));  // a system that says nothing
  EXPECT_EQ(usable_nodes(nodes, {77}), (std::vector<NumaNode>{{0, {77}}}));
}

TEST(NumaNodes, AreReadAsTheSystemTellsThem) {
  std::string folder = (std::filesystem::temp_directory_path() / "cajal-nodes-XXXXXX").string();
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const auto write = [&](const std::string& name, const char* text) {
    std::filesystem::create_directories(std::filesystem::path(folder + name).parent_path());
    std::ofstream(folder + name) << text;
  };
  write("/online", "0-1,3\n");
  write("/node0/cpulist", "0-2,8\n");
  write("/node1/cpulist", "\n");  // memory alone
  write("/node3/cpulist", "3-4\n");
  EXPECT_EQ(numa_nodes(folder), (std::vector<NumaNode>{{0, {0, 1, 2, 8}}, {3, {3, 4}}}));
  EXPECT_TRUE(numa_nodes(folder + "/nowhere").empty());
  write("/online", "many\n");
  EXPECT_TRUE(numa_nodes(folder).empty());
  std::filesystem::remove_all(folder);
}

TEST(BoundToCores, BindsWhatStartsMeanwhileAndGivesBackWhatWas) {
  const std::vector<int> before = allowed_cores();
  ASSERT_FALSE(before.empty());
  {
    const BoundToCores bound({before.back()});
    EXPECT_EQ(allowed_cores(), std::vector<int>{before.back()});
  }
  EXPECT_EQ(allowed_cores(), before);
  const BoundToCores nothing({});
  EXPECT_EQ(allowed_cores(), before);
}

TEST(CpuLists, AreShort) {
  EXPECT_EQ(to_cpu_list({0, 1, 2, 5, 7, 8}), "0-2,5,7-8");
  EXPECT_EQ(to_cpu_list({}), "");
}

}  // namespace
}  // namespace cajal
