// linear_wgmma: more rows than linear_stream takes, on sm_90. Weights are the rows and tokens the columns of wgmma's tiles. A block of threads
// takes `stripes` groups of eight outputs and kTokens rows at a time: all of its memory is a ring of stages, which one warp
// fills with weights and another with activations, and up to three warpgroups multiply 64 outputs each. Narrow tiles read
// weights at the speed of memory, wide ones multiply near the speed of the matrix units; the same code does both.
#include <algorithm>

#include "backends/cuda/kernels/division.cuh"
#include "backends/cuda/kernels/launch.cuh"
#include "backends/cuda/kernels/linear.h"
#include "backends/cuda/kernels/tensor_map.h"
#include "backends/cuda/kernels/wgmma.cuh"

namespace cajal::cuda {
namespace {

constexpr int kGroupThreads = 128, kGroupStripes = 8, kAtomK = 64, kMostStages = 24;
constexpr int kSharedBytes = 224 * 1024;  // of a block, less 1024 for alignment and the barriers
constexpr int kChunkTokens = 32;          // tokens that pass through shared memory at a time on their way out
constexpr int kRaster = 8;  // tiles of tokens that one row of tiles walks through, so that the cache serves it

// What does not change while a kernel runs.
struct Plan {
  int stripes = 0;    // groups of eight outputs in a tile
  int tokens = 0;     // rows in a tile, at most as many as the kernel multiplies
  int stages = 0;     // of the ring
  int out_tiles = 0;  // tiles side by side
};

template <int kGroups, int kTokens, int kAtoms, bool kParts, bool kGated = false>
struct Shape {
  static constexpr int groups = kGroups, tokens = kTokens, atoms = kAtoms, most_stripes = kGroups * kGroupStripes;
  static constexpr bool parts = kParts, gated = kGated;
  static constexpr int threads = (kGroups + 1) * kGroupThreads, block_k = kAtoms * kAtomK;
  static constexpr int x_bytes = kTokens * block_k * 2, stripe_bytes = block_k * 16;
  static constexpr int out_bytes = kChunkTokens * 128;  // of a warpgroup

  static constexpr __host__ __device__ int stage_bytes(int stripes) { return x_bytes + stripes * stripe_bytes; }
};

struct Ring {
  std::uint64_t full[kMostStages], empty[kMostStages];
};

// The tiles of a step, in the order in which blocks of threads take them: kRaster tiles of tokens, outputs ascending.
struct Tiles {
  int out_tiles, token_tiles, total;

