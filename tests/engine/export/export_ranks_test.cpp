// Exports for several ranks: each has its own share of the weights, and together they give what one gives.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "engine/export/export_model.h"
#include "engine/export/scratch_folder.h"
#include "engine/golden.h"
#include "engine/model.h"
#include "engine/scorer.h"

namespace cajal {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::string golden(const std::string& name) { return std::string(CAJAL_TEST_DATA) + "/goldens/" + name; }

std::vector<float> logits_of(const Model& model, std::span<const std::int32_t> ids) {
  std::vector<float> rows;
  ScoreOptions options;
  options.on_logits = [&](std::int64_t, std::span<const float> row) {
    rows.insert(rows.end(), row.begin(), row.end());
  };
  score(model, ids, static_cast<std::int64_t>(ids.size()), options);
  return rows;
}

// Calls f(rank, its backend) in a thread for each.
template <class F>
void on_ranks(const ParallelDegrees& degrees, F&& f) {
  auto groups = make_thread_rank_groups(degrees);
  std::vector<std::thread> threads;
  for (int r = 0; r < degrees.world(); ++r)
    threads.emplace_back([&, r] {
      const auto backend = make_backend("cpu", {.num_threads = 1, .ranks = &groups[static_cast<std::size_t>(r)]});
      f(r, *backend);
    });
  for (std::thread& thread : threads) thread.join();
}

std::string refusal(const std::string& folder, Backend& backend) {
  try {
    const Model model({.folder = folder, .in_step = true}, backend);
  } catch (const Error& e) {
    EXPECT_NE(e.remedy(), "") << e.message();
    return e.message() + " — " + e.remedy();
  }
  return "accepted";
}

class ExportForRanks : public testing::Test {
 protected:
  std::string made(const std::string& name, std::int64_t tp, std::int64_t ep = 1) {
    const std::string output = folder_ / detail::join(name, "-", tp, "-", ep);
    export_model({.model = {.folder = golden(name)},
                  .output = output,
                  .limits = {.sequence_length = 64, .tp_degree = tp, .ep_degree = ep}});
    return output;
  }
  Folder folder_;
};

TEST_F(ExportForRanks, GivesTheBitsOfOneRank) {
  struct Case {
    const char* name;
    ParallelDegrees degrees;
  };
  for (const auto& [name, degrees] : {Case{"d_bf16_sharded", {2, 1}}, Case{"d_bf16_tied", {2, 1}},
                                      Case{"m_bf16_top2", {1, 2}}, Case{"m_bf16_top2", {2, 2}}}) {
    const Golden g(golden(name));
    std::vector<std::int32_t> ids = g.input_ids;
    if (ids.size() > 40) ids.resize(40);
    const auto alone = make_backend("cpu", {.num_threads = 1});
    const auto expected = logits_of(Model({.folder = golden(name)}, *alone), ids);
    const std::string folder = made(name, degrees.tensor, degrees.expert);
    EXPECT_EQ(degrees_of_export(folder).world(), degrees.world());
    on_ranks(degrees, [&, name = name](int rank, Backend& backend) {
      const Model model({.folder = folder, .in_step = true}, backend);
      EXPECT_TRUE(logits_of(model, ids) == expected) << name << ", rank " << rank;
    });
  }
}

TEST_F(ExportForRanks, SaysWhichRankIsMissingOrChanged) {
  const std::string folder = made("d_bf16_sharded", 2), second = folder + "/weights/rank_1.safetensors";
  const auto refusals = [&] {
    std::vector<std::string> all(2);
    on_ranks({2, 1}, [&](int r, Backend& b) { all[static_cast<std::size_t>(r)] = refusal(folder, b); });
    return all;
  };
  {
    std::fstream file(second, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(-4096, std::ios::end);
    const int byte = file.get();
    file.seekp(-4096, std::ios::end);
    file.put(static_cast<char>(byte ^ 1));
  }
  EXPECT_EQ(refusals()[0], "accepted");
  EXPECT_THAT(refusals()[1], AllOf(HasSubstr("rank_1.safetensors"), HasSubstr("has the checksum")));
  fs::remove(second);
  EXPECT_THAT(refusals()[1], HasSubstr("the weights of rank 1 of 2 are missing"));
}

TEST_F(ExportForRanks, IsRefusedByOtherNumbersOfRanks) {
  const std::string two = made("d_bf16_sharded", 2), one = made("d_bf16_sharded", 1);
  const auto alone = make_backend("cpu", {.num_threads = 1});
  EXPECT_THAT(refusal(two, *alone), AllOf(HasSubstr("requires 2 ranks (tp_degree 2 x ep_degree 1) but 1 is available"),
                                          HasSubstr("--tensor-parallel-size 2")));
  on_ranks({2, 1}, [&](int, Backend& backend) {
    EXPECT_THAT(refusal(one, backend), HasSubstr("requires 1 ranks (tp_degree 1 x ep_degree 1) but 2 are available"));
  });
}

}  // namespace
}  // namespace cajal
