// Tokens chosen on the device, against what the engine chooses on the host from the same logits.
#include <functional>
#include <limits>

#include "engine/answer.h"
#include "engine/sampler.h"
#include "on_device.h"

namespace cajal::cuda::test {
namespace {

constexpr std::uint32_t kSequence = 5;
constexpr std::int64_t kPosition = 77;

// A graph whose output is the rows of its table that are asked for: any logits.
class Logits {
 public:
  Logits(Backend& device, const std::vector<std::vector<float>>& rows, DType dtype)
      : dtype_(dtype), vocab_size_(rows.front().size()), num_rows_(static_cast<std::int64_t>(rows.size())) {
    Graph g;
    const auto columns = static_cast<std::int64_t>(vocab_size_);
    const Shape shape{num_rows_, columns};
    const Value ids = g.add_leaf(ops::Input{"logits_indices"}, {DType::i32, {num_rows_}, Plain{}}, "logits_indices");
    const Value table = g.add_leaf(ops::Parameter{{{"table", shape, {}}}}, {dtype, shape, Plain{}}, "table");
    g.set_outputs({g.add(ops::Embedding{}, {table, ids}, "logits")});
    executable_ = device.compile(device.prepare(g));
    Bytes data(rows.size() * vocab_size_ * size_of(dtype));
    for (std::size_t r = 0; r < rows.size(); ++r)
      for (std::size_t i = 0; i < vocab_size_; ++i) set_element(data.data(), r * vocab_size_ + i, dtype, rows[r][i]);
    table_ = device.allocate(data.size());
    table_->upload(data, 0);
    arena_ = device.allocate(executable_->plan().arena_bytes);
    EXPECT_TRUE(executable_->choose_from(0));
    const auto leaf = [this](const std::string&) -> Buffer& { return *table_; };
    executable_->bind({leaf, leaf, arena_.get()});
  }

  // The choices of a step with `order` of the table's rows.
  std::span<const RowChoice> run(const std::vector<std::int32_t>& order, std::span<const RowSampling> sampling,
                                 bool all_chosen = true) {
    const auto into = executable_->input("logits_indices");
    std::memcpy(into.data(), order.data(), order.size() * sizeof(std::int32_t));
    std::copy(sampling.begin(), sampling.end(), executable_->sampling().begin());
    const auto count = static_cast<std::int64_t>(order.size());
    executable_->wait(executable_->launch({0, count, all_chosen}));
    return executable_->choices().first(order.size());
  }
  std::vector<float> on_host(std::size_t row) {
    const auto bytes = executable_->output(0);
    std::vector<float> logits(vocab_size_);
    for (std::size_t i = 0; i < vocab_size_; ++i) logits[i] = element(bytes.data(), row * vocab_size_ + i, dtype_);
    return logits;
  }

