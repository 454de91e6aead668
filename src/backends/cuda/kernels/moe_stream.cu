// moe_gate_up_stream and moe_down_stream. The units (tile of rows, two stripes of outputs) are dealt out in one long row, each
// block takes an equal share of it; a ninth warp fetches the rows of a tile before the others come to it.
#include "backends/cuda/kernels/moe_stream.cuh"

namespace cajal::cuda {
namespace {

constexpr int kThreads = (kMoeWarps + 1) * 32;
constexpr int kSharedBytes = 227 * 1024 - 12 * 1024;  // of a block, but for what is declared below
constexpr int kMostTiles = 4096;  // of which a block, one of at least 17, holds what it touches in BlockPlan

struct Shape {
  int units, step, apart;  // a tile's units; the first stripe of unit u is u * step, the second `apart` after it
};
template <bool kGateUp>
__host__ __device__ Shape shape_of(const MoeStreamArgs& a) {
  return kGateUp ? Shape{a.out_features / 16, 1, a.out_features / 16} : Shape{a.out_features / 16, 2, 1};
}

struct Shared {
  std::uint64_t full[kMoeWarps][kMoeMostStages], x_full[2], x_free[2];
  BlockPlan plan;
};

// The block's share of the units, and the tiles that it touches.
struct Share {
  int begin, end, first_tile, last_tile;
  const GroupTile* tiles;  // by tile - first_tile

  __device__ int tile_of(int unit, int units) const { return unit / units - first_tile; }
};

__device__ Share share_of(int num_tiles, int units) {
  const int all = num_tiles * units, blocks = static_cast<int>(gridDim.x), block = static_cast<int>(blockIdx.x);
  const int begin = static_cast<int>(static_cast<std::int64_t>(all) * block / blocks);
  const int end = static_cast<int>(static_cast<std::int64_t>(all) * (block + 1) / blocks);
  return {begin, end, begin / units, begin < end ? (end - 1) / units : begin / units - 1, nullptr};
}

// One warp: rows of the tiles one after the other into two buffers.
template <bool kGateUp>
__device__ void fetch_rows(const MoeStreamArgs& a, const Share& share, std::uint32_t x, int buffers, Shared& shared) {
  const int lane = static_cast<int>(threadIdx.x) % 32, stride = padded_row(a.in_features);
  for (int i = 0; i <= share.last_tile - share.first_tile; ++i) {
    const GroupTile tile = share.tiles[i];
    const int buffer = i % buffers, count = tile.end - tile.begin;
    if (i >= buffers) barrier_wait(&shared.x_free[buffer], (i / buffers - 1) & 1);
    const auto bytes = static_cast<std::uint32_t>(a.in_features) * 2;
    if (lane == 0) barrier_expect(&shared.x_full[buffer], bytes * static_cast<std::uint32_t>(count));
    __syncwarp();
    if (lane >= count) continue;
    std::int64_t row = tile.begin + lane;
    if constexpr (kGateUp) row = a.ids ? shared.plan.pair[row] / a.top_k : __ldcg(a.plan.x_rows + row);
    copy_bulk_to(x + (buffer * a.tile_rows + lane) * stride * 2, static_cast<const bf16*>(a.x) + row * a.in_features,
                 bytes, &shared.x_full[buffer]);
  }
}

template <bool kGateUp>
__device__ void write(const MoeStreamArgs& a, const GroupTile& tile, int unit, const float (&acc)[2][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = tile.begin + lane / 4 + half * 8;
    if (row >= tile.end) continue;
    bf16* y = static_cast<bf16*>(a.y) + lane % 4 * 2;
    if constexpr (kGateUp) {
      float hidden[2];
#pragma unroll
      for (int e = 0; e < 2; ++e)
        hidden[e] = rounded<bf16>(silu(rounded<bf16>(acc[0][half * 2 + e]))) * rounded<bf16>(acc[1][half * 2 + e]);
      y += static_cast<std::int64_t>(row) * (a.out_features / 2) + unit * 8;
      *reinterpret_cast<__nv_bfloat162*>(y) = __floats2bfloat162_rn(hidden[0], hidden[1]);
    } else {
      y += static_cast<std::int64_t>(row) * a.out_features + unit * 16;
#pragma unroll
      for (int s = 0; s < 2; ++s)
        *reinterpret_cast<__nv_bfloat162*>(y + s * 8) = __floats2bfloat162_rn(acc[s][half * 2], acc[s][half * 2 + 1]);
    }
  }
}

// Warp `warp` does units begin + warp, begin + warp + kMoeWarps, ...
template <bool kGateUp>
struct Weights {
  const bf16* weight;
  std::int64_t group_elements;
  int k, chunks, unit, chunk = 0;
  Shape shape;

