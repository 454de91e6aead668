#pragma once
// A step of paged attention over made-up sequences, for every kernel of the list.
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <string_view>
#include <vector>

#include "backends/cpu/kernels/attention.h"
#include "base/thread_pool.h"

namespace cajal::cpu::testing {

inline bool runs_here(std::uint32_t isa) { return (isa & ~detect_isa()) == 0; }

inline float element(DType dtype, const std::byte* p, std::int64_t i) {
  if (dtype == DType::f32) return reinterpret_cast<const float*>(p)[i];
  return bf16_to_float(reinterpret_cast<const std::uint16_t*>(p)[i]);
}
inline void set_element(DType dtype, std::byte* p, std::int64_t i, float f) {
  if (dtype == DType::f32)
    reinterpret_cast<float*>(p)[i] = f;
  else
    reinterpret_cast<std::uint16_t*>(p)[i] = float_to_bf16(f);
}

// Elements of dtype in memory that kernels may expect to be aligned.
class Elements {
 public:
  Elements() = default;
  Elements(DType dtype, std::int64_t count, float fill = 0) : dtype_(dtype), count_(count) {
    bytes_.resize(static_cast<std::size_t>(count) * size_of(dtype));
    for (std::int64_t i = 0; i < count; ++i) set(i, fill);
  }
  template <class Engine>
  static Elements random(DType dtype, std::int64_t count, Engine& engine, float scale = 1) {
    Elements e(dtype, count);
    std::normal_distribution<float> normal(0, scale);
    for (std::int64_t i = 0; i < count; ++i) e.set(i, normal(engine));
    return e;
  }
  float operator[](std::int64_t i) const { return element(dtype_, bytes_.data(), i); }
  void set(std::int64_t i, float f) { set_element(dtype_, bytes_.data(), i, f); }
  std::byte* data() { return bytes_.data(); }
  const std::byte* data() const { return bytes_.data(); }
  std::int64_t size() const { return count_; }
  bool operator==(const Elements& other) const { return bytes_ == other.bytes_; }

 private:
  DType dtype_ = DType::f32;
  std::int64_t count_ = 0;
  std::vector<std::byte> bytes_;
};

struct Heads {
  DType dtype;
  std::int64_t q, kv, dim;
  std::int64_t window = 0;
};

// Rows past..past+rows-1 of a sequence whose earlier positions are in the cache already.
struct Part {
  std::int32_t seq;
  std::int64_t past, rows;
};

// Keys, values and queries of a few sequences, position by position.
struct World {
  Heads heads;
  std::vector<std::int64_t> lengths;
  std::vector<Elements> q, k, v;  // of each sequence: [length, heads, dim]

  World(const Heads& h, std::vector<std::int64_t> seq_lengths, unsigned seed)
      : heads(h), lengths(std::move(seq_lengths)) {
    std::mt19937 engine(seed);
    for (const std::int64_t n : lengths) {
      q.push_back(Elements::random(h.dtype, n * h.q * h.dim, engine, 1.5f));
      k.push_back(Elements::random(h.dtype, n * h.kv * h.dim, engine));
      v.push_back(Elements::random(h.dtype, n * h.kv * h.dim, engine));
    }
  }
};

// What a step over some parts of a world needs in memory. Everything that no sequence has written is NaN.
class Step {
 public:
  static constexpr std::int64_t kBlock = 64;

  Step(const World& world, std::span<const Part> parts, const KvStorage& storage, unsigned seed);

  Elements run(const AttentionKernel& kernel, ThreadPool& pool) const;
  bool accepted_by(const AttentionKernel& kernel) const { return kernel.accepts(shape_); }
  std::int64_t rows() const { return static_cast<std::int64_t>(positions_.size()); }

 private:
  void write(const World& world, std::int32_t seq, std::int64_t end, const KvStorage& storage);

