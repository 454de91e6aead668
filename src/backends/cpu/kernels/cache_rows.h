#pragma once
// How the rows of a step that go into a KV cache are handed to the threads.
#include <algorithm>

#include "backends/cpu/kernels/elementwise.h"
#include "backends/cpu/kernels/elementwise_scalar.h"
#include "base/thread_pool.h"

namespace cajal::cpu {

// row_grain() of rows that are written to a KV cache. Neighbouring positions share cache lines of a packed tile, so long
// prompts are cut in pieces of whole blocks: threads that take turns at a few rows each pull those lines back and forth.
inline std::int64_t cache_write_grain(std::int64_t rows, std::int64_t columns, int threads) {
  return std::max(row_grain(columns), std::min<std::int64_t>(rows / (std::int64_t{4} * threads), 64));
}

// Rows begin..end-1 of QkNormRopeKvWriteArgs and its kv heads first..last-1, with the heads of q that go with them.
struct RowsOfHeads {
  std::int64_t begin, end, first, last;
};

// Calls write(part) for all rows and heads. Those of a sequence or two that are being decoded wait for memory rather than for
// arithmetic and go head by head: attention hands heads out in the same way, so that a thread reads what it has written.
template <class Write>
void hand_out_cache_rows(const QkNormRopeKvWriteArgs& a, ThreadPool& pool, const Write& write) {
  constexpr std::int64_t kFewRows = 2;
  if (a.rows <= kFewRows) {
    const std::int64_t grain = ceil_div<std::int64_t>(a.num_kv_heads, pool.size());
    pool.parallel_for_runs(a.num_kv_heads, grain, [&](std::int64_t first, std::int64_t last) {
      write(RowsOfHeads{0, a.rows, first, last});
    });
    return;
  }
  const std::int64_t columns = (a.num_heads + 2 * a.num_kv_heads) * a.head_dim;
  pool.parallel_for(a.rows, cache_write_grain(a.rows, columns, pool.size()), [&](std::int64_t begin, std::int64_t end) {
    write(RowsOfHeads{begin, end, 0, a.num_kv_heads});
  });
}

}  // namespace cajal::cpu
