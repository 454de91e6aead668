#include "simulator/sabotage.h"

#include <algorithm>
#include <utility>

namespace cajal::simulator {

void SabotagedExecutor::launch(const StepInput& input) {
  num_logits_ = std::count_if(input.rows.begin(), input.rows.end(), [](const TokenRow& r) { return r.wants_logits; });
  const bool spoilt = sabotage_ != Sabotage::none && ++launches_ % 4 == 0;
  if (!spoilt && sabotage_ != Sabotage::lost_copy) return executor_.launch(input);
  StepInput copy = input;
  spoil(copy);
  executor_.launch(copy);
}

void SabotagedExecutor::spoil(StepInput& input) {
  auto& tables = input.block_tables;
  TokenRow& last = input.rows.back();
  // The rows follow, so that nothing contradicts itself and only the contents are wrong.
  const auto change_table = [&](std::int32_t block) {
    auto& table = tables[static_cast<std::size_t>(last.seq_index)];
    const std::int64_t from = std::exchange((table_ = {table.begin(), table.end()}).back(), block);
    table = table_;
    for (TokenRow& row : input.rows)
      if (row.seq_index == last.seq_index && row.slot / block_size_ == from)
        row.slot = static_cast<std::int32_t>(block * block_size_ + row.slot % block_size_);
  };
  switch (sabotage_) {
    case Sabotage::wrong_slot: last.slot = input.rows.front().slot; return;
    case Sabotage::shared_block: return change_table(tables.front().back());
    case Sabotage::stale_block: return change_table(tables[static_cast<std::size_t>(last.seq_index)].front());
    case Sabotage::lost_copy: return input.block_copies.clear();
    case Sabotage::wrong_token: last.token_id = last.token_id ? last.token_id - 1 : 1; return;
    case Sabotage::wrong_position: ++last.position; return;
    default: return;
  }
}

void SabotagedExecutor::read_logits(std::int64_t i, std::span<float> into) const {
  executor_.read_logits(sabotage_ == Sabotage::swapped_logits ? num_logits_ - 1 - i : i, into);
}

}  // namespace cajal::simulator
