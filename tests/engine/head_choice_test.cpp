// Tokens chosen by a sketch of the head, against what the engine chooses from all logits.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <random>

#include "backends/backend.h"
#include "backends/cpu/head_chooser.h"
#include "backends/cpu/isa.h"
#include "backends/cpu/kernels/linear_ref.h"
#include "engine/answer.h"
#include "engine/sampler.h"
#include "tensor/pack.h"

namespace cajal {
namespace {

using cpu::HeadChooser;
using cpu::HeadSketch;

constexpr std::uint32_t kSequence = 5;
constexpr std::int64_t kPosition = 77;

class Memory final : public Buffer {
 public:
  explicit Memory(std::size_t bytes) : data_(bytes) {}
  std::size_t bytes() const override { return data_.size(); }
  void upload(std::span<const std::byte>, std::size_t) override {}
  void download(std::span<std::byte>, std::size_t) const override {}
  void copy_within(std::size_t, std::size_t, std::size_t) override {}
  std::span<std::byte> host_view() override { return data_; }

 private:
  std::vector<std::byte> data_;
};

std::vector<std::byte> as_type(const std::vector<float>& numbers, DType dtype) {
  std::vector<std::byte> bytes(numbers.size() * size_of(dtype));
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const std::uint16_t half = float_to_bf16(numbers[i]);
    std::memcpy(bytes.data() + i * size_of(dtype), dtype == DType::f32 ? static_cast<const void*>(&numbers[i]) : &half,
                size_of(dtype));
  }
  return bytes;
}

SequenceRequest request_of(const SamplingParams& sampling, std::int64_t num_logprobs = -1) {
  SequenceRequest request;
  request.prompt = {1};
  request.sampling = sampling;
  request.num_logprobs = num_logprobs;
  return request;
}

// A head, and rows of activations for it.
struct Head {
  TensorType type;
  std::vector<std::byte> weight, x, scratch, y;
  std::int64_t rows;
  const cpu::LinearKernel* kernel = nullptr;
  ThreadPool pool{2};

  Head(const TensorType& t, const std::vector<float>& weights, const std::vector<float>& activations)
      : type(t), weight(t.bytes()), x(as_type(activations, t.dtype)), rows(std::ssize(activations) / t.shape[1]) {
    pack_rows(t, 0, t.shape[0], as_type(weights, t.dtype).data(), weight.data());
    const cpu::LinearShape shape{t.dtype, t.storage, rows, t.shape[1], t.shape[0], 1};
    kernel = &cpu::choose(cpu::linear_kernels(), shape, cpu::detect_isa());
    if (kernel->scratch_bytes) scratch.resize(kernel->scratch_bytes(shape, pool.size()));
    y.resize(static_cast<std::size_t>(rows * t.shape[0]) * size_of(t.dtype));
  }

  cpu::LinearArgs args() {
    const auto* packed = std::get_if<Packed>(&type.storage);
    return {.x = x.data(),
            .weight = weight.data(),
            .bias = nullptr,
            .y = y.data(),
            .rows = rows,
            .in_features = type.shape[1],
            .out_features = type.shape[0],
            .sum_parts = 1,
            .dtype = type.dtype,
            .packed = packed ? *packed : Packed{1, 1},
            .quantized = type.quantized() ? *type.quantized() : Quantized{},
            .scratch = scratch.data()};
  }

  std::vector<std::vector<float>> all_logits() {
    kernel->run(args(), pool);
    std::vector<std::vector<float>> logits;
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t n = 0; n < type.shape[0]; ++n) {
        if (n == 0) logits.emplace_back();
        logits.back().push_back(cpu::load_element(y.data(), r * type.shape[0] + n, type.dtype));
      }
    return logits;
  }

  std::shared_ptr<HeadSketch> sketch() {
    auto s = std::make_shared<HeadSketch>(
        type, std::make_unique<Memory>(static_cast<std::size_t>(HeadSketch::layout_of(type).bytes())));
    s->make(weight.data(), pool);
    return s;
  }
};

std::vector<TensorType> types(std::int64_t vocab, std::int64_t columns) {
  using enum DType;
  std::vector<TensorType> all = {{bf16, {vocab, columns}, Packed{16, 2}},
                                 {f32, {vocab, columns}, Packed{16, 1}},
                                 {f32, {vocab, columns}, Plain{}}};
  for (const int group : {32, 128})
    all.push_back({bf16, {vocab, columns}, cpu::quantized_weight_storage({.bits = 8, .group_size = group})});
  all.push_back({f32, {vocab, columns}, cpu::quantized_weight_storage({.bits = 8, .group_size = 32})});
  if (cpu::detect_isa() & cpu::kAvx512Bf16) all.push_back({bf16, {vocab, columns}, Lossless{}});
  return all;
}

