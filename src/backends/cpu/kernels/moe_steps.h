#pragma once
// What the kernels that work by expert have around their products: the rows that chose an expert are brought together,
// experts that nobody chose are not touched, and at the end every row gathers what its experts made.
#include <algorithm>
#include <optional>

#include "backends/cpu/kernels/moe.h"
#include "backends/cpu/kernels/moe_layout.h"
#include "base/thread_pool.h"

namespace cajal::cpu {

// Where in an expert's weights a piece of work begins.
struct MoeUnit {
  std::int32_t expert;
  std::int64_t tile;
};

// Tiles of one expert, times all rows that chose it. `after`: what this thread probably works on next.
struct MoePiece {
  std::int32_t expert;
  std::int64_t tile_begin, tile_end;
  std::optional<MoeUnit> after;
  bool fetched;  // the first tiles probably are in a cache: they were `after` before
  int thread;    // that works on it
};

class MoeSteps {
 public:
  MoeSteps(const MoeArgs& args, const MoeScratch& at, std::uint32_t isa, ThreadPool& pool);

  void sort_pairs();  // before all else
  // Cuts the work of one product in units: as many tiles of an expert as its blocks take at once, in the order of experts.
  // tiles_a_unit(rows of an expert) says how many; work(const MoePiece&) is called on any thread.
  template <class TilesAUnit, class Work>
  void for_units(std::int64_t tiles, const TilesAUnit& tiles_a_unit, const Work& work) {
    std::int32_t* units = ints(at_.units);
    units[0] = 0;
    for (std::int32_t i = 0; i < num_active_; ++i)
      units[i + 1] = units[i] + static_cast<std::int32_t>(ceil_div(tiles, tiles_a_unit(group_rows(expert_at(i)))));
    const std::int64_t total = units[num_active_];
    const std::int64_t grain = std::clamp<std::int64_t>(total / (16 * pool_.size()), 1, 4);
    pool_.parallel_for_runs(total, grain, [&](int thread, std::int64_t begin, std::int64_t end) {
      bool fetched = !pool_.begins_run(total, begin);
      while (begin < end) {
        const std::int32_t i = active_of_unit(begin);
        const std::int64_t stop = std::min<std::int64_t>(end, units[i + 1]);
        const MoeUnit first = *unit_at(begin, tiles_a_unit);
        const std::int64_t step = tiles_a_unit(group_rows(first.expert));
        work(MoePiece{.expert = first.expert,
                      .tile_begin = first.tile,
                      .tile_end = std::min(first.tile + (stop - begin) * step, tiles),
                      .after = unit_at(stop, tiles_a_unit),
                      .fetched = fetched,
                      .thread = thread});
        begin = stop;
        fetched = true;
      }
    });
  }
  void activate();  // gate_up of all pairs to hidden
  void combine();   // out of all pairs to y; if partial, every pair's to its own place

  std::int64_t num_pairs() const { return num_pairs_; }    // whose experts are here
  std::int32_t num_active() const { return num_active_; }  // experts that some row chose
  std::int32_t group_rows(std::int32_t expert) const { return first_position(expert + 1) - first_position(expert); }
  std::int32_t first_position(std::int32_t expert) const { return ints(at_.begin)[expert]; }
  const std::int32_t* pairs() const { return ints(at_.pairs); }  // by position
  std::int64_t row_bytes(std::int64_t columns) const { return columns * static_cast<std::int64_t>(size_of(a_.dtype)); }
  std::byte* bytes(std::size_t offset) const { return a_.scratch + offset; }

 private:
  void scatter();
  std::int32_t* ints(std::size_t offset) const { return reinterpret_cast<std::int32_t*>(a_.scratch + offset); }
  std::int32_t expert_at(std::int32_t i) const { return ints(at_.active)[i]; }
  std::int32_t active_of_unit(std::int64_t unit) const;
  template <class TilesAUnit>
  std::optional<MoeUnit> unit_at(std::int64_t unit, const TilesAUnit& tiles_a_unit) const {
    if (unit >= ints(at_.units)[num_active_]) return std::nullopt;
    const std::int32_t i = active_of_unit(unit), expert = expert_at(i);
    return MoeUnit{expert, (unit - ints(at_.units)[i]) * tiles_a_unit(group_rows(expert))};
  }

  const MoeArgs& a_;
  const MoeScratch at_;
  const std::uint32_t isa_;
  ThreadPool& pool_;
  std::int64_t num_pairs_ = 0;
  std::int32_t num_active_ = 0;
};

}  // namespace cajal::cpu
