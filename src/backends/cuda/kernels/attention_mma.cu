// attention_mma: two kernels that share the rows of a step. Groups of consecutive rows that mostly belong to one sequence (a
// piece of a prompt) go through tiles; the others (decoding) go row by row, split into pieces of the cache.
#include "backends/cuda/kernels/attention_block.cuh"
#include "backends/cuda/kernels/attention_tiles.cuh"
#include "backends/cuda/kernels/launch.cuh"

namespace cajal::cuda {
namespace {

constexpr int kTileRows = 64;  // packed rows of a tile: tokens x heads of a group, four warps of 16
constexpr int kWarps = 4, kThreads = kWarps * 32;
// From so many rows on there is work enough without splitting a row's cache.
constexpr int kUnsplitRows = 64;
constexpr float kLog2E = 1.4426950408889634f;

__device__ const bf16* cache_block(const void* cache, const AttentionArgs& a, int seq, int kv_head, int first) {
  const std::int64_t block = a.block_tables[static_cast<std::int64_t>(seq) * a.max_blocks_per_seq + first / kBlock];
  return static_cast<const bf16*>(cache) + (block * a.num_kv_heads + kv_head) * kBlock * a.head_dim;
}

// Scratch of the split kernel: by (row, head, piece) o[D], then m and l.
template <int D>
__device__ float* piece_at(const AttentionArgs& a, int row, int head, int piece) {
  const int pieces = (a.max_blocks_per_seq + kBlocksPerPiece - 1) / kBlocksPerPiece;
  return a.scratch + ((static_cast<std::int64_t>(row) * a.num_heads + head) * pieces + piece) * (D + 2);
}

// What the warps of a piece leave for each other: a partial result a warp and row.
template <int D>
struct PieceResults {
  float o[kWarps][16][D];
  float m[kWarps][16], l[kWarps][16];

  __device__ void put(int warp, const Partial<D>& p) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = lane / 4 + h * 8;
      if (lane % 4 == 0) m[warp][row] = p.m[h], l[warp][row] = p.l[h];
#pragma unroll
      for (int j = 0; j < D / 8; ++j) {
        float2 both{p.o[j][2 * h], p.o[j][2 * h + 1]};
        *reinterpret_cast<float2*>(&o[warp][row][j * 8 + lane % 4 * 2]) = both;
      }
    }
  }
};

// One number of a row's result: its m and l come along.
struct Number {
  float m = -INFINITY, l = 0, o = 0;
  __device__ void add(float other_m, float other_l, float other_o) {
    const Merge by(m, other_m);
    m = by.m, l = by(l, other_l), o = by(o, other_o);
  }
};