std::vector<float> normal_numbers(std::int64_t count, float scale, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> numbers(static_cast<std::size_t>(count));
  for (float& n : numbers) n = normal(random);
  return numbers;
}

std::vector<SamplingParams> all_params() {
  std::vector<SamplingParams> all = {{.temperature = 0}, {}, {.temperature = 0.6f, .top_k = 20, .top_p = 0.95f}};
  for (const float temperature : {0.3f, 1.0f, 1.7f})
    for (const std::int64_t top_k : {0, 1, 5, 20, 500})
      for (const float top_p : {1.0f, 0.9f, 0.3f})
        for (const float min_p : {0.0f, 0.1f})
          all.push_back({.temperature = temperature, .top_k = top_k, .top_p = top_p, .min_p = min_p});
  for (std::size_t i = 0; i < all.size(); ++i) all[i].seed = i * 0x123456789abcull;
  return all;
}

// Every choice is that of the engine; returns of how many the sketch made it.
int check(Head& head) {
  HeadChooser chooser(head.sketch(), {head.type, head.kernel, head.args()}, head.rows, head.pool.size());
  const auto logits = head.all_logits();
  int chosen = 0;
  for (const SamplingParams& p : all_params()) {
    const SequenceRequest request = request_of(p);
    for (std::int64_t r = 0; r < head.rows; ++r)
      chooser.sampling()[static_cast<std::size_t>(r)] = device_sampling(request, kSequence, kPosition + r);
    if (!chooser.choose({head.rows, head.rows, true}, head.pool)) {
      for (const RowChoice& choice : chooser.choices()) EXPECT_EQ(choice.status, ChoiceStatus::on_host);
      continue;
    }
    ++chosen;
    for (std::int64_t r = 0; r < head.rows; ++r) {
      Answer answer(request, kSequence, nullptr);
      std::vector<float> scratch;
      const auto& row = logits[static_cast<std::size_t>(r)];
      const std::int32_t want = answer.choose(row, kPosition + r, scratch).chosen.token_id;
      const RowChoice& got = chooser.choices()[static_cast<std::size_t>(r)];
      EXPECT_EQ(got.status, ChoiceStatus::chosen);
      EXPECT_EQ(got.token_id, want) << "temperature " << p.temperature << ", top_k " << p.top_k << ", top_p "
                                    << p.top_p;
      EXPECT_EQ(got.logit, row[static_cast<std::size_t>(want)]);
    }
  }
  return chosen;
}

class HeadChoice : public testing::Test {
 protected:
  void SetUp() override {
    if (!cpu::can_sketch(cpu::detect_isa())) GTEST_SKIP() << "no AVX512-VNNI here";
  }
};

// Greedy, the usual parameters, and 1, 5 and 20 of the likeliest: what the sketch is for.
constexpr int kChosenBySketch = 2 + 3 * 3 * 3 * 2;

// Adds to some rows of a head what makes their logits large for each of the rows of activations.
void favour(std::vector<float>& weights, std::span<const float> rows, std::size_t columns, float most) {
  constexpr std::size_t kTokens = 30, kStride = 7919;
  const std::size_t vocab = weights.size() / columns;
  for (std::size_t i = 0; i < rows.size() / columns * kTokens; ++i) {
    const std::span<const float> x = rows.subspan(i / kTokens * columns, columns);
    const float by = most * static_cast<float>(i % kTokens + kTokens) / (2 * kTokens);
    for (std::size_t k = 0; k < columns; ++k) weights[i * kStride % vocab * columns + k] += x[k] * by;
  }
}

TEST_F(HeadChoice, IsTheEnginesForEveryStorage) {
  constexpr std::int64_t kVocab = 11003;
  for (const std::int64_t columns : {64, 136})
    for (const TensorType& type : types(kVocab, columns))
      for (const std::int64_t rows : {1, 3}) {
        SCOPED_TRACE(to_string(type) + ", rows " + std::to_string(rows));
        std::vector<float> weights = normal_numbers(kVocab * columns, 0.05f, 1);
        const std::vector<float> x = normal_numbers(rows * columns, 3, 2);
        favour(weights, x, static_cast<std::size_t>(columns), 0.02f);
        Head head(type, weights, x);
        EXPECT_EQ(check(head), kChosenBySketch);
      }
}

