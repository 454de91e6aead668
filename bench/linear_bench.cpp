// Times every Linear and MoeExperts kernel on the shapes of Qwen3 and prints what it reaches of this machine's ceilings,
// which are measured in between: best of many short runs against best of many short probes. Weights rotate through a
// buffer larger than the caches, as in a model.
//
//   linear_bench [--threads N] [--rows 1,8,512] [--shapes 0.6b|1.7b] [--kernel substring] [--seconds S a line]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "backends/cpu/kernels/linear.h"
#include "backends/cpu/kernels/moe.h"
#include "backends/cpu/probe.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/thread_pool.h"
#include "tensor/pack.h"

namespace cajal::cpu {
namespace {

struct Options {
  int threads = available_cores();
  std::vector<std::int64_t> rows = {1, 2, 4, 8, 16, 32, 64, 512};
  std::string kernel, shapes = "0.6b";
  double seconds = 0.05;
};

Packed tile_of(const Storage& storage) {
  const auto* packed = std::get_if<Packed>(&storage);
  return packed ? *packed : Packed{};
}
Quantized quantized_of(const Storage& storage) {
  const auto* quantized = std::get_if<Quantized>(&storage);
  return quantized ? *quantized : Quantized{};
}

// ":int4/32" for groups of 32 in 4 bits.
std::string format_name(const Storage& storage) {
  const auto* q = std::get_if<Quantized>(&storage);
  return q ? detail::join(":int", q->bits, "/", q->group_size) : "";
}

// What one line of the report needs to know of a run.
struct Work {
  double bytes, operations;
};

class Bench {
 public:
  explicit Bench(const Options& options) : options_(options), pool_(options.threads) {
    fill_ordinary();
    std::memcpy(x_, weights_ + 4096, kActivations);
  }
  ~Bench() {
    for (std::byte* buffer : {weights_, x_, y_, scratch_}) free_huge(buffer);
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  void linear_line(const LinearKernel& kernel, const LinearShape& s, const char* what) {
    const TensorType type{s.dtype, {s.out_features, s.in_features}, s.storage};
    fill_weights({{type, kWeights}});
    const auto weight_bytes = static_cast<double>(type.bytes());
    LinearArgs a{.x = x_,
                 .weight = weights_,
                 .bias = nullptr,
                 .y = y_,
                 .rows = s.rows,
                 .in_features = s.in_features,
                 .out_features = s.out_features,
                 .sum_parts = s.sum_parts,
                 .dtype = s.dtype,
                 .packed = tile_of(s.storage),
                 .quantized = quantized_of(s.storage),
                 .scratch = scratch_};
    const Work work{weight_bytes, 2.0 * static_cast<double>(s.rows * s.in_features * s.out_features)};
    const std::string name = kernel.name + format_name(s.storage);
    report(name.c_str(), kernel.isa, s.dtype, what, s.rows, work, [&] {
      a.weight = next_weights(static_cast<std::size_t>(weight_bytes));
      kernel.run(a, pool_);
    });
  }

  void moe_line(const MoeKernel& kernel, const MoeShape& s, const char* what) {
    std::mt19937 random(1);
    std::vector<std::int32_t> ids, experts(static_cast<std::size_t>(s.num_experts));
    std::vector<bool> touched(experts.size());
    for (std::size_t i = 0; i < experts.size(); ++i) experts[i] = static_cast<std::int32_t>(i);
    for (std::int64_t row = 0; row < s.rows; ++row) {
      std::shuffle(experts.begin(), experts.end(), random);
      ids.insert(ids.end(), experts.begin(), experts.begin() + s.top_k);
    }
    for (const auto id : ids) touched[static_cast<std::size_t>(id)] = true;
    const TensorType gate_up{s.dtype, {2 * s.intermediate_size, s.hidden_size}, s.gate_up_storage};
    const TensorType down{s.dtype, {s.hidden_size, s.intermediate_size}, s.down_storage};
    const auto num_experts = static_cast<std::size_t>(s.num_experts);
    fill_weights({{gate_up, num_experts * gate_up.bytes()}, {down, num_experts * down.bytes()}});
    const auto expert_bytes = static_cast<double>(gate_up.bytes() + down.bytes());
    const double experts_touched = static_cast<double>(std::count(touched.begin(), touched.end(), true));
    const Work work{expert_bytes * experts_touched,
                    2.0 * static_cast<double>(s.rows * s.top_k * 3 * s.intermediate_size * s.hidden_size)};
    // Few rows read few experts: other ones in each run, or they would lie in the cache.
    std::int32_t shift = 0;
    std::vector<std::int32_t> now = ids;
    const MoeArgs a{.x = x_,
                    .weights = x_ + 64,
                    .ids = now.data(),
                    .gate_up = weights_,
                    .down = weights_ + num_experts * gate_up.bytes(),
                    .y = y_,
                    .scratch = scratch_,
                    .rows = s.rows,
                    .num_experts = s.num_experts,
                    .hidden_size = s.hidden_size,
                    .intermediate_size = s.intermediate_size,
                    .top_k = s.top_k,
                    .sum_parts = s.sum_parts,
                    .dtype = s.dtype,
                    .packed = tile_of(s.down_storage),
                    .quantized = quantized_of(s.down_storage),
                    .lossless = std::holds_alternative<Lossless>(s.down_storage)};
    const std::string name = kernel.name + format_name(s.down_storage);
    report(name.c_str(), kernel.isa, s.dtype, what, s.rows, work, [&] {
      shift = (shift + 11) % static_cast<std::int32_t>(s.num_experts);
      for (std::size_t i = 0; i < ids.size(); ++i) now[i] = (ids[i] + shift) % static_cast<std::int32_t>(s.num_experts);
      kernel.run(a, pool_);
    });
  }

  void ceilings() const {
    std::printf("\n%d threads, %s: read %.1f GB/s, f32 %.0f, bf16 %.0f GFLOP/s, int8 %.0f GOP/s\n", options_.threads,
                isa_name(isa_).c_str(), read_ * 1e-9, f32_ * 1e-9, bf16_ * 1e-9, int8_ * 1e-9);
  }

  static constexpr std::size_t kWeights = std::size_t{1280} << 20, kActivations = std::size_t{16} << 20;

 private:
  struct Filling {
    TensorType type;
    std::size_t bytes;
    bool operator==(const Filling&) const = default;
  };

  // Bit patterns of bf16 numbers around 1, which as f32 are ordinary numbers too.
  void fill_ordinary() {
    std::mt19937 random(1);
    auto* words = reinterpret_cast<std::uint16_t*>(weights_);
    for (std::size_t i = 0; i < kWeights / 2; ++i)
      words[i] = static_cast<std::uint16_t>(0x3c00u + (random() & 0x80ffu));
  }

  // Weights in fewer bits are matrices of normally distributed ones, one as the other. Any numbers do for what is stored
  // otherwise.
  void fill_weights(const std::vector<Filling>& wanted) {
    const bool packed = wanted.front().type.lossless() || wanted.front().type.quantized();
    if (packed ? wanted == filled_ : filled_.empty()) return;
    filled_ = packed ? wanted : std::vector<Filling>{};
    if (!packed) return fill_ordinary();
    std::byte* at = weights_;
    for (const Filling& f : filled_) {
      const std::size_t bytes = f.type.bytes(), step = filled_.size() == 1 ? round_up<std::size_t>(bytes, 4096) : bytes;
      pack_normal(f.type, at);
      for (std::size_t next = step; next + bytes <= f.bytes; next += step) std::memcpy(at + next, at, bytes);
      at += f.bytes;
    }
    at_ = 0;
  }

  static void pack_normal(const TensorType& type, std::byte* stored) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0.0f, 0.02f);
    std::vector<std::uint16_t> words(static_cast<std::size_t>(type.shape.elements()));
    constexpr std::size_t kRepeat = std::size_t{4} << 20;
    for (std::size_t i = 0; i < words.size(); ++i)
      words[i] = i < kRepeat ? float_to_bf16(normal(random)) : words[i - kRepeat];
    pack_rows(type, 0, type.shape[0], reinterpret_cast<const std::byte*>(words.data()), stored);
  }