  __device__ Tiles(int out, int rows, int tokens)
      : out_tiles(out), token_tiles((rows + tokens - 1) / tokens), total(out_tiles * token_tiles) {}
  __device__ int2 at(int tile) const {  // x: outputs, y: tokens
    const int per = kRaster * out_tiles, first = tile / per * kRaster, wide = min(kRaster, token_tiles - first);
    const int inside = tile % per;
    return {inside / wide, first + inside % wide};
  }
};

// Fills its part of each stage in turn: fetch(address of the stage, barrier, block of k, tile).
template <class Fetch>
__device__ void produce(const Tiles& tiles, const Plan& p, Ring& ring, std::uint32_t base, int stage_bytes, int blocks,
                        const Fetch& fetch) {
  int stage = 0, parity = 1;
  std::uint32_t at = base;
  for (int tile = static_cast<int>(blockIdx.x); tile < tiles.total; tile += static_cast<int>(gridDim.x)) {
    const int2 where = tiles.at(tile);
    for (int block = 0; block < blocks; ++block) {
      barrier_wait(&ring.empty[stage], parity);
      fetch(at, &ring.full[stage], block, where);
      at += stage_bytes;
      if (++stage == p.stages) stage = 0, parity ^= 1, at = base;
    }
  }
}

// Sums of 1, 2 and 4 parts that wait for their neighbours: the balanced tree.
template <int N>
__device__ void finish_part(int part, bool last, float (&acc)[N], float (&pending)[3][N]) {
  int level = 0;
  for (; part >> level & 1; ++level)
#pragma unroll
    for (int i = 0; i < N; ++i) acc[i] = pending[level][i] + acc[i];
  if (last) return;
#pragma unroll
  for (int i = 0; i < N; ++i) pending[level][i] = acc[i], acc[i] = 0;
}

struct Output {
  int group, first_n, stripes, first_m, end_m;  // warpgroup, first output, stripes that exist, rows
  unsigned char* shared;                        // Shape::out_bytes of the warpgroup
};

// 64 outputs x kTokens rows from accumulators to memory, kChunkTokens rows at a time by way of shared memory.
template <int kTokens>
__device__ void write(const LinearArgs& a, const float (&acc)[kTokens / 2], const Output& out) {
  const int thread = threadIdx.x % kGroupThreads, warp = thread / 32, lane = thread % 32;
  float bias[2] = {0, 0};
#pragma unroll
  for (int h = 0; h < 2; ++h)
    if (a.bias && warp * 2 + h < out.stripes)
      bias[h] = load(static_cast<const bf16*>(a.bias)[out.first_n + warp * 16 + h * 8 + lane / 4]);
  const auto wait_for_group = [&] { asm volatile("bar.sync %0, 128;" ::"r"(out.group + 1) : "memory"); };
#pragma unroll
  for (int chunk = 0; chunk < kTokens / kChunkTokens; ++chunk) {
    wait_for_group();
#pragma unroll
    for (int j = 0; j < kChunkTokens / 8; j += 2) {
      std::uint32_t r[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int i = (chunk * (kChunkTokens / 8) + j + e / 2) * 4 + e % 2 * 2;
        const float lo = acc[i], hi = acc[i + 1];
        r[e] = a.bias ? pack_bf16(lo + bias[e % 2], hi + bias[e % 2]) : pack_bf16(lo, hi);
      }
      const int token = (j + lane / 16) * 8 + lane % 8, column = warp * 2 + lane / 8 % 2;
      store_matrices_transposed(shared_address(out.shared) + row_of_128(token, column), r);
    }
    wait_for_group();
#pragma unroll
    for (int i = 0; i < kChunkTokens / 16; ++i) {
      const int token = i * 16 + thread / 8, column = thread % 8, m = out.first_m + chunk * kChunkTokens + token;
      if (m < out.end_m && column < out.stripes)
        *reinterpret_cast<uint4*>(static_cast<bf16*>(a.y) + static_cast<std::int64_t>(m) * a.out_features +
                                  out.first_n + column * 8) =
            *reinterpret_cast<const uint4*>(out.shared + row_of_128(token, column));
    }
  }
}

// The same where stripes of gates and of what they let through take turns: a warp has eight columns of both, and the
// warpgroup 32 of y.
template <int kTokens>
__device__ void write_gated(const LinearArgs& a, const float (&acc)[kTokens / 2], const Output& out) {
  const int thread = threadIdx.x % kGroupThreads, warp = thread / 32, lane = thread % 32;
  const bool there = warp * 2 < out.stripes;
  const auto wait_for_group = [&] { asm volatile("bar.sync %0, 128;" ::"r"(out.group + 1) : "memory"); };
#pragma unroll
  for (int chunk = 0; chunk < kTokens / kChunkTokens; ++chunk) {
    std::uint32_t r[4];
    float gate[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) gate[i] = rounded<bf16>(acc[(chunk * 4 + i / 2) * 4 + i % 2]);
    if (there) silu_of_all(gate);  // others' numbers are whatever lies behind, and slow
#pragma unroll
    for (int i = 0; i < 8; ++i)
      gate[i] = rounded<bf16>(gate[i]) * rounded<bf16>(acc[(chunk * 4 + i / 2) * 4 + 2 + i % 2]);
#pragma unroll
    for (int j = 0; j < 4; ++j) r[j] = pack_bf16(gate[2 * j], gate[2 * j + 1]);
    wait_for_group();
    store_matrices_transposed(shared_address(out.shared) + row_of_128(lane, warp), r);
    wait_for_group();
    const int token = thread / 4, column = thread % 4, m = out.first_m + chunk * kChunkTokens + token;
    if (m < out.end_m && column < out.stripes / 2)
      *reinterpret_cast<uint4*>(static_cast<bf16*>(a.y) + static_cast<std::int64_t>(m) * (a.out_features / 2) +
                                out.first_n / 2 + column * 8) =
          *reinterpret_cast<const uint4*>(out.shared + row_of_128(token, column));
  }
}

// What a warpgroup multiplies, tile by tile.
template <class S>
class Consumer {
 public:
  __device__ Consumer(const LinearArgs& a, const Plan& p, Ring& ring, std::uint32_t base, int group)
      : a_(a),
        p_(p),
        ring_(ring),
        group_(group),
        stage_bytes_(S::stage_bytes(p.stripes)),
        x_(swizzled_descriptor(base)),
        weight_(tiled_descriptor(base + S::x_bytes + group * kGroupStripes * S::stripe_bytes, S::stripe_bytes)) {}

