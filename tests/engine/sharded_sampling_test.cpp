// Tokens chosen by ranks that have shares of the vocabulary, against what the engine chooses from all logits.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <thread>

#include "backends/backend.h"
#include "distributed/ranks.h"
#include "engine/answer.h"
#include "engine/sampler.h"

namespace cajal {
namespace {

using Rows = std::vector<std::vector<float>>;
constexpr std::uint32_t kSequence = 5;
constexpr std::int64_t kPosition = 77;

SequenceRequest request_of(const SamplingParams& sampling, std::int64_t num_logprobs) {
  SequenceRequest request;
  request.prompt = {1};
  request.sampling = sampling;
  request.num_logprobs = num_logprobs;
  return request;
}

// One rank's part of a graph whose output is the rows of a table, of which every rank has some columns.
class RankOfLogits {
 public:
  RankOfLogits(const RankGroups& ranks, const Rows& rows, DType dtype)
      : backend_(make_backend("cpu", {.num_threads = 1, .ranks = &ranks})) {
    const std::int64_t vocab = std::ssize(rows.front()), count = std::ssize(rows), size = ranks.tensor->size();
    const std::int64_t share = (vocab + size - 1) / size, first = share * ranks.tensor->rank();
    Graph g;
    const Value ids = g.add_leaf(ops::Input{"logits_indices"}, {DType::i32, {count}, Plain{}}, "logits_indices");
    const Value table =
        g.add_leaf(ops::Parameter{{{"table", {count, share}, {}}}}, {dtype, {count, share}, Plain{}}, "table");
    const Value mine = g.add(ops::Embedding{}, {table, ids}, "shares");
    Value all = g.add(ops::AllGather{1, static_cast<int>(size)}, {mine}, "logits");
    if (share * size != vocab) all = g.add(ops::Slice{0, vocab}, {all}, "logits");
    g.set_outputs({all});
    executable_ = backend_->compile(backend_->prepare(g));
    std::vector<std::byte> data(static_cast<std::size_t>(count * share) * size_of(dtype));
    for (std::int64_t r = 0; r < count; ++r)
      for (std::int64_t i = 0; i < std::min(share, vocab - first); ++i) {
        const float x = rows[static_cast<std::size_t>(r)][static_cast<std::size_t>(first + i)];
        const std::uint16_t half = float_to_bf16(x);
        std::byte* const to = data.data() + static_cast<std::size_t>(r * share + i) * size_of(dtype);
        std::memcpy(to, dtype == DType::f32 ? static_cast<const void*>(&x) : &half, size_of(dtype));
      }
    table_ = backend_->allocate(data.size());
    table_->upload(data, 0);
    arena_ = backend_->allocate(executable_->plan().arena_bytes);
    EXPECT_TRUE(executable_->choose_from(0));
    const auto leaf = [this](const std::string&) -> Buffer& { return *table_; };
    executable_->bind({leaf, leaf, arena_.get()});
  }

  std::vector<RowChoice> run(std::span<const RowSampling> sampling, bool all_chosen) {
    const auto ids = executable_->input("logits_indices");
    for (std::size_t i = 0; i < sampling.size(); ++i) {
      const auto id = static_cast<std::int32_t>(i);
      std::memcpy(ids.data() + i * sizeof id, &id, sizeof id);
    }
    std::copy(sampling.begin(), sampling.end(), executable_->sampling().begin());
    executable_->wait(executable_->launch({0, std::ssize(sampling), all_chosen}));
    const auto choices = executable_->choices().first(sampling.size());
    return {choices.begin(), choices.end()};
  }
  std::span<const std::byte> output() { return executable_->output(0); }