// Block (x: piece or 0, y: kv head and part of its heads, z: row). Each warp takes one block of a piece.
template <int D, bool kSplit>
__global__ void __launch_bounds__(kThreads) attention_rows_kernel(AttentionArgs a) {
  follow_previous();
  extern __shared__ __align__(128) unsigned char shared[];
  const int row = static_cast<int>(blockIdx.z), warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= a.rows.count() || through_tiles(a, row / kGroup * kGroup)) return;
  const int group = a.num_heads / a.num_kv_heads, parts = (group + 15) / 16;
  const int kv_head = static_cast<int>(blockIdx.y) / parts, first_head = kv_head * group + blockIdx.y % parts * 16;
  const int heads = min(16, (kv_head + 1) * group - first_head);
  const Span span = visible(a, row);
  const int first_piece = span.begin / kPiece, last_piece = (span.end - 1) / kPiece;
  const int piece_begin = kSplit ? static_cast<int>(blockIdx.x) : first_piece;
  const int piece_end = kSplit ? piece_begin + 1 : last_piece + 1;
  if (piece_begin < first_piece || piece_begin > last_piece) return;

  const std::uint32_t q = shared_address(shared), kv = q + 16 * D * 2 + warp * 2 * kBlock * D * 2;
  auto& results = *reinterpret_cast<PieceResults<D>*>(shared + 16 * D * 2);  // takes the place of keys and values
  for (int i = threadIdx.x; i < 16 * (D / 8); i += kThreads) {
    const int head = i / (D / 8), chunk = i % (D / 8);
    const bf16* from = static_cast<const bf16*>(a.q) +
                       (static_cast<std::int64_t>(row) * a.num_heads + first_head + (head < heads ? head : 0)) * D;
    copy_async_16(q + row_chunk<D>(head, chunk), from + chunk * 8, head < heads);
  }
  constexpr int kNumbers = 16 * D / kThreads;
  Number total[kNumbers];
  const Span spans[2] = {span, span};
  for (int piece = piece_begin; piece < piece_end; ++piece) {
    const int first = piece * kPiece + warp * kBlock;
    const bool there = span.meets(first, first + kBlock);
    if (there) {
      const int seq = a.seq_indices[row];
      load_block<D>(cache_block(a.k_cache, a, seq, kv_head, first), first, span.end, kv, lane, 32);
      load_block<D>(cache_block(a.v_cache, a, seq, kv_head, first), first, span.end, kv + kBlock * D * 2, lane, 32);
    }
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
    Partial<D> part;
    if (there) attend_block<D>(q, kv, kv + kBlock * D * 2, a.scale * kLog2E, first, spans, part);
    __syncthreads();
    if (there) results.put(warp, part);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kNumbers; ++i) {
      const int at = i * kThreads + static_cast<int>(threadIdx.x), head = at / D, d = at % D;
      if (head >= heads) continue;
      Number sum;
      for (int w = 0; w < kWarps; ++w)
        if (span.meets(piece * kPiece + w * kBlock, piece * kPiece + (w + 1) * kBlock))
          sum.add(results.m[w][head], results.l[w][head], results.o[w][head][d]);
      if constexpr (kSplit) {
        float* out = piece_at<D>(a, row, first_head + head, piece);
        out[d] = sum.o;
        if (d == 0) out[D] = sum.m, out[D + 1] = sum.l;
      } else {
        total[i].add(sum.m, sum.l, sum.o);
      }
    }
    __syncthreads();
  }
  if constexpr (!kSplit) {
#pragma unroll
    for (int i = 0; i < kNumbers; ++i) {
      const int at = i * kThreads + static_cast<int>(threadIdx.x), head = at / D, d = at % D;
      if (head >= heads) continue;
      static_cast<bf16*>(a.y)[(static_cast<std::int64_t>(row) * a.num_heads + first_head + head) * D + d] =
          store<bf16>(total[i].o / total[i].l);
    }
  }
}

// The pieces of a row and head, in ascending order.
template <int D>
__global__ void __launch_bounds__(D) attention_combine_kernel(AttentionArgs a) {
  follow_previous();
  const int row = static_cast<int>(blockIdx.x) / a.num_heads, head = static_cast<int>(blockIdx.x) % a.num_heads;
  if (row >= a.rows.count() || through_tiles(a, row / kGroup * kGroup)) return;
  const Span span = visible(a, row);
  Number total;
  for (int piece = span.begin / kPiece; piece <= (span.end - 1) / kPiece; ++piece) {
    const float* from = piece_at<D>(a, row, head, piece);
    total.add(from[D], from[D + 1], from[threadIdx.x]);
  }
  static_cast<bf16*>(a.y)[static_cast<std::int64_t>(blockIdx.x) * D + threadIdx.x] = store<bf16>(total.o / total.l);
}

// A tile's rows and one kv head: warp w has packed rows 16 w .. 16 w + 15, packed row = token * heads of the group + head.
template <int D>
struct TileState {
  static constexpr int kQBytes = kTileRows * D * 2, kKvBytes = kBlock * D * 2;
  static constexpr int kBytes = kQBytes + 4 * kKvBytes + kTileRows * D * 4;
};

template <int D>
class Tile {
 public:
  __device__ Tile(const AttentionArgs& a, unsigned char* shared)
      : a_(a), q_(shared_address(shared)), total_(reinterpret_cast<float*>(shared + TileState<D>::kQBytes + 4 * kKv)) {
    const int group = a.num_heads / a.num_kv_heads, per_tile = kTileRows / group;
    kv_head_ = static_cast<int>(blockIdx.y);
    group_ = group;
    first_ = static_cast<int>(blockIdx.x) * per_tile;
    end_ = min(a.rows.count(), first_ + per_tile);
  }
  __device__ bool empty() const { return first_ >= end_; }