  __device__ void multiply(float (&acc)[S::tokens / 2]) {
#pragma unroll
    for (int i = 0; i < S::tokens / 2; ++i) acc[i] = 0;
    float pending[3][S::parts ? S::tokens / 2 : 1];
    const int blocks_per_part = a_.in_features / a_.sum_parts / S::block_k, blocks = blocks_per_part * a_.sum_parts;
    int part = 0, inside = 0, last = 0;
    for (int block = 0; block < blocks; ++block) {
      barrier_wait(&ring_.full[stage_], parity_);
      multiply_stage(acc);
      bool waited = false;
      if constexpr (S::parts) {
        if (++inside == blocks_per_part) {
          wgmma_wait<0>();
          finish_part(part++, block + 1 == blocks, acc, pending);
          inside = 0, waited = true;
        }
      }
      if (!waited) wgmma_wait<1>();
      if (block > 0) release(last);
      last = stage_;
      if (++stage_ == p_.stages) stage_ = 0, parity_ ^= 1;
    }
    wgmma_wait<0>();
    release(last);
  }

 private:
  __device__ void multiply_stage(float (&acc)[S::tokens / 2]) {
    const std::uint64_t weight = beside(weight_, stage_ * stage_bytes_), x = beside(x_, stage_ * stage_bytes_);
    wgmma_fence();
#pragma unroll
    for (int atom = 0; atom < S::atoms; ++atom)
#pragma unroll
      for (int step = 0; step < kAtomK / 16; ++step)
        wgmma_k16<S::tokens>(acc, beside(weight, atom * 1024 + step * 256),
                             beside(x, atom * S::tokens * 128 + step * 32));
    wgmma_commit();
  }
  __device__ void release(int stage) {
    if (threadIdx.x % 32 == 0) barrier_arrive(&ring_.empty[stage]);
  }

  const LinearArgs& a_;
  const Plan& p_;
  Ring& ring_;
  int group_, stage_bytes_, stage_ = 0, parity_ = 0;
  std::uint64_t x_, weight_;
};

template <class S>
__device__ void consume(const LinearArgs& a, const Plan& p, const Tiles& tiles, Ring& ring, std::uint32_t base,
                        unsigned char* out) {
  const int group = uniform(static_cast<int>(threadIdx.x) / kGroupThreads - 1);
  if (group * kGroupStripes >= p.stripes) return;
  Consumer<S> consumer(a, p, ring, base, group);
  for (int tile = static_cast<int>(blockIdx.x); tile < tiles.total; tile += static_cast<int>(gridDim.x)) {
    float acc[S::tokens / 2];
    consumer.multiply(acc);
    const int2 where = tiles.at(tile);
    const int stripe = where.x * p.stripes + group * kGroupStripes;
    const int stripes = min(min(kGroupStripes, p.stripes - group * kGroupStripes), a.out_features / 8 - stripe);
    const int first_m = where.y * p.tokens, end_m = min(first_m + p.tokens, a.rows.count());
    const Output output{group, stripe * 8, stripes, first_m, end_m, out + group * S::out_bytes};
    if constexpr (S::gated)
      write_gated<S::tokens>(a, acc, output);
    else
      write<S::tokens>(a, acc, output);
  }
}

template <class S>
__global__ void __launch_bounds__(S::threads, 1)
    linear_wgmma_kernel(const __grid_constant__ LinearArgs a, const __grid_constant__ Plan p,
                        const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap weight) {
  extern __shared__ unsigned char dynamic[];
  __shared__ Ring ring;
  let_next_begin();
  const std::uint32_t start = shared_address(dynamic), base = (start + 1023) / 1024 * 1024;
  const int stage_bytes = S::stage_bytes(p.stripes), blocks = a.in_features / S::block_k;
  const Tiles tiles(p.out_tiles, a.rows.count(), p.tokens);
  if (threadIdx.x == 0) {
    for (int i = 0; i < p.stages; ++i) {
      barrier_init(&ring.full[i], 2);
      barrier_init(&ring.empty[i], (p.stripes + kGroupStripes - 1) / kGroupStripes * 4);  // all multiplying warps
    }
    barrier_fence_init();
  }
  __syncthreads();
  if (threadIdx.x >= kGroupThreads) {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(S::groups == 3 ? 160 : 232));
    return consume<S>(a, p, tiles, ring, base, dynamic + (base - start) + p.stages * stage_bytes);
  }
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(S::groups == 3 ? 32 : 40));
  if (threadIdx.x == 0)  // weights are nobody's result
    produce(tiles, p, ring, base, stage_bytes, blocks,
            [&](std::uint32_t at, std::uint64_t* full, int block, int2 tile) {
              barrier_expect(full, p.stripes * S::stripe_bytes);
              const int k = block * (S::block_k / 8), stripe = tile.x * p.stripes;
              if constexpr (S::gated)
                copy_tensor(at + S::x_bytes, &weight, 0, k, 0, stripe / 2, full);
              else
                copy_tensor(at + S::x_bytes, &weight, 0, k, stripe, full);
            });
  if (threadIdx.x == 32) {
    wait_for_previous();
    produce(
        tiles, p, ring, base, stage_bytes, blocks, [&](std::uint32_t at, std::uint64_t* full, int block, int2 tile) {
          barrier_expect(full, p.tokens * S::block_k * 2);
#pragma unroll
          for (int atom = 0; atom < S::atoms; ++atom)
            copy_tensor(at + atom * S::tokens * 128, &x, block * S::block_k + atom * kAtomK, tile.y * p.tokens, full);
        });
  }
}

