#include "backends/cuda/kernels/elementwise.h"

#include "backends/cuda/kernels/division.cuh"
#include "backends/cuda/kernels/launch.cuh"

namespace cajal::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kKept = 4;  // groups of a row that a thread of rms_norm keeps: rows of up to 4096 are read once

template <class T>
__global__ void embedding_kernel(EmbeddingArgs a) {
  follow_previous();
  const auto row = static_cast<std::int64_t>(blockIdx.x);
  if (row >= a.rows.count()) return;
  const std::int64_t id = a.ids[row], tile = a.tile.rows, group = a.tile.group;
  const std::int64_t padded = (a.hidden_size + group - 1) / group * group;
  const T* from = static_cast<const T*>(a.table) + id / tile * tile * padded + id % tile * group;
  T* to = static_cast<T*>(a.y) + row * a.hidden_size;
  for (std::int64_t k = threadIdx.x; k < a.hidden_size; k += kThreads)
    to[k] = from[k / group * tile * group + k % group];
}

template <class T>
__global__ void gather_rows_kernel(GatherRowsArgs a) {
  follow_previous();
  const auto row = static_cast<std::int64_t>(blockIdx.x);
  if (row >= a.rows.count()) return;
  const T* from = static_cast<const T*>(a.x) + a.indices[row] * a.columns;
  T* to = static_cast<T*>(a.y) + row * a.columns;
  for (std::int64_t k = threadIdx.x; k < a.columns; k += kThreads) to[k] = from[k];
}

__device__ float factor_of_row(const RmsNormArgs& a, float sum) {  // by kSumLanes threads together
  __shared__ float sums[kSumLanes / 32];
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  return norm_factor((sums[0] + sums[1]) + (sums[2] + sums[3]), a.columns, a.epsilon);
}

// bf16 rows of whole groups of eight, kGroups a thread at most: all that a thread reads is on its way at once. A block a row.
template <int kGroups, bool kAdds>
__global__ void __launch_bounds__(kSumLanes) rms_norm_by_eights(RmsNormArgs a) {
  let_next_begin();
  const int lane = threadIdx.x, groups = a.columns / 8;
  const std::int64_t row = blockIdx.x, first = row * groups;
  uint4 x[kGroups], b[kGroups], weight[kGroups];
  const auto load_all = [&](const void* from, std::int64_t at, uint4(&to)[kGroups]) {
#pragma unroll
    for (int j = 0; j < kGroups; ++j) {
      const int g = lane + j * kSumLanes;
      to[j] = g < groups ? static_cast<const uint4*>(from)[at + g] : uint4{0, 0, 0, 0};
    }
  };
  load_all(a.weight, 0, weight);
  const bool there = row < a.rows.count();
  wait_for_previous();
  load_all(a.x, first, x);
  if constexpr (kAdds) load_all(a.b, first, b);
  if (!there) return;
  float v[kGroups][8], sum = 0;
#pragma unroll
  for (int j = 0; j < kGroups; ++j) {
    const int g = lane + j * kSumLanes;
    unpack8(x[j], v[j]);
    if constexpr (kAdds) {
      float w[8];
      unpack8(b[j], w);
#pragma unroll
      for (int i = 0; i < 8; ++i) v[j][i] = rounded<bf16>(v[j][i] + w[i]);
      if (g < groups) static_cast<uint4*>(a.sum)[first + g] = pack8(v[j]);
    }
    if (g < groups) sum = add_squares(v[j], sum);
  }
  const float factor = factor_of_row(a, sum);
#pragma unroll
  for (int j = 0; j < kGroups; ++j) {
    const int g = lane + j * kSumLanes;
    float w[8];
    unpack8(weight[j], w);
#pragma unroll
    for (int i = 0; i < 8; ++i) v[j][i] = normed<bf16>(v[j][i], factor, w[i]);
    if (g < groups) static_cast<uint4*>(a.y)[first + g] = pack8(v[j]);
  }
}

