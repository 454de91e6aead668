#pragma once
// Who attends to what in attention_decode and attention_short: the blocks of
// the cache that all rows see, row by row, unit by unit, in one line, of which
// every thread block has an equal share, or one more. A unit is a kv head, or
// at most 16 of the heads that share it.
#include "backends/cuda/kernels/attention_block.cuh"
#include "backends/cuda/kernels/attention_decode.h"

namespace cajal::cuda {

constexpr int kDecodeRows = kMostDecodeAttentionRows;
static_assert(kDecodeRows < 32, "a lane each, and one behind them");
constexpr int kMostMultiprocessors = 144;
constexpr int kSinglesPerShare = kBlocksPerPiece - 1;  // blocks of a piece that began in another share

constexpr int kSlice = 32,
              kSliceFloats = kSlice + 2;  // columns of a head that are merged
                                          // together, with their m and l

// Sizes that the host and the kernel agree on. A slot is a partial result:
// slices of heads.
struct DealSizes {
  int group, parts, units, heads, slot_floats, most_pieces;

  __host__ __device__ DealSizes(const AttentionShape& s) {
    group = s.num_heads / s.num_kv_heads;
    parts = (group + 15) / 16, units = s.num_kv_heads * parts, heads = group < 16 ? group : 16;
    slot_floats = heads * (s.head_dim / kSlice) * kSliceFloats;
    constexpr std::int64_t kMostBytes = std::int64_t{64} << 20;
    const std::int64_t pieces = (s.max_blocks_per_seq + kBlocksPerPiece - 1) / kBlocksPerPiece,
                       all = s.rows * pieces * units, fit = kMostBytes / (slot_floats * 4);
    most_pieces = static_cast<int>(all < fit ? all : fit);
  }
};

#ifdef __CUDACC__
// n / d, of numbers below 2^24, in a tenth of the instructions that a division
// takes.
__device__ inline int quotient(int n, int d) {
  const int q = static_cast<int>(__fdividef(static_cast<float>(n), static_cast<float>(d))), rest = n - q * d;
  return rest < 0 ? q - 1 : rest >= d ? q + 1 : q;
}

struct Deal {
  int blocks[kDecodeRows + 1], pieces[kDecodeRows + 1];  // before each row
  int ends[kDecodeRows], seqs[kDecodeRows], slots[kDecodeRows];
  int rows, each, more;  // a share has `each` blocks, the first `more` shares one more
  int begin, end;        // this share
  bool whole;            // shares end where items do, since there are more pieces than fit

  // By one warp.
  __device__ void make(const AttentionDecodeArgs& a, const DealSizes& sizes) {
    const AttentionArgs& at = a.attention;
    const int lane = threadIdx.x % 32, entry = min(lane, at.rows.most - 1), seen = at.positions[entry] + 1;
    const int seq = at.seq_indices[entry],
              slot = a.heads.slot_mapping[entry];  // asked for before the rows
                                                   // are counted
    const int count = at.rows.count(), first = first_seen(at, seen);
    const bool there = lane < count;
    if (there) ends[lane] = seen, seqs[lane] = seq, slots[lane] = slot;
    const int all = scan(blocks, there ? ((seen + kBlock - 1) / kBlock - first / kBlock) * sizes.units : 0, count);
    const int all_pieces = scan(pieces, there ? ((seen - 1) / kPiece - first / kPiece + 1) * sizes.units : 0, count);
    __syncwarp();
    if (lane != 0) return;
    const int share = static_cast<int>(blockIdx.x), shares = static_cast<int>(gridDim.x);
    rows = count, each = quotient(all, shares), more = all - each * shares, whole = all_pieces > sizes.most_pieces;
    begin = share_begin(share), end = share_begin(share + 1);
    if (whole) begin = item_from(begin, sizes.units), end = item_from(end, sizes.units);
  }

  static __device__ int first_seen(const AttentionArgs& a, int end) {
    return a.sliding_window > 0 && a.sliding_window < end ? end - static_cast<int>(a.sliding_window) : 0;
  }
  __device__ int share_begin(int share) const { return share * each + min(share, more); }
  // The share that has block `g` of the line.
  __device__ int share_of(int g) const {
    const int in_larger = more * (each + 1);
    return g < in_larger ? quotient(g, each + 1) : more + quotient(g - in_larger, each);
  }
  // The row that block `g` of the line belongs to.
  __device__ int row_of(int g) const {
    int low = 0, high = rows;
#pragma unroll 1
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (blocks[middle] <= g ? low : high) = middle;
    }
    return low;
  }

 private:
  // The first item that begins at `g` or later.
  __device__ int item_from(int g, int units) const {
    if (g >= blocks[rows]) return g;
    const int row = row_of(g), of_item = (blocks[row + 1] - blocks[row]) / units;
    return blocks[row] + (g - blocks[row] + of_item - 1) / of_item * of_item;
  }
  // The sums before each lane's number, the sum of all behind the last.
  static __device__ int scan(int* to, int own, int count) {
    const int lane = threadIdx.x % 32;
    int sum = own;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const int other = __shfl_up_sync(~0u, sum, step);
      if (lane >= step) sum += other;
    }
    if (lane <= count) to[lane] = sum - own;
    return __shfl_sync(~0u, sum, 31);
  }
};

// Item: what one row and unit see.
struct DealtItem {
  int row, unit, begin, blocks, first_block;  // begin: in the line
  int kv_head, part;

  __device__ DealtItem() : row(-1), unit(0), begin(0), blocks(0), first_block(0), kv_head(0), part(0) {}
  __device__ DealtItem(const AttentionArgs& a, const Deal& deal, const DealSizes& sizes, int g) {
    row = deal.row_of(g);
    first_block = Deal::first_seen(a, deal.ends[row]) / kBlock;
    blocks = (deal.ends[row] + kBlock - 1) / kBlock - first_block;
    unit = quotient(g - deal.blocks[row], blocks);
    begin = deal.blocks[row] + unit * blocks;
    kv_head = sizes.parts == 1 ? unit : quotient(unit, sizes.parts), part = unit - kv_head * sizes.parts;
  }
  // The first of the heads, and how many.
  __device__ int first_head(const DealSizes& sizes) const { return kv_head * sizes.group + part * 16; }
  __device__ int heads(const DealSizes& sizes) const { return min(sizes.heads, sizes.group - part * 16); }
  __device__ bool has(int g) const { return g >= begin && g < begin + blocks; }
  __device__ int pieces() const {
    return (first_block + blocks - 1) / kBlocksPerPiece - first_block / kBlocksPerPiece + 1;
  }
  // The piece of block `g`, counted from the item's first; where piece `p`
  // begins and ends in the line.
  __device__ int piece_of(int g) const {
    return (first_block + g - begin) / kBlocksPerPiece - first_block / kBlocksPerPiece;
  }
  __device__ int piece_begin(int p) const {
    return begin + max(0, (first_block / kBlocksPerPiece + p) * kBlocksPerPiece - first_block);
  }
  __device__ int piece_end(int p) const { return min(begin + blocks, piece_begin(p + 1)); }
  __device__ int first_piece(const Deal& deal) const { return deal.pieces[row] + unit * pieces(); }
};
#endif

}  // namespace cajal::cuda