// The rows of a tile where there are `rows`: as many in each, since the copy engine is slow where a tile has none.
template <class S>
int tile_tokens(int rows) {
  const int tiles = (rows + S::tokens - 1) / S::tokens;
  return (rows + tiles - 1) / tiles;
}

// Gated: a stripe of the first half, then its neighbour of the second.
template <class S>
bool make_weight_map(CUtensorMap& map, const LinearArgs& a, int stripes) {
  const std::int64_t k = a.in_features, all = a.out_features / 8;
  const TensorDimension stripe{64, 0, 64}, groups{k / 8, 128, S::block_k / 8};
  if constexpr (S::gated)
    return make_tensor_map(map, a.weight, {stripe, groups, {2, all / 2 * k * 16, 2}, {all / 2, k * 16, stripes / 2}},
                           CU_TENSOR_MAP_SWIZZLE_NONE);
  return make_tensor_map(map, a.weight, {stripe, groups, {all, k * 16, stripes}}, CU_TENSOR_MAP_SWIZZLE_NONE);
}

// A driver that does not know sm_90's copies: the same bits by another kernel, or an error that the step's check hears.
template <class S>
void without_maps(const LinearArgs& a, cudaStream_t stream) {
  if constexpr (S::gated)
    cudaMemsetAsync(nullptr, 0, 1, stream);
  else
    linear_mma(a, stream);
}