// A block a row; kSumLanes threads.
template <class T>
__global__ void __launch_bounds__(kSumLanes) rms_norm_kernel(RmsNormArgs a) {
  let_next_begin();
  const auto row = static_cast<std::int64_t>(blockIdx.x);
  const int lane = threadIdx.x, columns = a.columns, groups = (columns + 7) / 8;
  // The first groups stay in registers, all of them on their way before the first is needed, weights even earlier.
  float kept[kKept][8], other[kKept][8], weights[kKept][8];
  const auto load_kept = [&](const T* from, float(&to)[kKept][8]) {
#pragma unroll
    for (int j = 0; j < kKept; ++j) {
      const int g = lane + j * kSumLanes;
      load8(from + (g < groups ? g : 0) * 8, g < groups ? columns - g * 8 : 0, to[j]);
    }
  };
  const T* weight = static_cast<const T*>(a.weight);
  load_kept(weight, weights);
  wait_for_previous();
  if (row >= a.rows.count()) return;
  const T* x = static_cast<const T*>(a.x) + row * columns;
  const T* b = a.b ? static_cast<const T*>(a.b) + row * columns : nullptr;
  T* total = static_cast<T*>(a.sum) + row * columns;
  load_kept(x, kept);
  if (b) load_kept(b, other);
  const auto add_b = [&](int g, float(&v)[8], const float(&w)[8]) {
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = rounded<T>(v[i] + w[i]);
    store8(total + g * 8, columns - g * 8, v);
  };
  float sum = 0;
#pragma unroll
  for (int j = 0; j < kKept; ++j) {
    const int g = lane + j * kSumLanes;
    if (b && g < groups) add_b(g, kept[j], other[j]);
    if (g < groups) sum = add_squares(kept[j], sum);
  }
  for (int g = lane + kKept * kSumLanes; g < groups; g += kSumLanes) {
    float v[8], w[8];
    load8(x + g * 8, columns - g * 8, v);
    if (b) {
      load8(b + g * 8, columns - g * 8, w);
      add_b(g, v, w);
    }
    sum = add_squares(v, sum);
  }
  const float factor = factor_of_row(a, sum);
  const auto write = [&](int g, float(&v)[8], const float(&w)[8]) {
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = normed<T>(v[i], factor, w[i]);
    store8(static_cast<T*>(a.y) + row * columns + g * 8, columns - g * 8, v);
  };
#pragma unroll
  for (int j = 0; j < kKept; ++j)
    if (lane + j * kSumLanes < groups) write(lane + j * kSumLanes, kept[j], weights[j]);
  const T* source = b ? total : x;  // what this thread itself wrote
  for (int g = lane + kKept * kSumLanes; g < groups; g += kSumLanes) {
    float v[8], w[8];
    load8(source + g * 8, columns - g * 8, v);
    load8(weight + g * 8, columns - g * 8, w);
    write(g, v, w);
  }
}

// Cosine and sine of the f32 angle in double, rounded twice: within an ulp of any good f32 library, and the same everywhere.
template <class T>
__global__ void rotary_table_kernel(RotaryTableArgs a) {
  follow_previous();
  const auto row = static_cast<std::int64_t>(blockIdx.x);
  if (row >= a.rows.count()) return;
  const int half = a.columns / 2;
  const float* inv_freq = a.inv_freq + (a.row_frequencies ? row * half : 0);
  T* y = static_cast<T*>(a.y) + row * a.columns;
  for (int i = threadIdx.x; i < half; i += blockDim.x) {
    const float angle = inv_freq[i] * static_cast<float>(a.positions[row]);
    double sine, cosine;
    sincos(static_cast<double>(angle), &sine, &cosine);
    y[i] = store<T>(static_cast<float>(cosine) * a.attention_scaling);
    y[half + i] = store<T>(static_cast<float>(sine) * a.attention_scaling);
  }
}

template <class T>
__global__ void rope_kernel(RopeArgs a) {
  follow_previous();
  const std::int64_t row = blockIdx.x / a.num_heads;
  if (row >= a.rows.count()) return;
  const int half = a.columns / 2;
  const T* x = static_cast<const T*>(a.x) + static_cast<std::int64_t>(blockIdx.x) * a.columns;
  const T* table = static_cast<const T*>(a.table) + row * a.columns;
  T* y = static_cast<T*>(a.y) + static_cast<std::int64_t>(blockIdx.x) * a.columns;
  for (int i = threadIdx.x; i < half; i += blockDim.x) {
    const float x1 = load(x[i]), x2 = load(x[half + i]), cosine = load(table[i]), sine = load(table[half + i]);
    y[i] = store<T>(rotated<T>(x1, cosine, x2, -sine));
    y[half + i] = store<T>(rotated<T>(x2, cosine, x1, sine));
  }
}

// The up to eight numbers of a row that a thread has, where rows are cut in eights.
struct Eight {
  std::int64_t row, k;
  int n;
  __device__ explicit Eight(std::int64_t columns) {
    const std::int64_t groups = (columns + 7) / 8, at = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
    row = at / groups, k = at % groups * 8;
    n = static_cast<int>(min(columns - k, static_cast<std::int64_t>(8)));
  }
};