  __device__ void run() {
    load_queries();
    state_.clear();
    for (int i = threadIdx.x; i < kTileRows * D; i += kThreads) total_[i] = 0;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      total_m_[h] = -INFINITY, total_l_[h] = 0;
      const int packed = warp_ * 16 + lane_ / 4 + h * 8;
      row_[h] = first_ + packed / group_;
      head_[h] = kv_head_ * group_ + packed % group_;
      mine_[h] = row_[h] < end_ && through_tiles(a_, row_[h] / kGroup * kGroup);
    }
    __syncthreads();
    for (int row = first_; row < end_;) {  // by sequence
      const int seq = a_.seq_indices[row];
      int last = row + 1;
      while (last < end_ && a_.seq_indices[last] == seq) ++last;
      run_sequence(seq, row, last);
      row = last;
    }
    write();
  }

 private:
  static constexpr int kKv = TileState<D>::kKvBytes;

  __device__ void load_queries() {
    for (int i = threadIdx.x; i < kTileRows * (D / 8); i += kThreads) {
      const int packed = i / (D / 8), chunk = i % (D / 8), row = first_ + packed / group_;
      const bool there = row < end_;
      const std::int64_t from =
          there ? (static_cast<std::int64_t>(row) * a_.num_heads + kv_head_ * group_ + packed % group_) * D : 0;
      copy_async_16(q_ + row_chunk<D>(packed, chunk), static_cast<const bf16*>(a_.q) + from + chunk * 8, there);
    }
    copy_async_commit();
  }

  __device__ void load_kv(int seq, int first, int end, int stage) {
    const std::uint32_t to = q_ + TileState<D>::kQBytes + stage * 2 * kKv;
    load_block<D>(cache_block(a_.k_cache, a_, seq, kv_head_, first), first, end, to, threadIdx.x, kThreads);
    load_block<D>(cache_block(a_.v_cache, a_, seq, kv_head_, first), first, end, to + kKv, threadIdx.x, kThreads);
    copy_async_commit();
  }

  __device__ void run_sequence(int seq, int begin_row, int end_row) {
    Span spans[2], all{INT_MAX, 0};
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      spans[h] = {0, 0};
      if (mine_[h] && row_[h] >= begin_row && row_[h] < end_row) spans[h] = visible(a_, row_[h]);
    }
    for (int row = begin_row; row < end_row; ++row) {
      const Span s = visible(a_, row);
      all.begin = min(all.begin, s.begin), all.end = max(all.end, s.end);
    }
    const int first_block = all.begin / kBlock, end_block = (all.end + kBlock - 1) / kBlock;
    load_kv(seq, first_block * kBlock, all.end, first_block % 2);
    for (int block = first_block; block < end_block; ++block) {
      if (block + 1 < end_block) {
        load_kv(seq, (block + 1) * kBlock, all.end, (block + 1) % 2);
        copy_async_wait<1>();
      } else {
        copy_async_wait<0>();
      }
      __syncthreads();
      const int first = block * kBlock;
      const bool there[2] = {spans[0].meets(first, first + kBlock), spans[1].meets(first, first + kBlock)};
      if (__any_sync(~0u, there[0] || there[1])) {
        const std::uint32_t kv = q_ + TileState<D>::kQBytes + block % 2 * 2 * kKv;
        Partial<D> part;
        attend_block<D>(q_ + warp_ * 16 * D * 2, kv, kv + kKv, a_.scale * kLog2E, first, spans, part);
        merge(state_, part, there);
      }
      if ((block + 1) % kBlocksPerPiece == 0 || block + 1 == end_block) finish_piece(block / kBlocksPerPiece, spans);
      __syncthreads();
    }
  }

  // The piece's result into the total, which lies in shared memory: each thread reads and writes its own numbers.
  __device__ void finish_piece(int piece, const Span (&spans)[2]) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (!spans[h].meets(piece * kPiece, (piece + 1) * kPiece)) continue;
      const Merge by(total_m_[h], state_.m[h]);
      total_m_[h] = by.m;
      total_l_[h] = by(total_l_[h], state_.l[h]);