TEST_F(HeadChoice, IsTheEnginesOfManyColumns) {
  constexpr std::int64_t kVocab = 6007, kColumns = 3200;
  for (const Storage& storage : {cpu::linear_weight_storage(DType::bf16, cpu::detect_isa()),
                                 cpu::quantized_weight_storage({.bits = 8, .group_size = 32})}) {
    const TensorType type{DType::bf16, {kVocab, kColumns}, storage};
    SCOPED_TRACE(to_string(type));
    std::vector<float> weights = normal_numbers(kVocab * kColumns, 0.02f, 1);
    const std::vector<float> x = normal_numbers(kColumns, 1, 2);
    favour(weights, x, kColumns, 0.005f);
    Head head(type, weights, x);
    EXPECT_EQ(check(head), kChosenBySketch);
  }
}

// Rows of the head that are the same have the same logits: the lowest id is chosen, whoever is computed first.
TEST_F(HeadChoice, TakesTheLowestOfEqualTokens) {
  for (const TensorType& type : types(2048, 128)) {
    SCOPED_TRACE(to_string(type));
    std::vector<float> weights = normal_numbers(2048 * 128, 0.05f, 3), x = normal_numbers(128, 1, 4);
    for (const std::size_t token : {1999u, 77u, 1024u, 1030u})
      for (std::size_t k = 0; k < 128; ++k) weights[token * 128 + k] = x[k];
    Head head(type, weights, x);
    HeadChooser chooser(head.sketch(), {head.type, head.kernel, head.args()}, 1, 2);
    chooser.sampling()[0].how = ChooseHow::greedy;
    ASSERT_TRUE(chooser.choose({1, 1, true}, head.pool));
    EXPECT_EQ(chooser.choices()[0].token_id, 77);
    EXPECT_GT(check(head), 0);
  }
}

// Tokens whose logits are the same once they are bfloat16, the later ones with the larger bounds.
TEST_F(HeadChoice, TakesTheLowestOfTokensThatRoundingMakesEqual) {
  for (const TensorType& type : types(2048, 128)) {
    SCOPED_TRACE(to_string(type));
    std::vector<float> weights = normal_numbers(2048 * 128, 0.05f, 3), x = normal_numbers(128, 1, 4);
    for (std::size_t i = 0; i < 16; ++i)
      for (std::size_t k = 0; k < 128; ++k)
        weights[(100 + 50 * i) * 128 + k] = x[k] * (1 + 0.0004f * static_cast<float>(i)) * (k % 2 ? 1 : 1.02f);
    Head head(type, weights, x);
    EXPECT_GT(check(head), 0);
  }
}

// With temperatures that make the k likeliest about equally likely, each of them is drawn now and then.
TEST_F(HeadChoice, DrawsWhateverTopKKeeps) {
  for (const TensorType& type : types(20011, 64)) {
    std::vector<float> weights = normal_numbers(20011 * 64, 0.05f, 1);
    const std::vector<float> x = normal_numbers(64, 3, 2);
    favour(weights, x, 64, 0.01f);
    Head head(type, weights, x);
    HeadChooser chooser(head.sketch(), {head.type, head.kernel, head.args()}, 1, head.pool.size());
    const std::vector<float> logits = head.all_logits().front();
    const SequenceRequest request = request_of({.temperature = 50, .top_k = 20});
    for (std::int64_t position = 0; position < 300; ++position) {
      chooser.sampling()[0] = device_sampling(request, kSequence, position);
      ASSERT_TRUE(chooser.choose({1, 1, true}, head.pool));
      Answer answer(request, kSequence, nullptr);
      std::vector<float> scratch;
      ASSERT_EQ(chooser.choices()[0].token_id, answer.choose(logits, position, scratch).chosen.token_id)
          << to_string(type) << ", position " << position;
    }
  }
}

// Activations just below half a unit of their group are rounded away, which matters to the likeliest token alone: to the sketch
// another one is likelier.
TEST_F(HeadChoice, CountsWhatRoundingActivationsDoes) {
  constexpr std::int64_t kVocab = 2011, kColumns = 4096;
  constexpr std::size_t kLikeliest = 1234, kOther = 77;
  const TensorType type{DType::f32, {kVocab, kColumns}, cpu::linear_weight_storage(DType::f32, cpu::detect_isa())};
  std::vector<float> weights = normal_numbers(kVocab * kColumns, 0.001f, 1), x(kColumns, 0.49f);
  for (std::size_t k = 0; k < kColumns; ++k) {
    if (k % 64 == 0) x[k] = 127;
    weights[kLikeliest * kColumns + k] = 1;
    weights[kOther * kColumns + k] = k % 64 == 0 ? 1.2f : 0;
  }
  Head head(type, weights, x);
  HeadChooser chooser(head.sketch(), {type, head.kernel, head.args()}, 1, head.pool.size());
  chooser.sampling()[0].how = ChooseHow::greedy;
  ASSERT_TRUE(chooser.choose({1, 1, true}, head.pool));
  EXPECT_EQ(argmax(head.all_logits().front()), static_cast<std::int32_t>(kLikeliest));
  EXPECT_EQ(chooser.choices()[0].token_id, static_cast<std::int32_t>(kLikeliest));
}

