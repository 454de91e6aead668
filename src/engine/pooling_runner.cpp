#include "engine/pooling_runner.h"

#include <algorithm>

#include "base/checked.h"
#include "engine/export/export_limits.h"

namespace cajal {
namespace {

using Texts = std::span<const std::vector<std::int32_t>>;

std::int64_t length(const std::vector<std::int32_t>& text) { return static_cast<std::int64_t>(text.size()); }

constexpr std::int32_t kSpareBlock = 0;  // where padding writes to

// Where the run is: texts before `text` are done, and the first `computed` tokens of this one are in the cache. Texts come
// and go in their order and share nothing, so a list of free blocks is all there is to know of the cache.
class Composer {
 public:
  Composer(Texts texts, WantedRows wanted, const RunnerLimits& limits)
      : texts_(texts), wanted_(wanted), limits_(limits), tables_(static_cast<std::size_t>(limits.max_num_seqs)) {
    for (std::int64_t b = limits.num_kv_blocks - 1; b > kSpareBlock; --b)
      free_.push_back(checked_cast<std::int32_t>(b, "block number"));
    for (auto& table : tables_) table.reserve(static_cast<std::size_t>(ceil_div(limits.max_model_len, kKvBlockSize)));
  }

  bool done() const { return text_ == texts_.size(); }
  const std::vector<PoolingRunner::Row>& rows_wanted() const { return rows_wanted_; }

  // The rows of the next step, texts in their order, and of the last one as much as there is room for.
  const StepInput& compose() {
    release_finished();
    step_.rows.clear();
    step_.block_tables.clear();
    rows_wanted_.clear();
    std::int64_t room = limits_.max_num_batched_tokens;
    while (room > 0 && !done() && static_cast<std::int64_t>(step_.block_tables.size()) < limits_.max_num_seqs) {
      const std::int64_t count = std::min(length(texts_[text_]) - computed_, room);
      add_rows(count);
      room -= count;
    }
    return step_;
  }

 private:
  // Frees the blocks of what the last step finished; the text that goes on becomes the first of the next.
  void release_finished() {
    const std::size_t used = step_.block_tables.size();
    if (used > 0 && computed_ > 0) std::swap(tables_[0], tables_[used - 1]);
    for (std::size_t s = computed_ > 0 ? 1 : 0; s < used; ++s) {
      free_.insert(free_.end(), tables_[s].rbegin(), tables_[s].rend());
      tables_[s].clear();
    }
  }

  void add_rows(std::int64_t count) {
    const std::vector<std::int32_t>& ids = texts_[text_];
    const auto seq_index = static_cast<std::int32_t>(step_.block_tables.size());
    std::vector<std::int32_t>& table = tables_[step_.block_tables.size()];
    while (static_cast<std::int64_t>(table.size()) < ceil_div(computed_ + count, kKvBlockSize)) {
      CAJAL_CHECK(!free_.empty(), "the pool has room for every text of a step");
      table.push_back(free_.back());
      free_.pop_back();
    }
    step_.block_tables.emplace_back(table);
    for (std::int64_t p = computed_; p < computed_ + count; ++p) {
      const bool last = p + 1 == length(ids);
      const bool wanted = wanted_ == WantedRows::all || (wanted_ == WantedRows::last ? last : p == 0);
      const std::int64_t slot = table[static_cast<std::size_t>(p / kKvBlockSize)] * kKvBlockSize + p % kKvBlockSize;
      step_.rows.push_back({ids[static_cast<std::size_t>(p)], static_cast<std::int32_t>(p), seq_index,
                            static_cast<std::int32_t>(slot), static_cast<std::int32_t>(length(ids)), wanted});
      if (wanted)
        rows_wanted_.push_back(
            {text_, p, last || wanted_ == WantedRows::first, static_cast<std::int64_t>(rows_wanted_.size())});
    }
    computed_ += count;
    if (computed_ < length(ids)) return;
    ++text_;
    computed_ = 0;
  }

  Texts texts_;
  WantedRows wanted_;
  const RunnerLimits& limits_;
  std::vector<std::int32_t> free_;                 // blocks
  std::vector<std::vector<std::int32_t>> tables_;  // of the step's texts, by seq_index
  std::size_t text_ = 0;
  std::int64_t computed_ = 0;
  StepInput step_;
  std::vector<PoolingRunner::Row> rows_wanted_;
};

}  // namespace

std::int64_t num_pooling_blocks(const RunnerLimits& limits) {
  // At most one text is older than the step; every other one has its rows of the step, and one block that is not full.
  return 1 + ceil_div(limits.max_model_len, kKvBlockSize) + limits.max_num_seqs +
         ceil_div(limits.max_num_batched_tokens, kKvBlockSize);
}

RunnerLimits PoolingRunner::limits_for(Texts texts, WantedRows wanted) const {
  std::int64_t longest = 0, all = 0;
  for (const auto& text : texts) {
    CAJAL_CHECK(!text.empty(), "a text without tokens");
    longest = std::max(longest, length(text));
    all += length(text);
  }
  if (const ExportFolder* exported = model_.exported(); exported && encodes_only(exported->recipe().graph.outputs)) {
    const RunnerLimits limits = runner_limits(exported->neuron_config(), outputs_);
    CAJAL_CHECK(longest <= limits.max_model_len, "a text is longer than what the model was exported for");
    return limits;
  }
  RunnerLimits limits;
  limits.max_num_seqs = std::min(options_.max_num_seqs, static_cast<std::int64_t>(texts.size()));
  limits.max_num_batched_tokens = std::min(options_.max_num_batched_tokens, all);
  limits.max_num_logits = wanted == WantedRows::all ? limits.max_num_batched_tokens : limits.max_num_seqs;
  limits.max_model_len = longest;
  limits.num_kv_blocks = num_pooling_blocks(limits);
  limits.outputs = outputs_;
  return limits;
}

void PoolingRunner::run(Texts texts, WantedRows wanted, const OnRow& on_row) const {
  if (texts.empty()) return;
  const RunnerLimits limits = limits_for(texts, wanted);
  ModelRunner runner(model_, limits);
  Composer composer(texts, wanted, limits);
  while (!composer.done()) {
    if (options_.before_step) options_.before_step();
    runner.run(composer.compose());
    for (const Row& row : composer.rows_wanted()) on_row(row, runner);
  }
}

}  // namespace cajal