  AttentionShape shape_;
  Elements q_, k_cache_, v_cache_;
  std::vector<std::int32_t> block_tables_, seq_indices_, positions_;
};

inline bool in_8_bits(const Storage& storage) { return std::holds_alternative<Quantized>(storage); }

// The kernels that say what attention means, for machines without AMX and with it.
inline std::vector<const AttentionKernel*> references() {
  std::vector<const AttentionKernel*> all;
  for (const AttentionKernel& kernel : attention_kernels())
    if (kernel.isa == kBaseline) all.push_back(&kernel);
  return all;
}
inline const AttentionKernel& reference_of(const AttentionKernel& kernel) {
  for (const AttentionKernel* reference : references())
    if (std::string_view(reference->numerics_class) == kernel.numerics_class) return *reference;
  return *references().front();  // a cache in 8 bits
}

// A cache of blocks of 64 positions; of one in 8 bits the scales are `fill`.
inline Elements empty_cache(const Heads& h, std::int64_t blocks, const Storage& storage, float fill) {
  const TensorType type{h.dtype, {blocks, h.kv, 64, h.dim}, storage};
  const DType filled = in_8_bits(storage) ? DType::f32 : h.dtype;
  return Elements(filled, static_cast<std::int64_t>(type.bytes() / size_of(filled)), fill);
}

// The kernel that says what writing to a cache means.
inline const KvWriteKernel& reference_writer(const KvWriteShape& shape) {
  const KvWriteKernel* reference = nullptr;
  for (const KvWriteKernel& kernel : kv_write_kernels())
    if (kernel.accepts(shape)) reference = &kernel;
  CAJAL_CHECK(reference, "a cache that nothing writes to");
  return *reference;
}

inline Step::Step(const World& world, std::span<const Part> parts, const KvStorage& storage, unsigned seed) {
  const Heads& h = world.heads;
  const auto num_seqs = static_cast<std::int64_t>(world.lengths.size());
  std::int64_t most = 1;
  for (const std::int64_t n : world.lengths) most = std::max(most, (n + kBlock - 1) / kBlock);
  // Block 0 is the spare one; the others go to the sequences in no order.
  std::vector<std::int32_t> blocks(static_cast<std::size_t>(num_seqs * most));
  for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<std::int32_t>(i + 1);
  std::mt19937 engine(seed);
  std::shuffle(blocks.begin(), blocks.end(), engine);
  block_tables_ = blocks;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  k_cache_ = empty_cache(h, num_seqs * most + 1, storage.k, nan);
  v_cache_ = empty_cache(h, num_seqs * most + 1, storage.v, nan);
  std::vector<float> q;
  shape_ = {h.dtype, storage.k, storage.v, 0, h.q, h.kv, h.dim, kBlock, most, h.window};
  for (const Part& part : parts) {
    for (std::int64_t i = 0; i < part.rows; ++i) {
      seq_indices_.push_back(part.seq);
      positions_.push_back(static_cast<std::int32_t>(part.past + i));
    }
    const std::int64_t columns = h.q * h.dim;
    for (std::int64_t i = part.past * columns; i < (part.past + part.rows) * columns; ++i)
      q.push_back(world.q[static_cast<std::size_t>(part.seq)][i]);
    write(world, part.seq, part.past + part.rows, storage);
  }
  shape_.rows = rows();
  q_ = Elements(h.dtype, static_cast<std::int64_t>(q.size()));
  for (std::size_t i = 0; i < q.size(); ++i) q_.set(static_cast<std::int64_t>(i), q[i]);
}

inline void Step::write(const World& world, std::int32_t seq, std::int64_t end, const KvStorage& storage) {
  const Heads& h = world.heads;
  std::vector<std::int32_t> slots;
  for (std::int64_t p = 0; p < end; ++p) {
    const auto block = block_tables_[static_cast<std::size_t>(seq * shape_.max_blocks_per_seq + p / kBlock)];
    slots.push_back(static_cast<std::int32_t>(block * kBlock + p % kBlock));
  }
  ThreadPool pool(1);
  KvWriteArgs args{k_cache_.data(),
                   world.k[static_cast<std::size_t>(seq)].data(),
                   slots.data(),
                   end,
                   h.kv,
                   h.dim,
                   kBlock,
                   h.dtype,
                   cache_tile(storage.k),
                   in_8_bits(storage.k)};
  const KvWriteKernel& writer = reference_writer({h.dtype, storage.k, h.dim, kBlock});
  writer.run(args, pool);
  args.cache = v_cache_.data();
  args.x = world.v[static_cast<std::size_t>(seq)].data();
  args.packed = cache_tile(storage.v);
  writer.run(args, pool);
}

inline Elements Step::run(const AttentionKernel& kernel, ThreadPool& pool) const {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Elements y(shape_.dtype, rows() * shape_.num_heads * shape_.head_dim, nan);
  Elements scratch;
  if (kernel.scratch_bytes)
    scratch = Elements(DType::f32, static_cast<std::int64_t>(kernel.scratch_bytes(shape_, pool.size()) / 4), nan);
  kernel.run({.q = q_.data(),
              .k_cache = k_cache_.data(),
              .v_cache = v_cache_.data(),
              .block_tables = block_tables_.data(),
              .seq_indices = seq_indices_.data(),
              .positions = positions_.data(),
              .y = y.data(),
              .scratch = scratch.data(),
              .rows = rows(),
              .num_heads = shape_.num_heads,
              .num_kv_heads = shape_.num_kv_heads,
              .head_dim = shape_.head_dim,
              .block_size = kBlock,
              .max_blocks_per_seq = shape_.max_blocks_per_seq,
              .sliding_window = shape_.sliding_window,
              .scale = 1.0f / std::sqrt(static_cast<float>(shape_.head_dim)),
              .dtype = shape_.dtype,
              .k_packed = cache_tile(shape_.k_storage),
              .v_packed = cache_tile(shape_.v_storage),
              .int8_cache = in_8_bits(shape_.k_storage)},
             pool);
  return y;
}

}  // namespace cajal::cpu::testing