TEST_F(HeadChoice, ComputesFewLogits) {
  for (const TensorType& type : types(10000, 256)) {
    Head head(type, normal_numbers(10000 * 256, 0.02f, 5), normal_numbers(256, 1, 6));
    HeadChooser chooser(head.sketch(), {head.type, head.kernel, head.args()}, 1, 2);
    chooser.sampling()[0].how = ChooseHow::greedy;
    ASSERT_TRUE(chooser.choose({1, 1, true}, head.pool));
    EXPECT_LE(chooser.tokens_computed(), 640) << to_string(type);
  }
}

TEST_F(HeadChoice, LeavesToTheHostWhatTakesAllLogits) {
  const TensorType type{DType::bf16, {4000, 128}, Packed{16, 2}};
  Head head(type, normal_numbers(4000 * 128, 0.05f, 7), normal_numbers(128, 1, 8));
  HeadChooser chooser(head.sketch(), {head.type, head.kernel, head.args()}, 1, 2);
  const auto chooses = [&](const SequenceRequest& request) {
    chooser.sampling()[0] = device_sampling(request, 0, 0);
    return chooser.choose({1, 1, true}, head.pool);
  };
  EXPECT_TRUE(chooses(request_of({.temperature = 0})));
  EXPECT_FALSE(chooses(request_of({.temperature = 0}, 0)));
  EXPECT_FALSE(chooses(request_of({.temperature = 1})));
  EXPECT_FALSE(chooses(request_of({.temperature = 1, .top_p = 0.5f})));
  EXPECT_FALSE(chooses(request_of({.temperature = 1, .top_k = 1000})));
  EXPECT_FALSE(chooses(request_of({.temperature = 0, .presence_penalty = 1})));
  EXPECT_TRUE(chooses(request_of({.temperature = 1, .top_k = 3})));
}

// Where all logits are about the same, bounds leave all of them.
TEST_F(HeadChoice, GivesUpWhereEveryTokenIsPossible) {
  const TensorType type{DType::bf16, {4000, 128}, Packed{16, 2}};
  std::vector<float> weights(4000 * 128), x = normal_numbers(128, 1, 9);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = x[i % 128];
  Head head(type, weights, x);
  HeadChooser chooser(head.sketch(), {head.type, head.kernel, head.args()}, 1, 2);
  chooser.sampling()[0].how = ChooseHow::greedy;
  EXPECT_FALSE(chooser.choose({1, 1, true}, head.pool));
}

TEST_F(HeadChoice, LeavesToTheHostWhatIsNotFinite) {
  const TensorType type{DType::bf16, {4000, 128}, Packed{16, 2}};
  std::vector<float> weights = normal_numbers(4000 * 128, 0.05f, 7), x = normal_numbers(128, 1, 8);
  weights[3000 * 128 + 7] = INFINITY;
  Head head(type, weights, x);
  HeadChooser chooser(head.sketch(), {head.type, head.kernel, head.args()}, 1, 2);
  chooser.sampling()[0].how = ChooseHow::greedy;
  EXPECT_FALSE(chooser.choose({1, 1, true}, head.pool));
  x[5] = NAN;
  Head other(type, normal_numbers(4000 * 128, 0.05f, 7), x);
  HeadChooser no_numbers(other.sketch(), {other.type, other.kernel, other.args()}, 1, 2);
  no_numbers.sampling()[0].how = ChooseHow::greedy;
  EXPECT_FALSE(no_numbers.choose({1, 1, true}, other.pool));
}

// A graph that ends in a large head, step by step as the engine runs it.
class LargeHead {
 public:
  static constexpr std::int64_t kVocab = 70001, kHidden = 128, kStates = 40;