  // The next chunk, by lane 0.
  __device__ void issue(const Share& share, MoeRing& ring) {
    if (unit >= share.end) return;
    const int stripe = unit % shape.units * shape.step, length = min(kMoeChunkK, k - chunk * kMoeChunkK);
    const bf16* first = weight + share.tiles[share.tile_of(unit, shape.units)].group * group_elements +
                        (static_cast<std::int64_t>(stripe) * k + chunk * kMoeChunkK) * 8;
    ring.issue(first, first + static_cast<std::int64_t>(shape.apart) * k * 8, length);
    if (++chunk == chunks) chunk = 0, unit += kMoeWarps;
  }
};

template <bool kGateUp>
__device__ void stream_units(const MoeStreamArgs& a, const Share& share, Weights<kGateUp>& weights, MoeRing& ring,
                             std::uint32_t x, int buffers, Shared& shared) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int stride = padded_row(a.in_features);
  int left = 0;  // tiles that this warp has done with
  const auto leave = [&](int until) {
    for (; left < until; ++left) {
      barrier_wait(&shared.x_full[left % buffers],
                   (left / buffers) & 1);  // or a skipped tile's would pass for the next's
      if (lane == 0) barrier_arrive(&shared.x_free[left % buffers]);
    }
  };
  for (int unit = share.begin + warp; unit < share.end; unit += kMoeWarps) {
    const int i = share.tile_of(unit, weights.shape.units);
    leave(i);
    const GroupTile tile = share.tiles[i];
    barrier_wait(&shared.x_full[i % buffers], (i / buffers) & 1);
    const std::uint32_t rows = x + i % buffers * a.tile_rows * stride * 2;
    float acc[2][4] = {};
    const int count = tile.end - tile.begin;
    const bool high = count > 8;
    const std::uint32_t own = rows + (high ? lane_offset<true>(count, stride) : lane_offset<false>(count, stride));
    for (int chunk = 0; chunk < weights.chunks; ++chunk) {
      const int k = chunk * kMoeChunkK, length = min(kMoeChunkK, a.in_features - k);
      const std::uint32_t w = ring.wait() + lane * 16;
      if (high)
        multiply_two<true>(own + k * 2, w, length, acc);
      else
        multiply_two<false>(own + k * 2, w, length, acc);
      __syncwarp();
      if (lane == 0) weights.issue(share, ring);
      ring.next();
    }
    write<kGateUp>(a, tile, unit % weights.shape.units, acc);
  }
  leave(share.last_tile - share.first_tile + 1);
}

template <bool kGateUp>
__global__ void __launch_bounds__(kThreads, 1) moe_stream_kernel(MoeStreamArgs a, int stages, int buffers) {
  extern __shared__ __align__(128) unsigned char dynamic[];
  __shared__ Shared shared;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const std::uint32_t x = shared_address(dynamic);
  const int x_bytes = (buffers * a.tile_rows * padded_row(a.in_features) * 2 + 127) / 128 * 128;
  if (lane == 0 && warp < kMoeWarps)
    for (int i = 0; i < stages; ++i) barrier_init(&shared.full[warp][i], 1);
  if (threadIdx.x == 0)
    for (int i = 0; i < buffers; ++i) barrier_init(&shared.x_full[i], 1), barrier_init(&shared.x_free[i], kMoeWarps);
  barrier_fence_init();
  __syncthreads();
  const int rows = a.rows.count();  // of the step: there since before its first kernel
  // The next kernel may begin when the plan's ingredients are there for it too.
  if constexpr (kGateUp) wait_for_previous(), let_next_begin();
  const Shape shape = shape_of<kGateUp>(a);
  Share share{};
  if (a.ids) {
    make_block_plan(a.ids, rows, a.top_k, a.tile_rows, shared.plan);
    share = share_of(shared.plan.num_tiles, shape.units);
    share.tiles = shared.plan.tiles + share.first_tile;
    if (kGateUp && a.plan.places && blockIdx.x == 0 && threadIdx.x < rows * a.top_k)
      a.plan.places[threadIdx.x] = shared.plan.place[threadIdx.x];
  } else {
    share = share_of(__ldcg(a.plan.num_tiles), shape.units);
    for (int i = static_cast<int>(threadIdx.x); i <= share.last_tile - share.first_tile; i += kThreads) {
      const int4 tile = __ldcg(reinterpret_cast<const int4*>(a.plan.tiles + share.first_tile + i));
      shared.plan.tiles[i] = {tile.x, tile.y, tile.z, tile.w};
    }
    share.tiles = shared.plan.tiles;
    __syncthreads();
  }
  if (warp == kMoeWarps) {
    if constexpr (!kGateUp) wait_for_previous(), let_next_begin();
    return fetch_rows<kGateUp>(a, share, x, buffers, shared);
  }
  MoeRing ring{x + x_bytes + warp * stages * kMoeStageBytes, shared.full[warp], stages};
  Weights<kGateUp> weights{static_cast<const bf16*>(a.weight),
                           a.group_elements,
                           a.in_features,
                           (a.in_features + kMoeChunkK - 1) / kMoeChunkK,
                           share.begin + warp,
                           0,
                           shape};
  if (lane == 0)
    for (int i = 0; i < stages; ++i) weights.issue(share, ring);
  if constexpr (!kGateUp) wait_for_previous(), let_next_begin();  // weights are nobody's result
  stream_units<kGateUp>(a, share, weights, ring, x, buffers, shared);
}

struct Layout {
  int stages = 0, buffers = 2, x_bytes = 0;
  int bytes() const { return x_bytes + kMoeWarps * stages * kMoeStageBytes; }
};
// Few rows leave room for the kernel that follows, so that its weights come while this one ends.
Layout layout(const MoeStreamArgs& a) {
  Layout l;
  const auto x_bytes = [&] { return (l.buffers * a.tile_rows * padded_row(a.in_features) * 2 + 127) / 128 * 128; };
  const int wanted = a.tile_rows <= 4 ? 3 : 4;
  l.x_bytes = x_bytes();
  if (l.x_bytes + kMoeWarps * 3 * kMoeStageBytes > kSharedBytes) l.buffers = 1, l.x_bytes = x_bytes();
  const int fit = (kSharedBytes - l.x_bytes) / (kMoeWarps * kMoeStageBytes);
  l.stages = fit < wanted ? fit : wanted;
  return l;
}

template <bool kGateUp>
void launch(const MoeStreamArgs& a, cudaStream_t stream) {
  const Layout l = layout(a);
  cudaFuncSetAttribute(moe_stream_kernel<kGateUp>, cudaFuncAttributeMaxDynamicSharedMemorySize, l.bytes());
  launch_kernel(moe_stream_kernel<kGateUp>, multiprocessors(), kThreads, l.bytes(), stream, a, l.stages, l.buffers);
}

}  // namespace

bool moe_stream_accepts(const MoeStreamArgs& a) {
  return a.in_features % 32 == 0 && a.out_features % 16 == 0 && a.tile_rows <= kMoeStreamRows &&
         layout(a).stages >= 2 && a.most_tiles <= kMostTiles &&
         static_cast<std::int64_t>(a.out_features) * a.most_tiles < 1 << 30;
}
void moe_gate_up_stream(const MoeStreamArgs& a, cudaStream_t stream) { launch<true>(a, stream); }
void moe_down_stream(const MoeStreamArgs& a, cudaStream_t stream) { launch<false>(a, stream); }

}  // namespace cajal::cuda
