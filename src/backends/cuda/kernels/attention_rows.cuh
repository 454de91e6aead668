#pragma once
// What the rows of a tile of attention are, found by all threads together: one after the other they would take longer to
// read than to attend to.
#include "backends/cuda/kernels/attention_block.cuh"
#include "backends/cuda/kernels/attention_tiles.cuh"

namespace cajal::cuda {

constexpr int kGroups = 2, kGroupThreads = 128, kGroupRows = 64;  // warpgroups that attend, and their packed rows
constexpr int kPackedRows = kGroups * kGroupRows;

// Positions that some rows see, in blocks.
struct Seen {
  int first = INT_MAX, end = 0;

  __device__ void add(unsigned mask, const Span& span) {  // by all threads of `mask` together
    const int least = __reduce_min_sync(mask, span.begin), most = __reduce_max_sync(mask, span.end);
    if (static_cast<int>(threadIdx.x) % 32 != __ffs(mask) - 1) return;
    atomicMin(&first, least), atomicMax(&end, most);
  }
  __device__ bool any() const { return first < end; }
  __device__ int begin_block() const { return first / kBlock; }
  __device__ int end_block() const { return (end + kBlock - 1) / kBlock; }
};

// A run of rows of one sequence.
struct Run {
  int seq, begin_row;
  Seen all, of_group[kGroups];  // of all rows, and of those that a warpgroup has
};

// In shared memory.
struct RowMap {
  int num_runs;
  unsigned starts[kGroupThreads / 32];
  bool tiles[kGroupThreads / kGroup];  // of kGroup rows each, from the one on that has the first row
  int positions[kPackedRows];
  Run runs[kPackedRows + 1];  // the last one's end

  __device__ Span span(const AttentionArgs& a, int i) const {
    const int end = positions[i] + 1;
    return {a.sliding_window > 0 && a.sliding_window < end ? end - static_cast<int>(a.sliding_window) : 0, end};
  }
};

// The rows of a tile.
struct TileRows {
  int first, end, group;  // group: heads of a kv head

  __device__ int group_first(int g) const { return first + g * kGroupRows / group; }
  __device__ int group_end(int g) const { return min(end, first + ((g + 1) * kGroupRows - 1) / group + 1); }
};

// What one of the first warpgroup's threads knows of its row, counted from the first of the tile's first kGroup rows.
struct MappedRow {
  int row, seq = -1;
  bool inside = false, starts = false, through_tiles = false;
};

// Reads the rows; the map's starts, positions and tiles.
__device__ inline MappedRow read_row(const AttentionArgs& a, const TileRows& tile, RowMap& map) {
  const int thread = static_cast<int>(threadIdx.x), count = a.rows.count();
  MappedRow r{tile.first / kGroup * kGroup + thread};
  const bool there = r.row < count;
  const int before = r.row > 0 && r.row <= count ? a.seq_indices[r.row - 1] : -1,
            position = there ? a.positions[r.row] : 0;
  if (there) r.seq = a.seq_indices[r.row];
  const unsigned changes =
      __ballot_sync(~0u, there && thread % kGroup != 0 && r.seq != before) >> (thread % 32 / kGroup * kGroup);
  const int first = r.row / kGroup * kGroup;
  r.through_tiles = tiles_for(a.rows.most, __popc(changes & 0xffff), min(count, first + kGroup) - first);
  r.inside = r.row >= tile.first && r.row < tile.end;
  r.starts = r.inside && (r.row == tile.first || r.seq != before);
  if (thread % kGroup == 0) map.tiles[thread / kGroup] = r.through_tiles;
  if (r.inside) map.positions[r.row - tile.first] = position;
  map.runs[thread] = {};
  const unsigned starts = __ballot_sync(~0u, r.starts);
  if (thread % 32 == 0) map.starts[thread / 32] = starts;
  return r;
}

// The runs of rows that have been read.
__device__ inline void map_runs(const AttentionArgs& a, const TileRows& tile, const MappedRow& r, RowMap& map) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  int run = __popc(map.starts[thread / 32] & ((2u << lane) - 1)) - 1, total = 0;
  for (int i = 0; i < kGroupThreads / 32; ++i) {
    if (i < thread / 32) run += __popc(map.starts[i]);
    total += __popc(map.starts[i]);
  }
  if (thread == 0) map.num_runs = total, map.runs[total].begin_row = tile.end;
  if (r.starts) map.runs[run].seq = r.seq, map.runs[run].begin_row = r.row;
  const unsigned together = __match_any_sync(~0u, r.inside ? run : -1);
  if (!r.inside) return;
  const Span span = map.span(a, r.row - tile.first);
  map.runs[run].all.add(together, span);
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    const unsigned own = __ballot_sync(together, r.row >= tile.group_first(g) && r.row < tile.group_end(g));
    if (own >> lane & 1) map.runs[run].of_group[g].add(own, span);
  }
}

// Fills the map, for all threads of the block. Whether any of the rows go through tiles.
__device__ inline bool map_rows(const AttentionArgs& a, const TileRows& tile, RowMap& map) {
  const bool mapping = threadIdx.x < kGroupThreads;
  MappedRow r{};
  if (mapping) r = read_row(a, tile, map);
  if (!__syncthreads_or(r.inside && r.through_tiles)) return false;
  if (mapping) map_runs(a, tile, r, map);
  __syncthreads();
  return true;
}

}  // namespace cajal::cuda