#pragma unroll
      for (int j = 0; j < D / 8; ++j) {
        float2& t = total_at(h, j);
        t.x = by(t.x, state_.o[j][2 * h]), t.y = by(t.y, state_.o[j][2 * h + 1]);
      }
    }
    state_.clear();
  }

  __device__ float2& total_at(int h, int j) {
    const int packed = warp_ * 16 + lane_ / 4 + h * 8;
    return *reinterpret_cast<float2*>(&total_[packed * D + j * 8 + lane_ % 4 * 2]);
  }

  __device__ void write() {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (!mine_[h] || warp_ * 16 + lane_ / 4 + h * 8 >= kTileRows / group_ * group_) continue;
      bf16* y = static_cast<bf16*>(a_.y) + (static_cast<std::int64_t>(row_[h]) * a_.num_heads + head_[h]) * D;
#pragma unroll
      for (int j = 0; j < D / 8; ++j) {
        const float2 t = total_at(h, j);
        *reinterpret_cast<std::uint32_t*>(y + j * 8 + lane_ % 4 * 2) = pack_bf16(t.x / total_l_[h], t.y / total_l_[h]);
      }
    }
  }

  const AttentionArgs& a_;
  std::uint32_t q_;
  float* total_;
  int warp_ = threadIdx.x / 32, lane_ = threadIdx.x % 32;
  int kv_head_, group_, first_, end_;
  int row_[2], head_[2];
  bool mine_[2];
  float total_m_[2], total_l_[2];
  Partial<D> state_;
};

template <int D>
__global__ void __launch_bounds__(kThreads, 2) attention_tiles_kernel(const __grid_constant__ AttentionArgs a) {
  follow_previous();
  extern __shared__ __align__(128) unsigned char shared[];
  Tile<D> tile(a, shared);
  if (tile.empty()) return;
  const int group = a.num_heads / a.num_kv_heads, per_tile = kTileRows / group;
  const int first = static_cast<int>(blockIdx.x) * per_tile, end = min(a.rows.count(), first + per_tile);
  bool any = false;
  for (int g = first / kGroup * kGroup; g < end; g += kGroup) any = any || through_tiles(a, g);
  if (any) tile.run();
}

template <int D>
void launch(const AttentionArgs& a, cudaStream_t stream) {
  constexpr int kRowBytes = 16 * D * 2 + kWarps * 2 * kBlock * D * 2;
  static_assert(sizeof(PieceResults<D>) <= kWarps * 2 * kBlock * D * 2);
  const int group = a.num_heads / a.num_kv_heads, parts = (group + 15) / 16, rows = a.rows.most;
  const auto y = static_cast<unsigned>(a.num_kv_heads * parts), z = static_cast<unsigned>(rows);
  if (rows < kUnsplitRows && a.scratch) {
    const auto pieces = static_cast<unsigned>((a.max_blocks_per_seq + kBlocksPerPiece - 1) / kBlocksPerPiece);
    cudaFuncSetAttribute(attention_rows_kernel<D, true>, cudaFuncAttributeMaxDynamicSharedMemorySize, kRowBytes);
    launch_kernel(attention_rows_kernel<D, true>, dim3(pieces, y, z), kThreads, kRowBytes, stream, a);
    launch_kernel(attention_combine_kernel<D>, static_cast<unsigned>(rows * a.num_heads), D, 0, stream, a);
  } else {
    cudaFuncSetAttribute(attention_rows_kernel<D, false>, cudaFuncAttributeMaxDynamicSharedMemorySize, kRowBytes);
    launch_kernel(attention_rows_kernel<D, false>, dim3(1, y, z), kThreads, kRowBytes, stream, a);
  }
  if (rows <= kGroup) return;
  const int per_tile = kTileRows / group;
  const dim3 tiles(static_cast<unsigned>((rows + per_tile - 1) / per_tile), static_cast<unsigned>(a.num_kv_heads));
  cudaFuncSetAttribute(attention_tiles_kernel<D>, cudaFuncAttributeMaxDynamicSharedMemorySize, TileState<D>::kBytes);
  launch_kernel(attention_tiles_kernel<D>, tiles, kThreads, TileState<D>::kBytes, stream, a);
}

}  // namespace

bool attention_mma_accepts(const AttentionShape& s) {
  return s.element == Element::bf16 && (s.head_dim == 64 || s.head_dim == 128) && s.block_size == kBlock &&
         s.num_heads / s.num_kv_heads <= kTileRows;
}

std::size_t attention_mma_scratch(const AttentionShape& s) {
  if (s.rows >= kUnsplitRows) return 0;
  const std::size_t pieces = static_cast<std::size_t>((s.max_blocks_per_seq + kBlocksPerPiece - 1) / kBlocksPerPiece);
  return static_cast<std::size_t>(s.rows) * static_cast<std::size_t>(s.num_heads) * pieces *
         static_cast<std::size_t>(s.head_dim + 2) * sizeof(float);
}

void attention_mma(const AttentionArgs& a, cudaStream_t stream) {
  a.head_dim == 64 ? launch<64>(a, stream) : launch<128>(a, stream);
}

}  // namespace cajal::cuda