 private:
  DType dtype_;
  std::size_t vocab_size_;
  std::int64_t num_rows_;
  std::unique_ptr<Executable> executable_;
  std::unique_ptr<Buffer> table_, arena_;
};

SequenceRequest request_of(const SamplingParams& sampling, std::int64_t num_logprobs) {
  SequenceRequest request;
  request.prompt = {1};
  request.sampling = sampling;
  request.num_logprobs = num_logprobs;
  return request;
}

std::vector<SamplingParams> all_params() {
  std::vector<SamplingParams> all = {{.temperature = 0}, {}, {.temperature = 0.6f, .top_k = 20, .top_p = 0.95f}};
  for (const float temperature : {0.3f, 0.7f, 1.0f, 1.7f})
    for (const std::int64_t top_k : {0, 1, 5, 50, 1000})
      for (const float top_p : {1.0f, 0.95f, 0.5f, 0.01f})
        for (const float min_p : {0.0f, 0.05f})
          all.push_back({.temperature = temperature, .top_k = top_k, .top_p = top_p, .min_p = min_p});
  for (std::size_t i = 0; i < all.size(); ++i) all[i].seed = i * 0x123456789abcull;
  return all;
}

// Rows of one kind: `spread` of normal numbers, in steps of `grid` (0: none), so that many are equal.
std::vector<std::vector<float>> random_rows(std::size_t rows, std::size_t vocab, float spread, float grid) {
  std::mt19937_64 random(rows * 7919 + vocab);
  std::normal_distribution<float> normal(0, spread);
  std::vector<std::vector<float>> all(rows, std::vector<float>(vocab));
  for (auto& row : all)
    for (float& x : row) {
      x = normal(random);
      if (grid > 0) x = std::round(x / grid) * grid;
    }
  return all;
}

class SamplingOnDevice : public OnDevice {
 protected:
  // Every row with every kind of parameters. Only those that ask for many candidates may be left to the host.
  void check(const std::vector<std::vector<float>>& rows, DType dtype, std::int64_t num_logprobs) {
    Logits logits(device(), rows, dtype);
    std::vector<std::int32_t> order(rows.size());
    for (const SamplingParams& params : all_params()) {
      const SequenceRequest request = request_of(params, num_logprobs);
      std::vector<RowSampling> sampling;
      for (std::size_t i = 0; i < rows.size(); ++i) {
        order[i] = static_cast<std::int32_t>(i);
        sampling.push_back(device_sampling(request, kSequence, kPosition + static_cast<std::int64_t>(i)));
      }
      const auto choices = logits.run(order, sampling);
      const std::vector<RowChoice> chosen(choices.begin(), choices.end());
      for (std::size_t i = 0; i < rows.size(); ++i) {
        if (chosen[i].status == ChoiceStatus::on_host) {
          EXPECT_TRUE(params.top_k == 0 || params.top_k == 1000) << describe(params);
          continue;
        }
        Answer answer(request, kSequence, nullptr);
        std::vector<float> scratch;
        const GeneratedToken expected =
            answer.choose(logits.on_host(i), kPosition + static_cast<std::int64_t>(i), scratch);
        const GeneratedToken got = Answer::take(chosen[i], num_logprobs);
        EXPECT_EQ(chosen[i].status, ChoiceStatus::chosen);
        EXPECT_EQ(got.chosen, expected.chosen) << describe(params) << ", row " << i;
        EXPECT_EQ(got.top, expected.top) << describe(params) << ", row " << i;
        if (HasFailure()) return;
      }
    }
  }
  static std::string describe(const SamplingParams& p) {
    return detail::join("temperature ", p.temperature, ", top_k ", p.top_k, ", top_p ", p.top_p, ", min_p ", p.min_p);
  }
};

TEST_F(SamplingOnDevice, ChoosesWhatTheHostChoosesFromPeakedLogits) {
  check(random_rows(3, 151936, 3, 0), DType::bf16, -1);
}
TEST_F(SamplingOnDevice, ChoosesWhatTheHostChoosesFromF32Logits) { check(random_rows(2, 20011, 4, 0), DType::f32, 0); }
TEST_F(SamplingOnDevice, GivesTheHostsLogProbabilities) { check(random_rows(2, 32000, 4, 0), DType::bf16, 20); }
TEST_F(SamplingOnDevice, BreaksTiesAsTheHostDoes) { check(random_rows(4, 5003, 3, 0.5f), DType::f32, 7); }
TEST_F(SamplingOnDevice, TakesVocabulariesOfAnySize) {
  for (const std::size_t vocab : {1u, 2u, 7u, 8u, 63u, 64u, 65u, 517u})
    check(random_rows(3, vocab, 2, 0.25f), DType::bf16, 3);
}

TEST_F(SamplingOnDevice, LeavesRowsWithTooManyCandidatesToTheHost) {
  const std::vector<std::vector<float>> flat(1, std::vector<float>(30000, 1.0f));
  Logits logits(device(), flat, DType::bf16);
  const RowSampling nucleus = device_sampling(request_of({.top_p = 0.9f}, -1), 0, 0);
  EXPECT_EQ(logits.run({0}, {&nucleus, 1})[0].status, ChoiceStatus::on_host);
  EXPECT_EQ(logits.on_host(0), flat[0]);  // which can read them
  const RowSampling greedy = device_sampling(request_of({.temperature = 0}, -1), 0, 0);
  EXPECT_EQ(logits.run({0}, {&greedy, 1})[0].token_id, 0);
}

TEST_F(SamplingOnDevice, FindsNumbersThatAreNotFiniteInTheirRowAlone) {
  auto rows = random_rows(6, 40000, 3, 0);
  rows[1][39999] = std::numeric_limits<float>::quiet_NaN();
  rows[2][0] = std::numeric_limits<float>::infinity();
  rows[4][12345] = -std::numeric_limits<float>::infinity();
  for (const SamplingParams& params : {SamplingParams{.temperature = 0}, SamplingParams{.top_k = 20}}) {
    Logits logits(device(), rows, DType::bf16);
    const std::vector<RowSampling> sampling(6, device_sampling(request_of(params, 2), 0, 0));
    const auto choices = logits.run({0, 1, 2, 3, 4, 5}, sampling);
    for (const std::size_t i : {0u, 3u, 5u}) EXPECT_EQ(choices[i].status, ChoiceStatus::chosen) << i;
    for (const std::size_t i : {1u, 2u, 4u}) EXPECT_EQ(choices[i].status, ChoiceStatus::not_finite) << i;
  }
}

TEST_F(SamplingOnDevice, ARowsChoiceDoesNotDependOnItsNeighbours) {
  const auto rows = random_rows(40, 30000, 3, 0);
  Logits logits(device(), rows, DType::bf16);
  const RowSampling sampling =
      device_sampling(request_of({.temperature = 0.8f, .top_k = 40, .top_p = 0.9f, .seed = 3}, 5), 1, 2);
  const auto taken = [](const RowChoice& choice) {
    const GeneratedToken token = Answer::take(choice, 5);
    auto all = token.top;
    all.push_back(token.chosen);
    return all;
  };
  const auto alone = taken(logits.run({17}, {&sampling, 1})[0]);
  std::vector<std::int32_t> order(40);
  for (int i = 0; i < 40; ++i) order[static_cast<std::size_t>(i)] = (i * 13) % 40;
  const std::vector<RowSampling> many(40, sampling);
  const auto choices = logits.run(order, many);
  const auto at = static_cast<std::size_t>(std::find(order.begin(), order.end(), 17) - order.begin());
  EXPECT_EQ(taken(choices[at]), alone);
}

}  // namespace
}  // namespace cajal::cuda::test