  explicit LargeHead(bool sketch) : backend_(make_backend("cpu", {.num_threads = 2, .head_sketch = sketch})) {
    Graph g;
    const Value ids = g.add_leaf(ops::Input{"logits_indices"}, {DType::i32, {2}, Plain{}}, "logits_indices");
    const Value states = g.add_leaf(ops::Parameter{{{"states", {kStates, kHidden}, {}}}},
                                    {DType::bf16, {kStates, kHidden}, Plain{}}, "states");
    const Value head = g.add_leaf(ops::Parameter{{{"head", {kVocab, kHidden}, {}}}},
                                  {DType::bf16, {kVocab, kHidden}, Plain{}}, "head");
    const Value x = g.add(ops::Embedding{}, {states, ids}, "x");
    g.set_outputs({g.add(ops::Linear{}, {x, head}, "lm_head")});
    const Graph prepared = backend_->prepare(g);
    executable_ = backend_->compile(prepared);
    for (const Node& node : prepared.nodes()) {
      if (!std::holds_alternative<ops::Parameter>(node.op)) continue;
      const TensorType& type = prepared.type(node.results[0]);
      auto& buffer = parameters_[node.name] = backend_->allocate(type.bytes());
      const auto rows = as_type(normal_numbers(type.shape.elements(), 0.1f, 11), DType::bf16);
      pack_rows(type, 0, type.shape[0], rows.data(), buffer->host_view().data());
    }
    arena_ = backend_->allocate(executable_->plan().arena_bytes);
    chooses_ = executable_->choose_from(0);
    const auto parameter = [this](const std::string& name) -> Buffer& { return *parameters_.at(name); };
    executable_->bind({parameter, parameter, arena_.get()});
  }

  // The tokens of two states; by the host's argmax where the device has not chosen.
  std::vector<std::int32_t> step(std::int32_t state, bool second_on_host) {
    const std::int32_t ids[] = {state % static_cast<std::int32_t>(kStates),
                                (state * 7 + 3) % static_cast<std::int32_t>(kStates)};
    std::memcpy(executable_->input("logits_indices").data(), ids, sizeof ids);
    if (const auto sampling = executable_->sampling(); !sampling.empty()) {
      sampling[0].how = ChooseHow::greedy;
      sampling[1].how = second_on_host ? ChooseHow::on_host : ChooseHow::greedy;
    }
    executable_->wait(executable_->launch({0, 2, !second_on_host}));
    std::vector<std::int32_t> tokens;
    for (std::size_t r = 0; r < 2; ++r) {
      const auto choices = executable_->choices();
      if (!choices.empty() && choices[r].status == ChoiceStatus::chosen) {
        tokens.push_back(choices[r].token_id), ++num_chosen;
        continue;
      }
      std::vector<float> logits(kVocab);
      for (std::int64_t n = 0; n < kVocab; ++n)
        logits[static_cast<std::size_t>(n)] =
            cpu::load_element(executable_->output(0).data(), static_cast<std::int64_t>(r) * kVocab + n, DType::bf16);
      tokens.push_back(argmax(logits));
    }
    return tokens;
  }

  bool chooses() const { return chooses_; }
  std::optional<std::uint64_t> choosing_bytes() const { return executable_->choosing_bytes(2); }
  int num_chosen = 0;

 private:
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Executable> executable_;
  std::map<std::string, std::unique_ptr<Buffer>> parameters_;
  std::unique_ptr<Buffer> arena_;
  bool chooses_ = false;
};

TEST_F(HeadChoice, StepsHaveTheTokensThatTheyHadWithoutASketch) {
  LargeHead with(true), without(false);
  EXPECT_TRUE(with.chooses());
  EXPECT_FALSE(with.choosing_bytes());
  for (std::int32_t state = 0; state < 100; ++state)
    EXPECT_EQ(with.step(state, state % 5 == 4), without.step(state, false)) << state;
  EXPECT_EQ(without.num_chosen, 0);
  EXPECT_FALSE(without.choosing_bytes());
  // Not in the first steps, nor where the host wants a row.
  EXPECT_GE(with.num_chosen, 40);
  ASSERT_TRUE(with.choosing_bytes());
  EXPECT_LT(*with.choosing_bytes(), static_cast<std::uint64_t>(LargeHead::kVocab * LargeHead::kHidden));
}

TEST(HeadSketchWanted, IsReadFromTheEnvironment) {
  EXPECT_TRUE(HeadSketch::wanted());
  setenv("CAJAL_HEAD_SKETCH", "off", 1);
  EXPECT_FALSE(HeadSketch::wanted());
  setenv("CAJAL_HEAD_SKETCH", "on", 1);
  EXPECT_TRUE(HeadSketch::wanted());
  setenv("CAJAL_HEAD_SKETCH", "perhaps", 1);
  EXPECT_THROW(HeadSketch::wanted(), Error);
  unsetenv("CAJAL_HEAD_SKETCH");
}

}  // namespace
}  // namespace cajal