  void probe() {
    read_ = std::max(read_, memory_.rate(pool_, isa_));
    f32_ = std::max(f32_, multiply_rate(pool_, Multiply::f32, isa_));
    f32_avx2_ = std::max(f32_avx2_, multiply_rate(pool_, Multiply::f32, isa_ & kAvx2));
    bf16_ = std::max(bf16_, multiply_rate(pool_, Multiply::bf16, isa_));
    int8_ = std::max(int8_, multiply_rate(pool_, Multiply::int8, isa_));
  }

  const std::byte* next_weights(std::size_t bytes) {
    if (at_ + bytes > kWeights) at_ = 0;
    const std::byte* weights = weights_ + at_;
    at_ += (bytes + 4095) / 4096 * 4096;
    return weights;
  }

  template <class Run>
  void report(const char* kernel, std::uint32_t needs, DType dtype, const char* what, std::int64_t rows,
              const Work& work, const Run& run) {
    using Clock = std::chrono::steady_clock;
    double best = 1e30;
    const auto start = Clock::now();
    for (int i = 0; i < 3 || std::chrono::duration<double>(Clock::now() - start).count() < options_.seconds; ++i) {
      if (i % 8 == 0) probe();
      run();  // wakes the workers and warms what a step before would have warmed
      const auto begin = Clock::now();
      run();
      best = std::min(best, std::chrono::duration<double>(Clock::now() - begin).count());
    }
    const bool int8 = needs & kAvx512Vnni, wide = needs & (kAvx512 | kAvx512Bf16);
    const bool dot = dtype == DType::bf16 && (needs & kAvx512Bf16);
    const double bandwidth = work.bytes / best, rate = work.operations / best;
    std::printf("%-31s %-14s rows %4d %9.1f us %7.1f GB/s %4.0f %% of read %8.1f GFLOP/s %4.0f %% of %s\n", kernel,
                what, static_cast<int>(rows), best * 1e6, bandwidth * 1e-9, 100 * bandwidth / read_, rate * 1e-9,
                100 * rate /
                    (int8   ? int8_
                     : dot  ? bf16_
                     : wide ? f32_
                            : f32_avx2_),
                int8   ? "int8"
                : dot  ? "bf16"
                : wide ? "f32"
                       : "f32 of avx2");
    std::fflush(stdout);
  }

