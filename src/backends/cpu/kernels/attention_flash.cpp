// Cuts a step's attention into tiles and chunks and hands them to the threads.
#include <atomic>

#include "backends/cpu/kernels/attention_kernels.h"
#include "backends/cpu/kernels/attention_order.h"
#include "base/thread_pool.h"

namespace cajal::cpu {
namespace {

constexpr std::int64_t kTileVectors = 64;  // their state stays in the L2 cache, and a key is read once for all of them
constexpr std::int64_t kUnitsPerThread = 4;

std::int64_t rows_per_tile(std::int64_t group) { return std::max<std::int64_t>(1, kTileVectors / group); }

// Scratch memory: the tiles' first rows, then the states: kUnitsPerThread a thread and one more.
struct Scratch {
  std::int64_t index_bytes, state_floats;

  Scratch(std::int64_t rows, std::int64_t group, std::int64_t head_dim)
      : index_bytes(((rows + 1) * static_cast<std::int64_t>(sizeof(std::int32_t)) + 63) / 64 * 64),
        state_floats(FlashState::floats(rows_per_tile(group) * group, head_dim)) {}

  static std::int64_t states(int threads) { return threads * kUnitsPerThread + 1; }
};

class FlashStep {
 public:
  FlashStep(const AttentionArgs& a, ThreadPool& pool, const FlashParts& parts)
      : a_(a),
        pool_(pool),
        parts_(parts),
        group_(a.num_heads / a.num_kv_heads),
        vectors_(rows_per_tile(group_) * group_),
        scratch_(a.rows, group_, a.head_dim),
        first_rows_(reinterpret_cast<std::int32_t*>(a.scratch)) {
    find_tiles();
  }

  void run() {
    items_ = num_tiles_ * a_.num_kv_heads;
    const bool few = items_ < pool_.size() * kUnitsPerThread && pool_.size() > 1;
    if (few && count_units() > items_)
      run_chunks();
    else
      run_tiles();
  }

 private:
  // Tiles are runs of rows of one sequence with consecutive positions.
  void find_tiles() {
    const std::int64_t most = rows_per_tile(group_);
    std::int64_t first = 0;
    for (std::int64_t row = 0; row < a_.rows; ++row) {
      const bool follows = row > 0 && a_.seq_indices[row] == a_.seq_indices[row - 1] &&
                           a_.positions[row] == a_.positions[row - 1] + 1 && row - first < most;
      if (follows) continue;
      first_rows_[num_tiles_++] = static_cast<std::int32_t>(row);
      first = row;
    }
    first_rows_[num_tiles_] = static_cast<std::int32_t>(a_.rows);
  }

  // Items are (kv head, tile); a sequence's last tile is its longest and comes first.
  FlashTile tile_of(std::int64_t item) const {
    const std::int64_t tile = num_tiles_ - 1 - item % num_tiles_, kv_head = item / num_tiles_;
    const std::int64_t row = first_rows_[tile];
    return {row, first_rows_[tile + 1] - row, kv_head, kv_head * group_, group_, a_.positions[row]};
  }

  // Numbers of the chunks that the rows of a tile see.
  Span chunks_of(const FlashTile& tile) const {
    const Span first = visible(tile.first_position, a_.sliding_window);
    return {first.begin / kChunk, (tile.first_position + tile.rows - 1) / kChunk + 1};
  }

  FlashState state(std::int64_t index) const {
    auto* floats = reinterpret_cast<float*>(a_.scratch + scratch_.index_bytes);
    return FlashState::at(floats + index * scratch_.state_floats, vectors_, a_.head_dim);
  }

  // Every thread takes items one by one and owns two states.
  void run_tiles() {
    std::atomic<std::int64_t> next{0};
    pool_.parallel_for(pool_.size(), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t slot = begin; slot < end; ++slot)
        for (std::int64_t item; (item = next.fetch_add(1, std::memory_order_relaxed)) < items_;)
          run_tile(tile_of(item), state(2 * slot), state(2 * slot + 1));
    });
  }

  void run_tile(const FlashTile& tile, const FlashState& total, const FlashState& part) const {
    const Span chunks = chunks_of(tile);
    parts_.chunk(a_, tile, chunks.begin, total);
    for (std::int64_t chunk = chunks.begin + 1; chunk < chunks.end; ++chunk) {
      parts_.chunk(a_, tile, chunk, part);
      parts_.merge(total, part, tile.vectors());
    }
    parts_.finish(a_, tile, total);
  }

  std::int64_t count_units() const {
    std::int64_t units = 0;
    for (std::int64_t item = 0; item < items_; ++item) {
      const Span chunks = chunks_of(tile_of(item));
      units += chunks.end - chunks.begin;
    }
    return units;
  }

  // Few items but long contexts: the units are (item, chunk). They run in waves as large as there are states; after each,
  // its states are merged in ascending order into one more, which an unfinished item keeps until the next wave.
  void run_chunks() {
    const std::int64_t wave = pool_.size() * kUnitsPerThread;
    for (Unit first = {0, chunks_of(tile_of(0)).begin}; first.item < items_;) {
      Unit end = first;
      std::int64_t units = 0;
      for (; units < wave && end.item < items_; ++units) end = after(end);
      pool_.parallel_for(units, 1, [&](std::int64_t from, std::int64_t to) {
        Unit unit = first;
        for (std::int64_t i = 0; i < to; ++i, unit = after(unit))
          if (i >= from) parts_.chunk(a_, tile_of(unit.item), unit.chunk, state(i));
      });
      merge_wave(first, units, wave);
      first = end;
    }
  }

  struct Unit {
    std::int64_t item, chunk;
  };
  Unit after(Unit unit) const {
    if (++unit.chunk < chunks_of(tile_of(unit.item)).end) return unit;
    if (++unit.item < items_) unit.chunk = chunks_of(tile_of(unit.item)).begin;
    return unit;
  }

  void merge_wave(Unit unit, std::int64_t units, std::int64_t carried) const {
    const FlashState total = state(carried);
    for (std::int64_t i = 0; i < units; ++i, unit = after(unit)) {
      const FlashTile tile = tile_of(unit.item);
      const Span chunks = chunks_of(tile);
      if (unit.chunk == chunks.begin) std::fill_n(total.l, tile.vectors(), 0.0f);
      parts_.merge(total, state(i), tile.vectors());
      if (unit.chunk + 1 == chunks.end) parts_.finish(a_, tile, total);
    }
  }

  const AttentionArgs& a_;
  ThreadPool& pool_;
  const FlashParts& parts_;
  std::int64_t group_, vectors_;
  Scratch scratch_;
  std::int32_t* first_rows_;
  std::int64_t num_tiles_ = 0, items_ = 0;
};

}  // namespace

void flash_attention(const AttentionArgs& a, ThreadPool& pool, const FlashParts& parts) {
  if (a.rows > 0) FlashStep(a, pool, parts).run();
}

std::size_t flash_scratch_bytes(const AttentionShape& s, int threads) {
  const Scratch scratch(s.rows, s.num_heads / s.num_kv_heads, s.head_dim);
  return static_cast<std::size_t>(scratch.index_bytes) +
         static_cast<std::size_t>(scratch.state_floats * Scratch::states(threads)) * sizeof(float);
}

}  // namespace cajal::cpu
