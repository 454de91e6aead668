#pragma once
// Runs a graph on a backend through nothing but its interface, with weights, caches and inputs drawn from their names, so
// that the same graph can run on the CPU and on a CUDA device.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "backends/backend.h"
#include "tensor/pack.h"

namespace cajal::cuda::test {

using Bytes = std::vector<std::byte>;

inline float element(const std::byte* data, std::size_t i, DType dtype) {
  if (dtype == DType::f32) {
    float v;
    std::memcpy(&v, data + i * 4, sizeof v);
    return v;
  }
  std::uint16_t v;
  std::memcpy(&v, data + i * 2, sizeof v);
  return bf16_to_float(v);
}

inline void set_element(std::byte* data, std::size_t i, DType dtype, float value) {
  if (dtype == DType::f32) {
    std::memcpy(data + i * 4, &value, sizeof value);
    return;
  }
  const std::uint16_t v = float_to_bf16(value);
  std::memcpy(data + i * 2, &v, sizeof v);
}

// Normal numbers; the same for the same name, so that a bucket of 300 rows begins with what one of 16 has.
inline Bytes random_elements(const std::string& name, std::size_t count, DType dtype) {
  // Kept, because drawing them takes longer than everything else in these tests.
  constexpr std::size_t kMostKept = std::size_t{1} << 30;
  static std::map<std::tuple<std::string, std::size_t, DType>, Bytes> kept;
  static std::size_t kept_bytes = 0;
  Bytes& data = kept[{name, count, dtype}];
  if (data.size() == count * size_of(dtype)) return data;
  std::mt19937_64 random(std::hash<std::string>{}(name));
  std::normal_distribution<float> normal;
  Bytes drawn(count * size_of(dtype));
  for (std::size_t i = 0; i < count; ++i) set_element(drawn.data(), i, dtype, normal(random));
  kept_bytes += drawn.size();
  if (kept_bytes > kMostKept) return kept.clear(), kept_bytes = 0, drawn;
  return data = drawn;
}

// Values for inputs; those that are not named are random.
using Inputs = std::map<std::string, std::vector<std::int32_t>>;

constexpr std::int64_t kBlocks = 40;  // of every cache

class Ran {
 public:
  Ran(Backend& backend, const Graph& graph) : executable_(backend.compile(backend.prepare(graph))) {
    const Graph& g = executable_->graph();
    for (const Node& node : g.nodes()) {
      TensorType type = node.results.empty() ? TensorType{} : g.type(node.results[0]);
      const bool state = std::holds_alternative<ops::State>(node.op);
      if (!state && !std::holds_alternative<ops::Parameter>(node.op)) continue;
      if (state) type.shape[0] = kBlocks;
      const TensorType plain{type.dtype, type.shape, Plain{}};
      const auto rows = static_cast<std::int64_t>(type.shape.elements() / type.shape[-1]);
      Bytes stored(type.bytes());
      pack_rows(type, 0, rows, random_elements(node.name, plain.bytes() / size_of(type.dtype), type.dtype).data(),
                stored.data());
      leaves_[node.name] = backend.allocate(stored.size());
      leaves_[node.name]->upload(stored, 0);
    }
    arena_ = backend.allocate(executable_->plan().arena_bytes);
    const auto leaf = [this](const std::string& name) -> Buffer& { return *leaves_.at(name); };
    executable_->bind({leaf, leaf, arena_.get()});
  }

  Executable& executable() { return *executable_; }

  // The rows that the step has of output `index`.
  Bytes run(const Inputs& inputs, StepRows rows, std::size_t index = 0) {
    poison();
    const Graph& g = executable_->graph();
    for (const Node& node : g.nodes()) {
      if (!std::holds_alternative<ops::Input>(node.op)) continue;
      const auto into = executable_->input(node.name);
      if (const auto given = inputs.find(node.name); given != inputs.end()) {
        std::fill(into.begin(), into.end(), std::byte{0});
        const auto bytes = std::as_bytes(std::span(given->second));
        std::copy_n(bytes.begin(), std::min(bytes.size(), into.size()), into.begin());
      } else {
        const TensorType& type = g.type(node.results[0]);
        const Bytes values = random_elements(node.name, into.size() / size_of(type.dtype), type.dtype);
        std::copy(values.begin(), values.end(), into.begin());
      }
    }
    executable_->wait(executable_->launch(rows));
    const auto output = executable_->output(index);
    const Shape& shape = g.type(g.outputs()[index]).shape;
    const std::int64_t count = std::min(rows.num_tokens, shape[0]);
    const auto first = output.begin();
    return {first, first + static_cast<std::ptrdiff_t>(output.size() / static_cast<std::size_t>(shape[0]) *
                                                       static_cast<std::size_t>(count))};
  }

 private:
  void poison() {  // NaNs wherever nothing has been written
    const Bytes nans(arena_->bytes(), std::byte{0xff});
    arena_->upload(nans, 0);
  }

  std::unique_ptr<Executable> executable_;
  std::map<std::string, std::unique_ptr<Buffer>> leaves_;
  std::unique_ptr<Buffer> arena_;
};

// |a - b| / |b|, NaN if anything is.
inline double distance(const Bytes& a, const Bytes& b, DType dtype) {
  EXPECT_EQ(a.size(), b.size());
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < a.size() / size_of(dtype); ++i) {
    const double x = element(a.data(), i, dtype), y = element(b.data(), i, dtype);
    difference += (x - y) * (x - y), norm += y * y;
  }
  return std::sqrt(difference / norm);
}

inline Bytes first_bytes(const Bytes& data, std::size_t count) {
  return {data.begin(), data.begin() + static_cast<std::ptrdiff_t>(count)};
}

// CAJAL_TEST_TARGET=sm_80 has a newer device run the portable kernels.
inline std::string test_target() {
  const char* named = std::getenv("CAJAL_TEST_TARGET");
  return named ? named : "";
}

// Tests of this folder need a device; without one they say why they did not run.
class OnDevice : public testing::Test {
 protected:
  static Backend& device() {
    static const std::unique_ptr<Backend> backend = make_backend("cuda", {4, test_target()});
    return *backend;
  }
  static Backend& host() {
    static const std::unique_ptr<Backend> backend = make_backend("cpu", {8});
    return *backend;
  }
  void SetUp() override {
    if (const std::string why = why_no_cuda(); !why.empty()) GTEST_SKIP() << why;
  }
};

}  // namespace cajal::cuda::test