  const Options& options_;
  ThreadPool pool_;
  std::uint32_t isa_ = detect_isa();
  ReadProbe memory_;
  std::byte* weights_ = allocate_huge(kWeights);
  std::byte* x_ = allocate_huge(kActivations);
  std::byte* y_ = allocate_huge(std::size_t{320} << 20);
  std::byte* scratch_ = allocate_huge(std::size_t{128} << 20);
  std::size_t at_ = 0;
  std::vector<Filling> filled_;  // with what, if not with arbitrary numbers
  double read_ = 0, f32_ = 0, f32_avx2_ = 0, bf16_ = 0, int8_ = 0;
};

struct Case {
  const char* name;
  std::int64_t out_features, in_features;
  int sum_parts;
};
constexpr Case kQwen3_0_6B[] = {{"qkv", 4096, 1024, 1},
                                {"o", 1024, 2048, 8},
                                {"gate_up", 6144, 1024, 1},
                                {"down", 1024, 3072, 8},
                                {"lm_head", 151936, 1024, 1}};
constexpr Case kQwen3_1_7B[] = {{"qkv", 4096, 2048, 1},
                                {"o", 2048, 2048, 8},
                                {"gate_up", 12288, 2048, 1},
                                {"down", 2048, 6144, 8},
                                {"lm_head", 151936, 2048, 1}};

struct Format {
  DType dtype;
  Storage storage;
};
std::vector<Format> formats() {
  std::vector<Format> all;
  for (const DType dtype : {DType::bf16, DType::f32})
    all.push_back({dtype, linear_weight_storage(dtype, detect_isa())});
  all.push_back({DType::bf16, Lossless{}});
  for (const int bits : {8, 4})
    for (const int group : {32, 128})
      all.push_back({DType::bf16, quantized_weight_storage({.bits = bits, .group_size = group})});
  return all;
}

// References, and what stands in for hardware: seconds a line.
bool for_tests(const char* name) { return std::strstr(name, "ref") || std::strstr(name, "portable"); }

void run_linear(Bench& bench, const Options& options) {
  for (const LinearKernel& kernel : linear_kernels()) {
    const bool wanted = std::strstr(kernel.name, options.kernel.c_str()) && !for_tests(kernel.name);
    if (!wanted || (kernel.isa & ~detect_isa())) continue;
    for (const std::int64_t rows : options.rows)
      for (const Case& c : options.shapes == "1.7b" ? kQwen3_1_7B : kQwen3_0_6B)
        for (const Format& f : formats()) {
          if (c.out_features > 100000 && rows > 8) continue;  // logits of a few rows only
          const LinearShape s{f.dtype, f.storage, rows, c.in_features, c.out_features, c.sum_parts};
          if (kernel.accepts(s)) bench.linear_line(kernel, s, c.name);
        }
  }
}

void run_moe(Bench& bench, const Options& options) {
  for (const MoeKernel& kernel : moe_kernels()) {
    const bool wanted = std::strstr(kernel.name, options.kernel.c_str()) && !for_tests(kernel.name);
    if (!wanted || (kernel.isa & ~detect_isa())) continue;
    for (const std::int64_t rows : options.rows) {
      for (const Format& f : formats()) {
        // Qwen3-30B-A3B, and the small mixture of compare_llama_cpp.py
        const MoeShape large{f.dtype, f.storage, f.storage, rows, 128, 2048, 768, 8, 1};
        const MoeShape small{f.dtype, f.storage, f.storage, rows, 64, 1024, 384, 8, 8};
        if (f.dtype == DType::bf16 && kernel.accepts(large)) bench.moe_line(kernel, large, "30B-A3B layer");
        if (f.dtype == DType::bf16 && kernel.accepts(small)) bench.moe_line(kernel, small, "moe-small layer");
      }
    }
  }
}

Options parse(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; i += 2) {
    const std::string_view name = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : "";
    if (name == "--threads") {
      o.threads = std::max(1, std::atoi(value));
    } else if (name == "--kernel") {
      o.kernel = value;
    } else if (name == "--shapes") {
      o.shapes = value;
    } else if (name == "--seconds") {
      o.seconds = std::atof(value);
    } else if (name == "--rows") {
      o.rows.clear();
      for (const char* p = value; *p;) {
        char* end = nullptr;
        o.rows.push_back(std::clamp<std::int64_t>(std::strtoll(p, &end, 10), 1, 512));
        p = *end == ',' ? end + 1 : end + std::strlen(end);
      }
    } else {
      std::puts(
          "linear_bench [--threads N] [--kernel PART_OF_NAME] [--shapes 0.6b|1.7b] [--rows 1,4,512] [--seconds S]");
      std::exit(name == "--help" ? 0 : 2);
    }
  }
  return o;
}

}  // namespace
}  // namespace cajal::cpu

int main(int argc, char** argv) {
  const cajal::cpu::Options options = cajal::cpu::parse(argc, argv);
  cajal::cpu::Bench bench(options);
  cajal::cpu::run_linear(bench, options);
  cajal::cpu::run_moe(bench, options);
  bench.ceilings();
}