template <class S>
void launch(const LinearArgs& a, int stripes, cudaStream_t stream) {
  const std::int64_t k = a.in_features, all = a.out_features / 8;
  Plan p{stripes, tile_tokens<S>(a.rows.most), 0, static_cast<int>((all + stripes - 1) / stripes)};
  CUtensorMap x, weight;
  if (!make_tensor_map(x, a.x, {{k, 0, kAtomK}, {a.rows.most, k * 2, p.tokens}}, CU_TENSOR_MAP_SWIZZLE_128B) ||
      !make_weight_map<S>(weight, a, stripes))
    return without_maps<S>(a, stream);
  // wgmma reads whole groups of 64 outputs, and finds what lies behind where the last has fewer.
  const int groups = (stripes + kGroupStripes - 1) / kGroupStripes;
  const int behind = std::max((groups * kGroupStripes - stripes) * S::stripe_bytes, S::groups * S::out_bytes);
  p.stages = std::min(kMostStages, (kSharedBytes - behind) / S::stage_bytes(stripes));
  const int bytes = p.stages * S::stage_bytes(stripes) + behind + 1024;
  const std::int64_t tiles = static_cast<std::int64_t>(p.out_tiles) * ((a.rows.most + p.tokens - 1) / p.tokens);
  cudaFuncSetAttribute(linear_wgmma_kernel<S>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  launch_kernel(linear_wgmma_kernel<S>, static_cast<unsigned>(std::min<std::int64_t>(tiles, multiprocessors())),
                S::threads, static_cast<std::size_t>(bytes), stream, a, p, x, weight);
}

// Which tiles to cut a product into: the kernel, the stripes of a tile, and an estimate of the time in cycles.
struct Choice {
  void (*run)(const LinearArgs&, int stripes, cudaStream_t) = nullptr;
  int stripes = 0;
  double cycles = 0;
};

// Cycles of a stage, measured on an H200: the matrix units, what a multiprocessor takes in, a warpgroup's way through it.
template <class S>
double stage_cycles(int stripes, int tokens) {
  const int groups = (stripes + kGroupStripes - 1) / kGroupStripes;
  const double multiplying = groups * S::atoms * 4 * (S::tokens / 2) / 0.9,
               fetching = (tokens * S::block_k * 2 + stripes * S::stripe_bytes) / 50.0, walking = 200 + 190 * S::atoms;
  return std::max(std::max(multiplying, fetching), walking);
}

template <class S>
void consider(const LinearArgs& a, Choice& best) {
  constexpr int kLeastStages = 3;
  constexpr double kReadPerCycle = 2300;  // bytes that all multiprocessors together read
  if (a.in_features / a.sum_parts % S::block_k != 0 || (a.sum_parts > 1) != S::parts) return;
  const int all = a.out_features / 8, tokens = tile_tokens<S>(a.rows.most);
  const std::int64_t token_tiles = (a.rows.most + tokens - 1) / tokens;
  constexpr int kStep = S::gated ? 2 : 1;
  for (int stripes = kStep; stripes <= S::most_stripes; stripes += kStep) {
    if (kLeastStages * S::stage_bytes(stripes) + S::groups * S::out_bytes > kSharedBytes) return;
    const std::int64_t tiles = (all + stripes - 1) / stripes * token_tiles;
    const double waves = static_cast<double>((tiles + multiprocessors() - 1) / multiprocessors());
    const double working = waves * (a.in_features / S::block_k) * stage_cycles<S>(stripes, tokens),
                 reading = static_cast<double>(all) * a.in_features * 16 / kReadPerCycle;
    const double cycles = std::max(working, reading) + waves * 1500;
    if (!best.run || cycles < best.cycles) best = {launch<S>, stripes, cycles};
  }
}

template <bool kGated>
Choice choose_whole(const LinearArgs& a) {
  const int rows = a.rows.most;
  Choice best;  // of equals the first
  if (rows <= 32) consider<Shape<3, 32, 2, false, kGated>>(a, best);
  if (rows <= 64) consider<Shape<3, 64, 2, false, kGated>>(a, best);
  if constexpr (!kGated)  // squares take in least where there are few outputs
    if (rows > 64 && rows <= 128) consider<Shape<1, 64, 2, false>>(a, best);
  if (rows > 64 && rows <= 512) consider<Shape<3, 128, 2, false, kGated>>(a, best);
  if (rows > 32 || !best.run) consider<Shape<3, 128, 1, false, kGated>>(a, best);
  if (rows > 256) consider<Shape<2, 256, 1, false, kGated>>(a, best);
  return best;
}

Choice choose(const LinearArgs& a) {
  if (a.gated) return choose_whole<true>(a);
  const int rows = a.rows.most;
  Choice best = choose_whole<false>(a);
  if (rows <= 64) consider<Shape<2, 64, 1, true>>(a, best);
  if (rows > 64) consider<Shape<2, 128, 1, true>>(a, best);
  return best;
}

}  // namespace

bool linear_wgmma_accepts(const LinearArgs& a) {
  if (a.gated && (a.sum_parts > 1 || a.bias || a.out_features % 16 != 0)) return false;
  return a.element == Element::bf16 && !a.tiles && a.in_features / a.sum_parts % kAtomK == 0 && a.out_features % 8 == 0;
}

void linear_wgmma(const LinearArgs& a, cudaStream_t stream) {
  const Choice choice = choose(a);
  choice.run(a, choice.stripes, stream);
}

}  // namespace cajal::cuda
