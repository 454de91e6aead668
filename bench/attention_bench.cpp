// Times every attention and row-wise kernel that runs here: attention_bench [threads] [filter].
// Attention's GFLOP/s count the products of visible positions only; GB/s count keys and values once per kv head and row
// (prefill: once per step).
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string_view>
#include <vector>

#include "backends/cpu/kernels/attention.h"
#include "backends/cpu/kernels/elementwise.h"
#include "base/thread_pool.h"

namespace cajal::cpu {
namespace {

// Kernels may expect what the arena gives them: memory on cache lines, already touched.
class Memory {
 public:
  explicit Memory(std::size_t bytes, std::uint8_t fill = 0x3c) : size_(bytes) {
    data_ = static_cast<std::byte*>(std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096 + 4096));
    std::memset(data_, fill, bytes);
  }
  ~Memory() { std::free(data_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  std::byte* get() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  std::byte* data_;
  std::size_t size_;
};

// One thread is timed by its own clock, which stands still while something else has its core.
double now(const ThreadPool& pool) {
  timespec t;
  clock_gettime(pool.size() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

// The best of many runs, in seconds: what the machine can do, also when it is busy with other things.
template <class Body>
double best_seconds(const ThreadPool& pool, Body&& body) {
  double best = 1e9, total = 0;
  for (int i = 0; i < 200 && (i < 5 || total < 0.5); ++i) {
    const double start = now(pool);
    body();
    const double took = now(pool) - start;
    best = std::min(best, took);
    total += took;
  }
  return best;
}

struct Bench {
  ThreadPool pool;
  std::string_view filter;

  bool wants(const char* name) const { return std::string_view(name).find(filter) != std::string_view::npos; }

  template <class K>
  bool runs(const K& kernel) const {
    return (kernel.isa & ~detect_isa()) == 0 && wants(kernel.name);
  }

  static void print(const char* name, const char* what, double seconds, double flops, double bytes) {
    std::printf("%-30s %-34s %10.1f us", name, what, seconds * 1e6);
    if (flops > 0) std::printf(" %8.1f GFLOP/s", flops / seconds * 1e-9);
    std::printf(" %7.1f GB/s\n", bytes / seconds * 1e-9);
    std::fflush(stdout);
  }

  void read_bandwidth() {
    const Memory memory(std::size_t{256} << 20);
    const double seconds = best_seconds(pool, [&] {
      pool.parallel_for(256, 1, [&](std::int64_t begin, std::int64_t end) {
        std::uint64_t sums[16] = {};
        const auto* words = reinterpret_cast<const std::uint64_t*>(memory.get());
        for (std::int64_t i = begin << 17; i < end << 17; i += 16)
          for (int j = 0; j < 16; ++j) sums[j] += words[i + j];
        asm volatile("" ::"r"(&sums[0]) : "memory");
      });
    });
    print("read", "256 MiB", seconds, 0, static_cast<double>(memory.size()));
  }

  struct Case {
    const char* what;
    std::int64_t rows, past;  // of each sequence
    std::int64_t seqs = 1;
    std::int64_t window = 0;
  };

  void attention(DType dtype, bool int8_cache, const Case& c) {
    constexpr std::int64_t heads = 16, kv_heads = 8, dim = 128, block = 64;
    const std::int64_t blocks_per_seq = (c.past + c.rows + block - 1) / block, rows = c.rows * c.seqs;
    const Quantized in_8_bits{.bits = 8, .group_size = dim, .scale_dtype = DType::f32};
    const KvStorage storage = int8_cache ? quantized_kv_cache_storage(in_8_bits, dim, detect_isa())
                                         : kv_cache_storage(dtype, dim, detect_isa());
    const AttentionShape shape{dtype,    storage.k, storage.v, rows,           heads,
                               kv_heads, dim,       block,     blocks_per_seq, c.window};
    const std::size_t element = size_of(dtype);
    const TensorType cache{dtype, {c.seqs * blocks_per_seq + 1, kv_heads, block, dim}, storage.v};
    const std::size_t cache_bytes = cache.bytes();
    const std::size_t row_bytes = static_cast<std::size_t>(rows * heads * dim) * element;
    const Memory k(cache_bytes), v(cache_bytes), q(row_bytes, 0), y(row_bytes);
    std::vector<std::int32_t> tables, seqs, positions;
    for (std::int64_t i = 0; i < c.seqs * blocks_per_seq; ++i) tables.push_back(static_cast<std::int32_t>(i + 1));
    double pairs = 0;
    for (std::int64_t i = 0; i < rows; ++i) {
      seqs.push_back(static_cast<std::int32_t>(i / c.rows));
      positions.push_back(static_cast<std::int32_t>(c.past + i % c.rows));
      const double seen = positions.back() + 1;
      pairs += c.window > 0 ? std::min(seen, static_cast<double>(c.window)) : seen;
    }
    const double flops = pairs * heads * dim * 4;
    const double vector_bytes = int8_cache ? dim + 4 : static_cast<double>(element) * dim;
    const double bytes = 2.0 * vector_bytes * kv_heads * pairs / static_cast<double>(c.rows);
    for (const AttentionKernel& kernel : attention_kernels()) {
      const bool slow =
          !kernel.scratch_bytes || std::string_view(kernel.name).find("portable") != std::string_view::npos;
      if (!runs(kernel) || !kernel.accepts(shape) || (slow && flops > 2e8)) continue;
      const Memory scratch(kernel.scratch_bytes ? kernel.scratch_bytes(shape, pool.size()) : 1);
      const AttentionArgs args{.q = q.get(),
                               .k_cache = k.get(),
                               .v_cache = v.get(),
                               .block_tables = tables.data(),
                               .seq_indices = seqs.data(),
                               .positions = positions.data(),
                               .y = y.get(),
                               .scratch = scratch.get(),
                               .rows = rows,
                               .num_heads = heads,
                               .num_kv_heads = kv_heads,
                               .head_dim = dim,
                               .block_size = block,
                               .max_blocks_per_seq = blocks_per_seq,
                               .sliding_window = c.window,
                               .scale = 0.088f,
                               .dtype = dtype,
                               .k_packed = cache_tile(storage.k),
                               .v_packed = cache_tile(storage.v),
                               .int8_cache = int8_cache};
      print(kernel.name, c.what, best_seconds(pool, [&] { kernel.run(args, pool); }), flops, bytes);
    }
  }

  template <class K, class Args>
  void rows(std::span<const K> kernels, const char* what, const Args& args, double bytes) {
    for (const K& kernel : kernels)
      if (runs(kernel)) print(kernel.name, what, best_seconds(pool, [&] { kernel.run(args, pool); }), 0, bytes);
  }

  void row_wise(std::int64_t rows_, const char* what) {
    constexpr std::int64_t hidden = 1024, inter = 3072, heads = 16, kv_heads = 8, dim = 128;
    constexpr DType dt = DType::bf16;
    const auto elements = [&](std::int64_t columns) { return static_cast<std::size_t>(rows_ * columns) * 2; };
    const auto d = [](std::size_t n) { return static_cast<double>(n); };
    const Memory a(elements(2 * inter + 4096)), b(elements(inter)), y(elements(inter)), sum(elements(hidden));
    const Memory weight(8192), table(elements(dim)), k_cache(elements(kv_heads * dim) + (1 << 20));
    const Memory v_cache(elements(kv_heads * dim) + (1 << 20));
    std::vector<std::int32_t> index;
    for (std::int64_t i = 0; i < rows_; ++i) index.push_back(static_cast<std::int32_t>(i));
    rows(rms_norm_kernels(), what, RmsNormArgs{a.get(), weight.get(), y.get(), rows_, hidden, 1e-6f, dt},
         d(elements(2 * hidden)));
    rows(add_rms_norm_kernels(), what,
         AddRmsNormArgs{a.get(), b.get(), weight.get(), sum.get(), y.get(), rows_, hidden, 1e-6f, dt},
         d(elements(4 * hidden)));
    rows(add_kernels(), what, AddArgs{a.get(), b.get(), y.get(), rows_, hidden, dt}, d(elements(3 * hidden)));
    rows(silu_mul_kernels(), what, SiluMulArgs{a.get(), a.get() + inter * 2, y.get(), rows_, inter, 2 * inter, dt},
         d(elements(3 * inter)));
    ops::RotaryTable op;
    op.inv_freq.assign(dim / 2, 0.01f);
    rows(rotary_table_kernels(), what, RotaryTableArgs{&op, index.data(), nullptr, table.get(), rows_, dim, dt},
         d(elements(dim)));
    rows(rope_kernels(), what, RopeArgs{a.get(), table.get(), y.get(), rows_, heads, dim, dt},
         d(elements(2 * heads * dim)));
    const KvStorage storage = kv_cache_storage(dt, dim, detect_isa());
    rows(qk_norm_rope_kv_write_kernels(), what,
         QkNormRopeKvWriteArgs{a.get(), weight.get(), weight.get(), table.get(), k_cache.get(), v_cache.get(),
                               index.data(), y.get(), rows_, heads, kv_heads, dim, 64, 1e-6f, dt, cache_tile(storage.k),
                               cache_tile(storage.v)},
         d(elements(2 * (heads + 2 * kv_heads) * dim)));
    const KvWriteArgs write{k_cache.get(), a.get(), index.data(), rows_, kv_heads, dim, 64, dt, cache_tile(storage.k)};
    for (const KvWriteKernel& kernel : kv_write_kernels())
      if (kernel.accepts({dt, storage.k, dim, 64}))
        rows(std::span(&kernel, 1), what, write, d(elements(2 * kv_heads * dim)));
  }
};

}  // namespace
}  // namespace cajal::cpu

int main(int argc, char** argv) {
  using namespace cajal;
  cpu::Bench bench{ThreadPool(argc > 1 ? std::atoi(argv[1]) : available_cores()), argc > 2 ? argv[2] : ""};
  std::printf("%d threads, %s\n", bench.pool.size(), cpu::isa_name(cpu::detect_isa()).c_str());
  bench.read_bandwidth();
  for (const DType dtype : {DType::bf16, DType::f32})
    for (const cpu::Bench::Case& c : {cpu::Bench::Case{"prefill 512", 512, 0},
                                      {"prefill 512 after 4096", 512, 4096},
                                      {"prefill 512 window 128", 512, 4096, 1, 128},
                                      {"decode 1 x 8192", 1, 8191},
                                      {"decode 8 x 2048", 1, 2047, 8},
                                      {"decode 1 x 200", 1, 199}})
      for (const bool int8_cache : {false, true}) bench.attention(dtype, int8_cache, c);
  bench.row_wise(1, "1 row");
  bench.row_wise(512, "512 rows");
}
