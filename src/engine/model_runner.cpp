#include "engine/model_runner.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include "base/checked.h"

namespace cajal {

std::vector<std::int64_t> bucket_sizes(std::int64_t max_num_batched_tokens) {
  std::vector<std::int64_t> sizes;
  for (std::int64_t n = 1; n < max_num_batched_tokens; n *= 2) sizes.push_back(n);
  sizes.push_back(max_num_batched_tokens);
  return sizes;
}

Bucket bucket_of(const RunnerLimits& limits, std::int64_t rows) {
  return {rows, limits.max_num_seqs, ceil_div(limits.max_model_len, kKvBlockSize),
          std::min(rows, limits.max_num_logits)};
}

ModelRunner::ModelRunner(const Model& model, const RunnerLimits& limits)
    : model_(model), limits_(limits), bucket_sizes_(bucket_sizes(limits.max_num_batched_tokens)) {
  CAJAL_CHECK(limits.max_num_seqs > 0 && limits.max_num_batched_tokens > 0 && limits.max_num_logits > 0 &&
              limits.max_model_len > 0 && limits.num_kv_blocks > 1);
  if (RankLeader* const ranks = model.on_all_ranks().leader())
    on_all_ranks_ = ranks->make_runner(model.on_all_ranks(), limits, [this] { allocate_states(); });
  else
    allocate_states();
}

Bucket ModelRunner::bucket(std::int64_t rows) const {
  const auto size = std::lower_bound(bucket_sizes_.begin(), bucket_sizes_.end(), rows);
  CAJAL_CHECK(size != bucket_sizes_.end(), rows, " rows, at most ", limits_.max_num_batched_tokens, " fit a step");
  return bucket_of(limits_, *size);
}

void ModelRunner::allocate_states() {
  const Graph graph = model_.graph(bucket(1), limits_.outputs);
  rope_depends_on_length_ = graph.find_leaf(names::kRopeLengths).has_value();
  for (const Node& node : graph.nodes()) {
    const auto* state = std::get_if<ops::State>(&node.op);
    if (!state) continue;
    TensorType type = graph.type(node.results[0]);
    type.shape[0] = limits_.num_kv_blocks;
    states_[state->name] = model_.backend().allocate(type.bytes());
    kv_cache_bytes_ += type.bytes();
  }
}

void ModelRunner::bind(Executable& executable) {
  executable.bind({[this](const std::string& name) -> Buffer& { return model_.parameter(name); },
                   [this](const std::string& name) -> Buffer& { return *states_.at(name); }, arena_.get()});
}

Executable& ModelRunner::executable(std::int64_t rows) {
  const Bucket b = bucket(rows);
  auto& executable = executables_[b.num_tokens];
  if (executable) return *executable;
  if (RankLeader* const ranks = on_all_ranks_.leader())
    ranks->make_bucket(on_all_ranks_, rows, [&] { make_executable(b); });
  else
    make_executable(b);
  return *executable;
}

void ModelRunner::make_executable(const Bucket& bucket) {
  auto& executable = executables_[bucket.num_tokens];
  executable = model_.backend().compile(model_.graph(bucket, limits_.outputs));
  if (limits_.outputs.logits && limits_.choose_on_device) executable->choose_from(0);
  if (!arena_ || arena_->bytes() < executable->plan().arena_bytes) {
    last_ = nullptr;  // its logits lie in the old arena
    arena_ = model_.backend().allocate(executable->plan().arena_bytes);
    for (auto& [size, older] : executables_)
      if (older) bind(*older);  // one that could not be made is none
  } else {
    bind(*executable);
  }
}

void ModelRunner::warm_up(std::span<const std::int64_t> rows) {
  for (const auto n : rows) executable(n);
}

namespace {

class InputFiller {
 public:
  explicit InputFiller(Executable& executable) : executable_(executable) {}
  std::span<std::int32_t> ints(const char* name) {
    const auto bytes = executable_.input(name);
    return {reinterpret_cast<std::int32_t*>(bytes.data()), bytes.size() / sizeof(std::int32_t)};
  }
  // Rows beyond those of the step are padding: token 0 at position 0 of sequence 0, written to the spare block.
  template <class Get>
  void fill(const char* name, const StepInput& step, Get get) {
    const auto into = ints(name);
    for (std::size_t i = 0; i < step.rows.size(); ++i) into[i] = get(step.rows[i]);
    std::fill(into.begin() + static_cast<std::ptrdiff_t>(step.rows.size()), into.end(), 0);
  }