 private:
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Executable> executable_;
  std::unique_ptr<Buffer> table_, arena_;
};

// body(rank's part) in a thread for each rank.
template <class Body>
void on_ranks(int num_ranks, const Rows& rows, DType dtype, const Body& body) {
  auto ranks = make_thread_rank_groups({.tensor = num_ranks});
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < ranks.size(); ++r)
    threads.emplace_back([&, r] {
      RankOfLogits logits(ranks[r], rows, dtype);
      body(r, logits);
    });
  for (std::thread& thread : threads) thread.join();
}

std::vector<SamplingParams> all_params() {
  std::vector<SamplingParams> all = {{.temperature = 0}, {}, {.temperature = 0.6f, .top_k = 20, .top_p = 0.95f}};
  for (const float temperature : {0.3f, 1.0f, 1.7f})
    for (const std::int64_t top_k : {0, 1, 5, 50, 1000})
      for (const float top_p : {1.0f, 0.95f, 0.5f, 0.01f})
        for (const float min_p : {0.0f, 0.05f})
          all.push_back({.temperature = temperature, .top_k = top_k, .top_p = top_p, .min_p = min_p});
  for (std::size_t i = 0; i < all.size(); ++i) all[i].seed = i * 0x123456789abcull;
  return all;
}

std::string describe(const SamplingParams& p) {
  return detail::join("temperature ", p.temperature, ", top_k ", p.top_k, ", top_p ", p.top_p, ", min_p ", p.min_p);
}

// `spread` of normal numbers, in steps of `grid` (0: none), so that many are equal; as the type holds them.
Rows random_rows(std::size_t rows, std::size_t vocab, float spread, float grid, DType dtype) {
  std::mt19937_64 random(rows * 7919 + vocab);
  std::normal_distribution<float> normal(0, spread);
  Rows all(rows, std::vector<float>(vocab));
  for (auto& row : all)
    for (float& x : row) {
      x = normal(random);
      if (grid > 0) x = std::round(x / grid) * grid;
      if (dtype == DType::bf16) x = bf16_to_float(float_to_bf16(x));
    }
  return all;
}

// Every row with every kind of parameters: all ranks have what the host chooses of the whole. Only rows with too many
// candidates may be left to it.
void check(int num_ranks, const Rows& rows, DType dtype, std::int64_t num_logprobs) {
  const std::vector<SamplingParams> params = all_params();
  std::vector<std::vector<std::vector<RowChoice>>> of_rank(static_cast<std::size_t>(num_ranks));
  on_ranks(num_ranks, rows, dtype, [&](std::size_t r, RankOfLogits& logits) {
    for (const SamplingParams& p : params) {
      std::vector<RowSampling> sampling;
      for (std::size_t i = 0; i < rows.size(); ++i)
        sampling.push_back(
            device_sampling(request_of(p, num_logprobs), kSequence, kPosition + static_cast<std::int64_t>(i)));
      of_rank[r].push_back(logits.run(sampling, true));
    }
  });
  for (std::size_t p = 0; p < params.size(); ++p)
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const SequenceRequest request = request_of(params[p], num_logprobs);
      Answer answer(request, kSequence, nullptr);
      std::vector<float> scratch;
      const GeneratedToken expected = answer.choose(rows[i], kPosition + static_cast<std::int64_t>(i), scratch);
      for (const auto& choices : of_rank) {
        const RowChoice& choice = choices[p][i];
        if (choice.status == ChoiceStatus::on_host) {
          EXPECT_TRUE(params[p].top_k == 0 || params[p].top_k == 1000) << describe(params[p]);
          continue;
        }
        ASSERT_EQ(choice.status, ChoiceStatus::chosen);
        const GeneratedToken got = Answer::take(choice, num_logprobs);
        ASSERT_EQ(got.chosen, expected.chosen) << describe(params[p]) << ", row " << i << ", ranks " << num_ranks;
        ASSERT_EQ(got.top, expected.top) << describe(params[p]) << ", row " << i;
      }
    }
}

TEST(ShardedSampling, ChoosesWhatTheHostChooses) {
  check(2, random_rows(3, 5003, 3, 0, DType::f32), DType::f32, -1);
  check(3, random_rows(2, 5003, 4, 0, DType::bf16), DType::bf16, 0);
}
TEST(ShardedSampling, GivesTheHostsLogProbabilities) {
  check(3, random_rows(2, 2000, 4, 0, DType::bf16), DType::bf16, 20);
}
TEST(ShardedSampling, BreaksTiesAsTheHostDoes) { check(4, random_rows(3, 1003, 3, 0.5f, DType::f32), DType::f32, 7); }
TEST(ShardedSampling, TakesVocabulariesOfAnySize) {
  for (const std::size_t vocab : {1u, 2u, 7u, 64u, 65u})
    check(4, random_rows(3, vocab, 2, 0.25f, DType::bf16), DType::bf16, 3);
}
TEST(ShardedSampling, TakesMoreRowsThanAreToldAtOnce) {
  check(2, random_rows(37, 130, 3, 0, DType::f32), DType::f32, 2);
}

TEST(ShardedSampling, GathersTheLogitsOnlyForRowsThatTheHostHasToSee) {
  const Rows flat(1, std::vector<float>(3000, 1.0f));
  on_ranks(2, flat, DType::f32, [&](std::size_t, RankOfLogits& logits) {
    const auto gathered = [&] {
      return logits.output().size() == flat[0].size() * sizeof(float) &&
             std::memcmp(logits.output().data(), flat[0].data(), logits.output().size()) == 0;
    };
    const RowSampling greedy = device_sampling(request_of({.temperature = 0}, -1), 0, 0);
    EXPECT_EQ(logits.run({&greedy, 1}, true)[0].token_id, 0);
    EXPECT_FALSE(gathered());
    const RowSampling nucleus = device_sampling(request_of({.top_p = 0.9f}, -1), 0, 0);
    EXPECT_EQ(logits.run({&nucleus, 1}, true)[0].status, ChoiceStatus::on_host);
    EXPECT_TRUE(gathered());
  });
  on_ranks(3, flat, DType::f32, [&](std::size_t, RankOfLogits& logits) {
    EXPECT_EQ(logits.run(std::vector<RowSampling>(1), false)[0].status, ChoiceStatus::on_host);
    EXPECT_EQ(std::memcmp(logits.output().data(), flat[0].data(), logits.output().size()), 0);
  });
}

TEST(ShardedSampling, FindsNumbersThatAreNotFiniteInTheirRowAlone) {
  Rows rows = random_rows(6, 400, 3, 0, DType::bf16);
  rows[1][399] = std::numeric_limits<float>::quiet_NaN();
  rows[2][0] = std::numeric_limits<float>::infinity();
  rows[4][123] = -std::numeric_limits<float>::infinity();
  on_ranks(3, rows, DType::bf16, [&](std::size_t, RankOfLogits& logits) {
    for (const SamplingParams& params : {SamplingParams{.temperature = 0}, SamplingParams{.top_k = 20}}) {
      const std::vector<RowSampling> sampling(6, device_sampling(request_of(params, 2), 0, 0));
      const auto choices = logits.run(sampling, true);
      for (const std::size_t i : {0u, 3u, 5u}) EXPECT_EQ(choices[i].status, ChoiceStatus::chosen) << i;
      for (const std::size_t i : {1u, 2u, 4u}) EXPECT_EQ(choices[i].status, ChoiceStatus::not_finite) << i;
    }
  });
}

}  // namespace
}  // namespace cajal