template <class T>
__global__ void silu_mul_kernel(SiluMulArgs a) {
  follow_previous();
  const auto [row, k, n] = Eight(a.columns);
  if (row >= a.rows.count()) return;
  float gate[8], up[8];
  load8(static_cast<const T*>(a.gate) + row * a.input_stride + k, n, gate);
  load8(static_cast<const T*>(a.up) + row * a.input_stride + k, n, up);
  silu_of_all(gate);
#pragma unroll
  for (int i = 0; i < 8; ++i) gate[i] = rounded<T>(gate[i]) * up[i];
  store8(static_cast<T*>(a.y) + row * a.columns + k, n, gate);
}

template <class T>
__global__ void sigmoid_mul_kernel(SigmoidMulArgs a) {
  follow_previous();
  const auto [row, k, n] = Eight(a.columns);
  if (row >= a.rows.count()) return;
  const float factor = rounded<T>(1.0f / (1.0f + expf(-load(static_cast<const T*>(a.gate)[row]))));
  float v[8];
  load8(static_cast<const T*>(a.x) + row * a.columns + k, n, v);
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] = factor * v[i];
  store8(static_cast<T*>(a.y) + row * a.columns + k, n, v);
}

template <class T>
__global__ void add_kernel(AddArgs a) {
  follow_previous();
  const std::int64_t at = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  if (at >= a.rows.count() * a.columns) return;
  static_cast<T*>(a.y)[at] = store<T>(load(static_cast<const T*>(a.a)[at]) + load(static_cast<const T*>(a.b)[at]));
}

template <class T>
__global__ void slice_kernel(SliceArgs a) {
  follow_previous();
  const std::int64_t at = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  if (at >= a.rows.count() * a.columns) return;
  const std::int64_t row = at / a.columns, k = at % a.columns;
  static_cast<T*>(a.y)[at] = static_cast<const T*>(a.x)[row * a.input_columns + a.begin + k];
}

// Where head `head` of a slot begins in a cache [blocks, kv_heads, block_size, D].
__device__ std::int64_t cache_at(std::int64_t slot, int head, int kv_heads, int block_size, int dim) {
  return ((slot / block_size * kv_heads + head) * block_size + slot % block_size) * dim;
}

template <class T>
__global__ void kv_write_kernel(KvWriteArgs a) {
  follow_previous();
  const std::int64_t row = blockIdx.x / a.num_kv_heads;
  if (row >= a.rows.count()) return;
  const int head = static_cast<int>(blockIdx.x % a.num_kv_heads);
  const T* x = static_cast<const T*>(a.x) + static_cast<std::int64_t>(blockIdx.x) * a.head_dim;
  T* to = static_cast<T*>(a.cache) + cache_at(a.slot_mapping[row], head, a.num_kv_heads, a.block_size, a.head_dim);
  for (int i = threadIdx.x; i < a.head_dim; i += blockDim.x) to[i] = x[i];
}

// A warp a head of q, k or v.
template <class T>
__global__ void __launch_bounds__(32) qk_norm_rope_kv_write_kernel(QkNormRopeKvWriteArgs a) {
  follow_previous();
  const int heads = a.num_heads + 2 * a.num_kv_heads, head = static_cast<int>(blockIdx.x) % heads, lane = threadIdx.x;
  const std::int64_t row = blockIdx.x / heads;
  if (row >= a.rows.count()) return;
  __shared__ float values[kMaxHeadDim];
  const int dim = a.head_dim, half = dim / 2, kv_head = head - a.num_heads;
  const T* x = static_cast<const T*>(a.qkv) + static_cast<std::int64_t>(blockIdx.x) * dim;
  if (kv_head >= a.num_kv_heads) {
    T* to = static_cast<T*>(a.v_cache) +
            cache_at(a.slot_mapping[row], kv_head - a.num_kv_heads, a.num_kv_heads, a.block_size, dim);
    for (int i = lane; i < dim; i += 32) to[i] = x[i];
    return;
  }
  const bool is_q = kv_head < 0;
  const T* weight = static_cast<const T*>(is_q ? a.q_norm : a.k_norm);
  T* to = is_q ? static_cast<T*>(a.q) + (row * a.num_heads + head) * dim
               : static_cast<T*>(a.k_cache) + cache_at(a.slot_mapping[row], kv_head, a.num_kv_heads, a.block_size, dim);
  float sums[4] = {0, 0, 0, 0};  // those of kSumLanes lanes, four in each thread
#pragma unroll
  for (int part = 0; part < 4; ++part)
    for (int g = part * 32 + lane; g < (dim + 7) / 8; g += kSumLanes) {
      float v[8];
      load8(x + g * 8, dim - g * 8, v);
      sums[part] = add_squares(v, sums[part]);
    }
  const float squares = (warp_sum(sums[0]) + warp_sum(sums[1])) + (warp_sum(sums[2]) + warp_sum(sums[3]));
  const float factor = norm_factor(squares, dim, a.epsilon);
  for (int i = lane; i < dim; i += 32) values[i] = rounded<T>(normed<T>(load(x[i]), factor, load(weight[i])));
  __syncwarp();
  const T* table = static_cast<const T*>(a.table) + row * dim;
  for (int i = lane; i < half; i += 32) {
    const float x1 = values[i], x2 = values[half + i], cosine = load(table[i]), sine = load(table[half + i]);
    to[i] = store<T>(rotated<T>(x1, cosine, x2, -sine));
    to[half + i] = store<T>(rotated<T>(x2, cosine, x1, sine));
  }
}