 private:
  Executable& executable_;
};

}  // namespace

namespace {

// Piece by piece, of a size that the compiler makes vector instructions of.
void widen_bf16(const std::byte* row, std::span<float> into) {
  constexpr std::size_t kPiece = 16;
  std::uint16_t bits[kPiece];
  float* to = into.data();
  for (std::size_t left = into.size(); left > 0;) {
    const std::size_t count = std::min(left, kPiece);
    if (count == kPiece) {
      std::memcpy(bits, row, sizeof bits);
      for (std::size_t i = 0; i < kPiece; ++i) to[i] = bf16_to_float(bits[i]);
    } else {
      std::memcpy(bits, row, count * sizeof *bits);
      for (std::size_t i = 0; i < count; ++i) to[i] = bf16_to_float(bits[i]);
    }
    row += count * sizeof *bits, to += count, left -= count;
  }
}

}  // namespace

void ModelRunner::copy_blocks(std::span<const BlockCopy> copies) {
  for (const BlockCopy& copy : copies)
    for (auto& [name, state] : states_) {
      const std::size_t block = state->bytes() / static_cast<std::size_t>(limits_.num_kv_blocks);
      state->copy_within(static_cast<std::size_t>(copy.from) * block, static_cast<std::size_t>(copy.to) * block, block);
    }
}

void ModelRunner::run(const StepInput& step) {
  launch(step);
  const bool finished = wait(std::chrono::nanoseconds::max());
  CAJAL_CHECK(finished);
}

void ModelRunner::launch(const StepInput& step) {
  CAJAL_CHECK(!step.rows.empty() && static_cast<std::int64_t>(step.block_tables.size()) <= limits_.max_num_seqs);
  Executable& executable = this->executable(static_cast<std::int64_t>(step.rows.size()));
  const auto here = [&] { launch_here(executable, step); };
  if (RankLeader* const ranks = on_all_ranks_.leader())
    ranks->step(on_all_ranks_, step, std::cref(here));
  else
    here();
}

void ModelRunner::launch_here(Executable& executable, const StepInput& step) {
  InputFiller filler(executable);
  filler.fill(names::kInputIds, step, [](const TokenRow& r) { return r.token_id; });
  filler.fill(names::kPositions, step, [](const TokenRow& r) { return r.position; });
  filler.fill(names::kSlotMapping, step, [](const TokenRow& r) { return r.slot; });
  filler.fill(names::kSeqIndices, step, [](const TokenRow& r) { return r.seq_index; });
  if (rope_depends_on_length_) filler.fill(names::kRopeLengths, step, [](const TokenRow& r) { return r.rope_length; });

  const auto tables = filler.ints(names::kBlockTables);
  const auto width = tables.size() / static_cast<std::size_t>(limits_.max_num_seqs);
  for (std::size_t s = 0; s < step.block_tables.size(); ++s)
    std::copy(step.block_tables[s].begin(), step.block_tables[s].end(),
              tables.begin() + static_cast<std::ptrdiff_t>(s * width));

  const auto wanted = filler.ints(names::kLogitsIndices);
  std::size_t num_logits = 0;
  for (std::size_t i = 0; i < step.rows.size(); ++i) {
    if (!step.rows[i].wants_logits) continue;
    CAJAL_CHECK(num_logits < wanted.size(), "more rows want logits than the bucket has");
    wanted[num_logits++] = static_cast<std::int32_t>(i);
  }
  std::fill(wanted.begin() + static_cast<std::ptrdiff_t>(num_logits), wanted.end(), 0);

  CAJAL_CHECK(step.sampling.empty() || step.sampling.size() == num_logits);
  const bool all_chosen = tell_sampling(executable, step.sampling);
  num_choices_ = std::ssize(step.sampling);
  copy_blocks(step.block_copies);
  launched_ = executable.launch(
      {static_cast<std::int64_t>(step.rows.size()), static_cast<std::int64_t>(num_logits), all_chosen});
  last_ = &executable;
}

// Whether all rows of logits have their tokens chosen by the device.
bool ModelRunner::tell_sampling(Executable& executable, std::span<const RowSampling> rows) {
  const std::span<RowSampling> into = executable.sampling();
  if (into.empty()) return false;
  std::fill(std::copy(rows.begin(), rows.end(), into.begin()), into.end(), RowSampling{});
  return !rows.empty() &&
         std::all_of(rows.begin(), rows.end(), [](const RowSampling& s) { return s.how != ChooseHow::on_host; });
}

const RowChoice* ModelRunner::choice(std::int64_t i) const {
  CAJAL_CHECK(last_ != nullptr);
  const std::span<const RowChoice> choices = last_->choices();
  if (choices.empty() || i >= num_choices_) return nullptr;
  const RowChoice& choice = choices[static_cast<std::size_t>(i)];
  return choice.status == ChoiceStatus::on_host ? nullptr : &choice;
}

bool ModelRunner::wait(std::chrono::nanoseconds at_most) { return !last_ || last_->wait_for(launched_, at_most); }

void ModelRunner::read_logits(std::int64_t i, std::span<float> into) const {
  CAJAL_CHECK(limits_.outputs.logits && static_cast<std::int64_t>(into.size()) == vocab_size());
  read_row(0, i, into);
}

void ModelRunner::read_last_hidden_state(std::int64_t i, std::span<float> into) const {
  CAJAL_CHECK(limits_.outputs.last_hidden_state && static_cast<std::int64_t>(into.size()) == hidden_size());
  read_row(limits_.outputs.logits ? 1 : 0, i, into);
}

std::span<const std::int32_t> ModelRunner::chosen_experts(std::int64_t mixture, std::int64_t row) const {
  CAJAL_CHECK(last_ != nullptr && limits_.outputs.chosen_experts);
  const std::int64_t first = limits_.outputs.logits + limits_.outputs.last_hidden_state;
  const auto top_k = static_cast<std::size_t>(model_.config().num_experts_per_tok);
  const std::span<const std::byte> bytes = last_->output(static_cast<std::size_t>(first + mixture));
  const std::span ids(reinterpret_cast<const std::int32_t*>(bytes.data()), bytes.size() / sizeof(std::int32_t));
  return ids.subspan(static_cast<std::size_t>(row) * top_k, top_k);
}

void ModelRunner::read_row(std::size_t output, std::int64_t i, std::span<float> into) const {
  CAJAL_CHECK(last_ != nullptr);
  const std::byte* row =
      last_->output(output).data() + static_cast<std::size_t>(i) * into.size() * size_of(model_.dtype());
  if (model_.dtype() == DType::f32) {
    std::memcpy(into.data(), row, into.size_bytes());
    return;
  }
  CAJAL_CHECK(model_.dtype() == DType::bf16);
  widen_bf16(row, into);
}

}  // namespace cajal
