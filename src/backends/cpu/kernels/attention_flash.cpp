// Cuts a step's attention into tiles and chunks and hands them to the threads.
#include "backends/cpu/kernels/attention_kernels.h"
#include "backends/cpu/kernels/attention_order.h"
#include "base/checked.h"
#include "base/thread_pool.h"

namespace cajal::cpu {
namespace {

constexpr std::int64_t kLeastVectors = 12;  // of a tile that is small so that every thread has one
constexpr std::int64_t kUnitsPerThread = 4;

// Chunk number `chunk` of item number `item`.
struct Unit {
  std::int64_t item, chunk;
};

// Scratch memory: the tiles' first rows; a wave of units; the states of a wave and one more; each thread's for a chunk.
struct Scratch {
  std::int64_t tile_rows, index_bytes, unit_bytes, state_floats, states, chunk_bytes, threads;

  Scratch(const FlashParts& parts, std::int64_t rows, std::int64_t group, std::int64_t head_dim, int num_threads)
      : tile_rows(std::max<std::int64_t>(1, parts.tile_vectors / group)),
        index_bytes(round_up<std::int64_t>((rows + 1) * std::int64_t{sizeof(std::int32_t)}, 64)),
        unit_bytes(round_up<std::int64_t>(num_threads * kUnitsPerThread * std::int64_t{sizeof(Unit)}, 64)),
        state_floats(round_up<std::int64_t>(FlashState::floats(tile_rows * group, head_dim), 16)),
        states(num_threads * kUnitsPerThread + 1),
        chunk_bytes(parts.chunk_bytes ? round_up<std::int64_t>(parts.chunk_bytes(head_dim), 64) : 0),
        threads(num_threads) {}

  std::int64_t chunks_at() const {
    return index_bytes + unit_bytes + states * state_floats * std::int64_t{sizeof(float)};
  }
  std::int64_t bytes() const { return chunks_at() + threads * chunk_bytes; }
};

class FlashStep {
 public:
  FlashStep(const AttentionArgs& a, ThreadPool& pool, const FlashParts& parts)
      : a_(a),
        pool_(pool),
        parts_(parts),
        group_(a.num_heads / a.num_kv_heads),
        scratch_(parts, a.rows, group_, a.head_dim, pool.size()),
        first_rows_(reinterpret_cast<std::int32_t*>(a.scratch)),
        units_(reinterpret_cast<Unit*>(a.scratch + scratch_.index_bytes)) {
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
    const std::int64_t share = ceil_div(a_.rows * a_.num_kv_heads, std::int64_t{2} * pool_.size());
    const std::int64_t most = std::min(scratch_.tile_rows, std::max(share, ceil_div(kLeastVectors, group_)));
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

  float* state_memory(std::int64_t index) const {
    auto* floats = reinterpret_cast<float*>(a_.scratch + scratch_.index_bytes + scratch_.unit_bytes);
    return floats + index * scratch_.state_floats;
  }
  std::byte* chunk_memory(int thread) const {
    return a_.scratch + scratch_.chunks_at() + thread * scratch_.chunk_bytes;
  }
  FlashState state(std::int64_t index) const {
    return FlashState::at(state_memory(index), scratch_.tile_rows * group_, a_.head_dim);
  }

  // Every thread owns two states and takes items one by one, those of its own run first: the same kv heads in every layer
  // and step, which it has written to the cache where a step has few rows.
  void run_tiles() {
    pool_.parallel_for_runs(items_, 1, [&](int thread, std::int64_t begin, std::int64_t end) {
      for (std::int64_t item = begin; item < end; ++item)
        run_tile(tile_of(item), state(2 * thread), state(2 * thread + 1), chunk_memory(thread));
    });
  }

  void run_tile(const FlashTile& tile, const FlashState& total, const FlashState& part, std::byte* memory) const {
    const Span chunks = chunks_of(tile);
    parts_.chunk(a_, tile, chunks.begin, total, memory);
    for (std::int64_t chunk = chunks.begin + 1; chunk < chunks.end; ++chunk) {
      parts_.chunk(a_, tile, chunk, part, memory);
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

  // Few items but long contexts: the threads share the (item, chunk) units, in waves as large as there are states. After
  // each, the states of one item are merged in ascending order, into the first of them or into the state that carries an
  // unfinished item from wave to wave.
  void run_chunks() {
    const std::int64_t wave = scratch_.states - 1;
    for (Unit next = {0, chunks_of(tile_of(0)).begin}; next.item < items_;) {
      num_units_ = 0;
      for (; num_units_ < wave && next.item < items_; next = after(next)) units_[num_units_++] = next;
      pool_.parallel_for(num_units_, 1, [&](int thread, std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i)
          parts_.chunk(a_, tile_of(units_[i].item), units_[i].chunk, state(i), chunk_memory(thread));
      });
      pool_.parallel_for(num_units_, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i)
          if (i == 0 || starts_item(units_[i])) merge_item(i);
      });
      if (next.item < items_ && !starts_item(next)) carry(next);
    }
  }

  Unit after(Unit unit) const {
    if (++unit.chunk < chunks_of(tile_of(unit.item)).end) return unit;
    if (++unit.item < items_) unit.chunk = chunks_of(tile_of(unit.item)).begin;
    return unit;
  }
  bool starts_item(Unit unit) const { return unit.chunk == chunks_of(tile_of(unit.item)).begin; }
  FlashState carried() const { return state(scratch_.states - 1); }

  // Merges the wave's units of the item whose first unit there is number i.
  void merge_item(std::int64_t i) const {
    const std::int64_t item = units_[i].item;
    const FlashTile tile = tile_of(item);
    const bool fresh = starts_item(units_[i]);
    const FlashState total = fresh ? state(i) : carried();
    std::int64_t next = fresh ? i + 1 : i;
    for (; next < num_units_ && units_[next].item == item; ++next) parts_.merge(total, state(next), tile.vectors());
    if (units_[next - 1].chunk + 1 == chunks_of(tile).end) parts_.finish(a_, tile, total);
  }

  // The wave's last item goes on with `next`: keeps what it has, unless that is there already.
  void carry(Unit next) const {
    const std::int64_t first = num_units_ - (next.chunk - chunks_of(tile_of(next.item)).begin);
    if (first >= 0) std::copy_n(state_memory(first), scratch_.state_floats, state_memory(scratch_.states - 1));
  }

  const AttentionArgs& a_;
  ThreadPool& pool_;
  const FlashParts& parts_;
  std::int64_t group_;
  Scratch scratch_;
  std::int32_t* first_rows_;
  Unit* units_;
  std::int64_t num_tiles_ = 0, items_ = 0, num_units_ = 0;
};

}  // namespace

void flash_attention(const AttentionArgs& a, ThreadPool& pool, const FlashParts& parts) {
  if (a.rows > 0) FlashStep(a, pool, parts).run();
}

std::size_t flash_scratch_bytes(const FlashParts& parts, const AttentionShape& s, int threads) {
  return static_cast<std::size_t>(Scratch(parts, s.rows, s.num_heads / s.num_kv_heads, s.head_dim, threads).bytes());
}

std::size_t flash_scratch_bytes(const AttentionShape& shape, int threads) {
  return flash_scratch_bytes(FlashParts{}, shape, threads);
}

}  // namespace cajal::cpu