// The same for whole heads of kDim bf16 numbers, kDim / 8 threads a head: eight numbers each.
template <int kDim>
__global__ void __launch_bounds__(kThreads) qk_norm_rope_kv_write_by_eights(QkNormRopeKvWriteArgs a) {
  follow_previous();
  constexpr int kLanes = kDim / 8;
  const int heads = a.num_heads + 2 * a.num_kv_heads, lane = threadIdx.x % kLanes;
  const std::int64_t at = blockIdx.x * static_cast<std::int64_t>(kThreads / kLanes) + threadIdx.x / kLanes;
  const std::int64_t row = at / heads;
  if (row >= a.rows.count()) return;  // of whole warps but for the last: exchanges name who takes part
  const unsigned together = __activemask();
  const int head = static_cast<int>(at % heads), kv_head = head - a.num_heads;
  const bool is_q = kv_head < 0, is_v = kv_head >= a.num_kv_heads;
  const bf16* x = static_cast<const bf16*>(a.qkv) + at * kDim + lane * 8;
  bf16* to = static_cast<bf16*>(a.q) + (row * a.num_heads + head) * kDim;
  if (!is_q)
    to = static_cast<bf16*>(is_v ? a.v_cache : a.k_cache) +
         cache_at(a.slot_mapping[row], is_v ? kv_head - a.num_kv_heads : kv_head, a.num_kv_heads, a.block_size, kDim);
  const bf16 *norm = static_cast<const bf16*>(is_q ? a.q_norm : a.k_norm) + lane * 8,
             *table = static_cast<const bf16*>(a.table) + row * kDim + lane % (kLanes / 2) * 8;
  const auto eight = [](const bf16* at) { return *reinterpret_cast<const uint4*>(at); };
  const uint4 raw = eight(x), raw_weight = eight(norm), raw_cosine = eight(table), raw_sine = eight(table + kDim / 2);
  float v[8], weight[8], cosine[8], sine[8];
  unpack8(raw, v), unpack8(raw_weight, weight), unpack8(raw_cosine, cosine), unpack8(raw_sine, sine);
  float squares = add_squares(v, 0);
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) squares += __shfl_xor_sync(together, squares, step);
  const float factor = norm_factor(squares, kDim, a.epsilon);
  const bool first_half = lane < kLanes / 2;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float mine = rounded<bf16>(normed<bf16>(v[i], factor, weight[i]));
    const float other = __shfl_xor_sync(together, mine, kLanes / 2);
    if (!is_v) v[i] = rotated<bf16>(mine, cosine[i], other, first_half ? -sine[i] : sine[i]);
  }
  *reinterpret_cast<uint4*>(to + lane * 8) = pack8(v);
}

unsigned blocks_for(std::int64_t elements) { return static_cast<unsigned>((elements + kThreads - 1) / kThreads); }

}  // namespace

