#include "simulator/fake_executor.h"

#include <algorithm>
#include <limits>
#include <ostream>
#include <sstream>

#include "base/checked.h"
#include "base/error.h"
#include "simulator/allocation_faults.h"

namespace cajal::simulator {

FakeExecutor::FakeExecutor(const FakeExecutorOptions& options, const FakeModel& model, std::vector<Fault> faults,
                           SimulatedClock& clock)
    : options_(options),
      model_(model),
      faults_(std::move(faults)),
      clock_(clock),
      slots_(static_cast<std::size_t>(options.num_blocks * options.block_size)),
      writes_(slots_.size()) {}

template <class... Parts>
void FakeExecutor::complain(const Parts&... parts) const {
  if (!error_.empty()) return;
  std::ostringstream out;
  out << "launch " << launches_ - 1 << ": ";
  (out << ... << parts);
  error_ = out.str();
}

const Fault* FakeExecutor::due(Fault::Kind kind) const {
  const auto found = std::find_if(faults_.begin(), faults_.end(),
                                  [&](const Fault& f) { return f.kind == kind && f.launch == launches_ - 1; });
  return found == faults_.end() ? nullptr : &*found;
}

FakeExecutor::Slot& FakeExecutor::at(std::span<const std::int32_t> table, std::int64_t position) {
  const std::int64_t block = table[static_cast<std::size_t>(position / options_.block_size)];
  return slots_[static_cast<std::size_t>(block * options_.block_size + position % options_.block_size)];
}

void FakeExecutor::launch(const StepInput& input) {
  const AllocationFaults::Pause pause;
  ++launches_;
  if (phase_ == Phase::launched) complain("launched while a step is under way");
  if (phase_ == Phase::hung) complain("launched although the step before never ended");
  if (!error_.empty()) return;
  tell(input);
  if (due(Fault::Kind::launch_throws)) {
    ++faults_fired_;
    ++failures_in_a_row_;
    phase_ = Phase::idle;
    fail(ErrorCode::unavailable, "simulated: the launch failed");
  }
  phase_ = Phase::launched;
  logit_states_.clear();
  num_rows_ = static_cast<std::int64_t>(input.rows.size());
  touched_.clear();
  if (!check_shape(input)) return;
  copy_blocks(input);
  if (!error_.empty() || !check_rows(input) || !mark_writes(input)) return;
  const bool corrupts = due(Fault::Kind::corrupts);
  corruptions_ += corrupts;
  const TokenRow* before = nullptr;
  for (const TokenRow& row : input.rows) {
    const auto table = input.block_tables[static_cast<std::size_t>(row.seq_index)];
    if ((!before || before->seq_index != row.seq_index) && !check_history(table, row)) return;
    write(table, row, !before && corrupts);
    if (row.token_id >= model_.first_salt_token() && !check_salt(table, row)) return;
    const Slot& slot = at(table, row.position);
    if (row.wants_logits) logit_states_.emplace_back(slot.state, slot.corrupt);
    before = &row;
  }
}

bool FakeExecutor::check_shape(const StepInput& input) {
  const auto rows = static_cast<std::int64_t>(input.rows.size());
  const auto seqs = static_cast<std::int64_t>(input.block_tables.size());
  if (rows == 0) complain("a step without rows");
  if (rows > options_.max_rows) complain(rows, " rows, at most ", options_.max_rows);
  if (seqs > options_.max_num_seqs) complain(seqs, " sequences, at most ", options_.max_num_seqs);
  for (const auto& table : input.block_tables) {
    if (static_cast<std::int64_t>(table.size()) > options_.max_blocks_per_seq)
      complain("a block table of ", table.size(), ", at most ", options_.max_blocks_per_seq);
    for (const std::int32_t block : table)
      if (block <= 0 || block >= options_.num_blocks) complain("a block table names block ", block);
  }
  return error_.empty();
}

void FakeExecutor::copy_blocks(const StepInput& input) {
  for (const BlockCopy& copy : input.block_copies) {
    const bool fits = std::min(copy.from, copy.to) > 0 && std::max(copy.from, copy.to) < options_.num_blocks;
    if (!fits || copy.from == copy.to) return complain("copies block ", copy.from, " to ", copy.to);
    const auto begin = slots_.begin() + copy.from * options_.block_size;
    std::copy(begin, begin + options_.block_size, slots_.begin() + copy.to * options_.block_size);
    touched_.emplace_back(copy.to, 0);
    ++copies_;
  }
}

// Rows of a sequence stand together and in order, and their slots are those of the block table.
bool FakeExecutor::check_rows(const StepInput& input) {
  std::int64_t count = 0;
  std::vector<bool> seen(input.block_tables.size());
  for (std::size_t i = 0; i < input.rows.size(); ++i) {
    const TokenRow& row = input.rows[i];
    const TokenRow* before = i ? &input.rows[i - 1] : nullptr;
    if (row.seq_index < 0 || static_cast<std::size_t>(row.seq_index) >= input.block_tables.size())
      return complain("row ", i, " has seq_index ", row.seq_index), false;
    const auto table = input.block_tables[static_cast<std::size_t>(row.seq_index)];
    const auto blocks = static_cast<std::int64_t>(table.size());
    if (row.token_id < 0 || row.token_id >= vocab_size()) complain("row ", i, " has token ", row.token_id);
    if (row.position < 0 || row.position / options_.block_size >= blocks)
      return complain("row ", i, " is at position ", row.position, " of a table of ", blocks, " blocks"), false;
    if (row.rope_length <= row.position) complain("row ", i, " has rope_length ", row.rope_length);
    const std::int64_t slot = &at(table, row.position) - slots_.data();
    if (row.slot != slot) complain("row ", i, " writes slot ", row.slot, ", its block table says ", slot);
    const bool goes_on = before && before->seq_index == row.seq_index;
    if (goes_on && row.position != before->position + 1) complain("row ", i, " does not follow the one before");
    if (!goes_on && seen[static_cast<std::size_t>(row.seq_index)]) complain("rows of a sequence stand apart");
    seen[static_cast<std::size_t>(row.seq_index)] = true;
    count = goes_on ? count + 1 : 1;
    if (count > options_.max_rows_per_seq) complain("more than ", options_.max_rows_per_seq, " rows of a sequence");
  }
  return error_.empty();
}

bool FakeExecutor::mark_writes(const StepInput& input) {
  for (const TokenRow& row : input.rows) {
    Write& write = writes_[static_cast<std::size_t>(row.slot)];
    if (write.launch == launches_)
      complain("slot ", row.slot, " is written by sequences ", write.seq_index, " and ", row.seq_index);
    write = {launches_, row.seq_index};
    touched_.emplace_back(row.slot / options_.block_size, row.slot % options_.block_size);
  }
  return error_.empty();
}

bool FakeExecutor::check_history(std::span<const std::int32_t> table, const TokenRow& first) {
  std::uint64_t state = model_.root();
  for (std::int64_t p = 0; p < first.position; ++p) {
    const Slot& slot = at(table, p);
    const std::int64_t index = &slot - slots_.data();
    const auto where = [&](const char* what) {
      complain("sequence ", first.seq_index, " reads slot ", index, " for position ", p, ": ", what);
      return false;
    };
    if (writes_[static_cast<std::size_t>(index)].launch == launches_) return where("a row of this step writes it");
    if (slot.position == kPoison) return where("nothing was computed there, or a failed step ruined it");
    if (slot.position != p) return where("it holds another position");
    if (slot.before != state) return where("it was computed for another text");
    state = slot.state;
  }
  return true;
}

void FakeExecutor::write(std::span<const std::int32_t> table, const TokenRow& row, bool corrupt) {
  const Slot* before = row.position ? &at(table, row.position - 1) : nullptr;
  const std::uint64_t state = before ? before->state : model_.root();
  Slot& slot = at(table, row.position);
  slot = {model_.next(state, row.token_id), state, row.position, before ? before->salt : kUnknown,
          corrupt || (before && before->corrupt)};
  // Whatever follows in the block belongs to positions that this sequence has not reached.
  const std::int64_t index = &slot - slots_.data();
  poison_block(index / options_.block_size, index % options_.block_size + 1);
}

bool FakeExecutor::check_salt(std::span<const std::int32_t> table, const TokenRow& row) {
  const std::int32_t salt = row.token_id - model_.first_salt_token();
  for (std::int64_t p = 0; p <= row.position; ++p) {
    Slot& slot = at(table, p);
    if (slot.salt != kUnknown && slot.salt != salt) {
      complain("sequence ", row.seq_index, " of salt ", salt, " reads what salt ", slot.salt, " computed at ", p);
      return false;
    }
    slot.salt = salt;
  }
  return true;
}

void FakeExecutor::poison_block(std::int64_t block, std::int64_t from) {
  const auto begin = slots_.begin() + block * options_.block_size;
  for (auto slot = begin + from; slot != begin + options_.block_size; ++slot) slot->position = kPoison;
}

bool FakeExecutor::wait(std::chrono::nanoseconds at_most) {
  const AllocationFaults::Pause pause;
  if (phase_ != Phase::launched) complain("waits for a step that was not launched");
  if (!error_.empty()) return true;
  if (due(Fault::Kind::hang)) {
    ++faults_fired_;
    phase_ = Phase::hung;
    clock_.advance(at_most);
    return false;
  }
  clock_.advance(options_.step_time);
  if (due(Fault::Kind::wait_throws)) {
    ++faults_fired_;
    ++failures_in_a_row_;
    phase_ = Phase::idle;
    for (const auto& [block, from] : touched_) poison_block(block, from);
    fail(ErrorCode::unavailable, "simulated: the step failed");
  }
  phase_ = Phase::done;
  failures_in_a_row_ = 0;
  rows_ += num_rows_;
  return true;
}

void FakeExecutor::read_logits(std::int64_t i, std::span<float> into) const {
  const AllocationFaults::Pause pause;
  if (phase_ != Phase::done) complain("reads logits of no step");
  if (i < 0 || i >= static_cast<std::int64_t>(logit_states_.size())) complain("reads logits ", i);
  if (static_cast<std::int64_t>(into.size()) != vocab_size()) complain("reads ", into.size(), " logits");
  if (!error_.empty()) return;
  const auto& [state, corrupt] = logit_states_[static_cast<std::size_t>(i)];
  model_.logits(state, into);
  if (corrupt) into.back() = std::numeric_limits<float>::quiet_NaN();
}

void FakeExecutor::tell(const StepInput& input) const {
  if (!story_) return;
  *story_ << "    launch " << launches_ - 1 << ':';
  for (const BlockCopy& copy : input.block_copies) *story_ << " copy " << copy.from << "->" << copy.to;
  for (std::size_t i = 0; i < input.block_tables.size(); ++i) {
    *story_ << "\n      sequence " << i << " in blocks [";
    for (const std::int32_t block : input.block_tables[i]) *story_ << ' ' << block;
    *story_ << " ] computes";
    for (const TokenRow& row : input.rows)
      if (row.seq_index == static_cast<std::int32_t>(i))
        *story_ << ' ' << row.position << ':' << row.token_id << (row.wants_logits ? "*" : "");
  }
  *story_ << '\n';
}

}  // namespace cajal::simulator