void embedding(const EmbeddingArgs& a, cudaStream_t stream) {
  with_element(a.element,
               [&](auto t) { launch_kernel(embedding_kernel<decltype(t)>, a.rows.most, kThreads, 0, stream, a); });
}
void gather_rows(const GatherRowsArgs& a, cudaStream_t stream) {
  with_element(a.element,
               [&](auto t) { launch_kernel(gather_rows_kernel<decltype(t)>, a.rows.most, kThreads, 0, stream, a); });
}
void rms_norm(const RmsNormArgs& a, cudaStream_t stream) {
  constexpr int kMostGroups = 8;
  std::uintptr_t addresses = 0;
  for (const void* p : {a.x, a.b, a.weight, static_cast<const void*>(a.sum), static_cast<const void*>(a.y)})
    addresses |= reinterpret_cast<std::uintptr_t>(p);
  if (a.element == Element::bf16 && a.columns % 8 == 0 && addresses % 16 == 0 &&
      a.columns <= kMostGroups * kSumLanes * 8) {
    const auto run = [&](auto* alone, auto* adding) {
      launch_kernel(a.b ? adding : alone, a.rows.most, kSumLanes, 0, stream, a);
    };
    const int groups = (a.columns / 8 + kSumLanes - 1) / kSumLanes;
    if (groups == 1) return run(rms_norm_by_eights<1, false>, rms_norm_by_eights<1, true>);
    if (groups == 2) return run(rms_norm_by_eights<2, false>, rms_norm_by_eights<2, true>);
    if (groups <= 4) return run(rms_norm_by_eights<4, false>, rms_norm_by_eights<4, true>);
    return run(rms_norm_by_eights<kMostGroups, false>, rms_norm_by_eights<kMostGroups, true>);
  }
  with_element(a.element,
               [&](auto t) { launch_kernel(rms_norm_kernel<decltype(t)>, a.rows.most, kSumLanes, 0, stream, a); });
}
void rotary_table(const RotaryTableArgs& a, cudaStream_t stream) {
  with_element(a.element,
               [&](auto t) { launch_kernel(rotary_table_kernel<decltype(t)>, a.rows.most, 64, 0, stream, a); });
}
void rope(const RopeArgs& a, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>(a.rows.most) * static_cast<unsigned>(a.num_heads);
  with_element(a.element, [&](auto t) { launch_kernel(rope_kernel<decltype(t)>, blocks, 64, 0, stream, a); });
}
void silu_mul(const SiluMulArgs& a, cudaStream_t stream) {
  const unsigned blocks = blocks_for(a.rows.most * ((a.columns + 7) / 8));
  with_element(a.element, [&](auto t) { launch_kernel(silu_mul_kernel<decltype(t)>, blocks, kThreads, 0, stream, a); });
}
void sigmoid_mul(const SigmoidMulArgs& a, cudaStream_t stream) {
  const unsigned blocks = blocks_for(a.rows.most * ((a.columns + 7) / 8));
  with_element(a.element,
               [&](auto t) { launch_kernel(sigmoid_mul_kernel<decltype(t)>, blocks, kThreads, 0, stream, a); });
}
void add(const AddArgs& a, cudaStream_t stream) {
  const unsigned blocks = blocks_for(a.rows.most * a.columns);
  with_element(a.element, [&](auto t) { launch_kernel(add_kernel<decltype(t)>, blocks, kThreads, 0, stream, a); });
}
void slice(const SliceArgs& a, cudaStream_t stream) {
  const unsigned blocks = blocks_for(a.rows.most * a.columns);
  with_element(a.element, [&](auto t) { launch_kernel(slice_kernel<decltype(t)>, blocks, kThreads, 0, stream, a); });
}
void kv_write(const KvWriteArgs& a, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>(a.rows.most) * static_cast<unsigned>(a.num_kv_heads);
  with_element(a.element, [&](auto t) { launch_kernel(kv_write_kernel<decltype(t)>, blocks, 64, 0, stream, a); });
}
void qk_norm_rope_kv_write(const QkNormRopeKvWriteArgs& a, cudaStream_t stream) {
  if (a.element == Element::bf16 && (a.head_dim == 64 || a.head_dim == 128)) {
    const std::int64_t all = static_cast<std::int64_t>(a.rows.most) * (a.num_heads + 2 * a.num_kv_heads);
    launch_kernel(a.head_dim == 64 ? qk_norm_rope_kv_write_by_eights<64> : qk_norm_rope_kv_write_by_eights<128>,
                  blocks_for(all * a.head_dim / 8), kThreads, 0, stream, a);
    return;
  }
  const unsigned blocks = static_cast<unsigned>(a.rows.most) * static_cast<unsigned>(a.num_heads + 2 * a.num_kv_heads);
  with_element(a.element,
               [&](auto t) { launch_kernel(qk_norm_rope_kv_write_kernel<decltype(t)>, blocks, 32, 0, stream, a); });
}

}  // namespace cajal::cuda
