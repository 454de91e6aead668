#include "backends/cpu/head_chooser.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "backends/cpu/kernels/linear_ref.h"
#include "backends/cpu/kernels/quant_blocks.h"
#include "tensor/pack.h"

namespace cajal::cpu {
namespace {

constexpr int kStepsBeforeSketch = 32;  // as many as save what making it takes
constexpr int kPauseAfterFailure = 64;  // steps, where bounds left too many tokens
constexpr std::int64_t kMostShare = 4;  // one token in so many may be left by the bounds
constexpr std::size_t kUnitsOfRun = 8;  // that lie side by side, computed at once
constexpr int kIntegerBits = 8;
constexpr float kLargestInteger = 127, kLeastUnit = 1e-30f;
constexpr double kLargestNorm = 1e18;  // of a row of activations, so that no bound is infinite by itself

std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

std::int64_t num_wanted(const RowSampling& how) { return how.how == ChooseHow::greedy ? 1 : how.top_k; }

// What is stored as a logit may be larger than the product by less than half of this share of it; and logits that differ by less
// may be the same after a division by the temperature.
float share_of_rounding(DType dtype) { return dtype == DType::bf16 ? 0x1p-7f : 0x1p-21f; }

double norm_of(std::span<const float> row) {
  double squares = 0;
  for (const float v : row) squares += static_cast<double>(v) * static_cast<double>(v);
  return std::sqrt(squares);
}

// Of the product of a row's norm and that of the activations: what rounded additions can come to, in any order of them, and
// those of the bounds, a few for each group, of sketched rows whose norms are at most as many times larger as the root says.
double share_of_additions(std::int64_t columns) {
  const auto count = static_cast<double>(columns);
  const double of_bounds = (count / SketchLayout::kGroupColumns + 16) * std::sqrt(count) * 0x1p-22;
  return 2 * (count + 64) * 0x1p-23 + of_bounds;
}

// The first part of a unit that is computed next: from there on the kernel fetches by itself.
void fetch(const std::byte* unit) {
  constexpr std::int64_t kBytes = 2048;
  for (std::int64_t at = 0; at < kBytes; at += 64) __builtin_prefetch(unit + at);
}

// Inner loops of so many rounds become vector instructions.
constexpr std::size_t kLanes = 16;

// Calls body(i) for the values that are not below the threshold, which may rise meanwhile, until it says false; whether it never did.
template <class Body>
bool for_each_not_below(std::span<const float> values, const float& threshold, const Body& body) {
  for (std::size_t i = 0; i < values.size(); i += kLanes) {
    const std::size_t end = std::min(i + kLanes, values.size());
    if (end == i + kLanes) {
      std::uint32_t any = 0;
      const float now = threshold;
      for (std::size_t lane = 0; lane < kLanes; ++lane) any |= std::uint32_t{!(values[i + lane] < now)};
      if (any == 0) continue;
    }
    for (std::size_t at = i; at < end; ++at)
      if (!(values[at] < threshold) && !body(static_cast<std::int64_t>(at))) return false;
  }
  return true;
}

float round_up(double v) { return static_cast<float>(v * (1 + 0x1p-20)); }

}  // namespace

HeadChooser::HeadChooser(std::shared_ptr<HeadSketch> sketch, const HeadProduct& head, std::int64_t max_rows,
                         int threads)
    : sketch_(std::move(sketch)), head_(head) {
  const std::int64_t tile = rows_per_tile(head.weight), rows = std::min<std::int64_t>(max_rows, kMostSketchInputs);
  unit_rows_ = std::max(tile, SketchLayout::kTileRows);
  const std::int64_t tiles = ceil_div(head.args.out_features, tile);
  unit_bytes_ = static_cast<std::int64_t>(head.weight.bytes()) / tiles * (unit_rows_ / tile);
  const LinearShape shape{head.args.dtype,
                          head.weight.storage,
                          rows,
                          head.args.in_features,
                          static_cast<std::int64_t>(kUnitsOfRun) * unit_rows_,
                          head.args.sum_parts};
  scratch_bytes_ =
      head.kernel->scratch_bytes ? cajal::round_up<std::size_t>(head.kernel->scratch_bytes(shape, 1), 64) : 0;
  scratch_.resize(scratch_bytes_ * static_cast<std::size_t>(threads));
  runs_.resize(size(rows * shape.out_features) * sizeof(float) * static_cast<std::size_t>(threads));
  sampling_.resize(size(max_rows)), choices_.resize(size(max_rows)), thresholds_.resize(size(rows));
  const SketchLayout& layout = sketch_->layout();
  inputs_.assign(size(rows), SketchInput(layout));
  exact_.resize(size(head.args.in_features));
  if (head.weight.quantized())
    rounded_.resize(size(RoundedRow{head.args.in_features, head.args.quantized.group_size}.bytes()));
  bounds_.resize(size(rows * layout.tiles() * (1 + SketchLayout::kTileRows)));
  listed_.resize(size(num_units()));
  max_units_ = num_units() / kMostShare;
  const std::size_t most = size(max_units_);
  units_.reserve(most), logits_.resize(most * size(rows * unit_rows_));
  sorted_.reserve(most * size(unit_rows_)), candidates_.reserve(most * size(unit_rows_));
  likeliest_.reserve(most + 1);
  packet_.resize(size(PacketRoom{max_units_ * unit_rows_, 0}.bytes()));
}

std::int64_t HeadChooser::tokens_in(std::int64_t unit) const {
  return std::min(unit_rows_, head_.args.out_features - unit * unit_rows_);
}

// The bounds of all rows of activations stand in front of those of rows of the head.
SketchBounds HeadChooser::bounds_memory(std::int64_t row) {
  const std::int64_t tiles = sketch_->layout().tiles();
  float* const of_rows = bounds_.data() + std::ssize(inputs_) * tiles;
  return {bounds_.data() + row * tiles, of_rows + row * tiles * SketchLayout::kTileRows};
}

std::span<const float> HeadChooser::bounds_of(std::int64_t row) const {
  const std::int64_t tiles = sketch_->layout().tiles();
  return std::span(bounds_).subspan(size(row * tiles), size(tiles));
}

std::span<float> HeadChooser::logits_of(std::size_t listed, std::int64_t row) {
  const std::size_t rows = inputs_.size();
  return std::span(logits_).subspan((listed * rows + size(row)) * size(unit_rows_), size(tokens_in(units_[listed])));
}

bool HeadChooser::wants_few_logits(std::int64_t rows) const {
  if (rows < 1 || rows > std::ssize(inputs_)) return false;
  return std::all_of(sampling_.begin(), sampling_.begin() + rows, [this](const RowSampling& how) {
    if (how.num_logprobs >= 0) return false;  // they are shares of the sum over all
    if (how.how == ChooseHow::greedy) return true;
    return how.how == ChooseHow::draw && how.top_k > 0 && how.top_k <= max_units_;
  });
}

bool HeadChooser::make_sketch(const StepRows& step, ThreadPool& pool) {
  if (sketch_->made()) return true;
  if (step.num_tokens > kMostSketchInputs || ++steps_without_ <= kStepsBeforeSketch) return false;
  sketch_->make(head_.args.weight, pool);
  return true;
}

// The row as the kernel multiplies by it; false if that is not finite.
bool HeadChooser::read_exact_input(std::int64_t row) {
  const LinearArgs& a = head_.args;
  const std::byte* const from = a.x + row * a.in_features * static_cast<std::int64_t>(size_of(a.dtype));
  if (!head_.weight.quantized()) {
    for (std::int64_t k = 0; k < a.in_features; ++k) exact_[size(k)] = load_element(from, k, a.dtype);
    return true;  // if not, its norm says so
  }
  const RoundedRow layout{a.in_features, a.quantized.group_size};
  round_row(kQuantBlocksAvx512Vnni, layout, a.dtype, kIntegerBits, from, rounded_.data());
  for (std::int64_t k = 0; k < a.in_features; ++k) {
    const std::byte* const group = rounded_.data() + k / layout.group_size * layout.group_bytes();
    std::int32_t exponent;
    std::memcpy(&exponent, group + layout.group_size, sizeof exponent);
    const auto q = static_cast<std::int8_t>(group[k % layout.group_size]);
    exact_[size(k)] = static_cast<float>(q) * power_of_two(exponent >> 23);
  }
  return layout.finite(rounded_.data());
}

// Of the row that was read: what an integer of the sketch's columns [first, first + exact.size()) stands for. Where the kernel
// has rounded them, all with the same unit, nothing is lost.
float HeadChooser::unit_of_group(std::size_t first, std::span<const float> exact) const {
  float unit = kLeastUnit;
  if (!head_.weight.quantized()) {
    for (const float v : exact) unit = std::max(unit, std::fabs(v) / kLargestInteger);
    return unit;
  }
  const RoundedRow layout{head_.args.in_features, head_.args.quantized.group_size};
  for (std::size_t k = first; k < first + exact.size(); k += size(layout.group_size)) {
    const std::byte* const group =
        rounded_.data() + static_cast<std::int64_t>(k) / layout.group_size * layout.group_bytes();
    std::int32_t exponent;
    std::memcpy(&exponent, group + layout.group_size, sizeof exponent);
    unit = std::max(unit, power_of_two(exponent >> 23));
  }
  return unit;
}

// False if the row is not finite, or too large.
bool HeadChooser::round_input(std::int64_t row) {
  if (!read_exact_input(row)) return false;
  SketchInput& input = inputs_[size(row)];
  const double norm = norm_of(exact_);
  if (!(norm < kLargestNorm)) return false;
  double squares_off = 0;
  for (std::size_t first = 0; first < exact_.size(); first += SketchLayout::kGroupColumns) {
    const std::size_t count = std::min<std::size_t>(SketchLayout::kGroupColumns, exact_.size() - first);
    const auto exact = std::span<const float>(exact_).subspan(first, count);
    squares_off += input.set_group(static_cast<std::int64_t>(first / SketchLayout::kGroupColumns), exact,
                                   unit_of_group(first, exact));
  }
  const double noise = std::sqrt(squares_off) + share_of_additions(head_.args.in_features) * norm;
  input.noise = std::max(round_up(noise), std::numeric_limits<float>::min());
  return true;
}

bool HeadChooser::list(std::int64_t unit) {
  if (listed_[size(unit)]) return true;
  if (std::ssize(units_) == max_units_) return false;
  listed_[size(unit)] = 1;
  units_.push_back(static_cast<std::int32_t>(unit));
  return true;
}

// The units of as many tiles as the row wants tokens: those of the largest bounds.
bool HeadChooser::list_likeliest(std::int64_t row) {
  const std::size_t wanted = size(num_wanted(sampling_[size(row)]));
  const std::span<const float> bounds = bounds_of(row);
  const auto larger = [&](std::int32_t a, std::int32_t b) { return bounds[size(a)] > bounds[size(b)]; };
  float least = -std::numeric_limits<float>::infinity();
  likeliest_.clear();  // a heap, the least likely in front
  for_each_not_below(bounds, least, [&](std::int64_t tile) {
    likeliest_.push_back(static_cast<std::int32_t>(tile));
    std::push_heap(likeliest_.begin(), likeliest_.end(), larger);
    if (likeliest_.size() > wanted) {
      std::pop_heap(likeliest_.begin(), likeliest_.end(), larger);
      likeliest_.pop_back();
      least = bounds[size(likeliest_.front())];
    }
    return true;
  });
  return std::all_of(likeliest_.begin(), likeliest_.end(),
                     [this](std::int32_t tile) { return list(tile / tiles_in_unit()); });
}

bool HeadChooser::list_possible(std::int64_t rows) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::span<const float> bounds = bounds_of(r);
    const float threshold = thresholds_[size(r)];
    const bool all_listed =
        for_each_not_below(bounds, threshold, [this](std::int64_t tile) { return list(tile / tiles_in_unit()); });
    if (!all_listed) return false;
  }
  // Side by side what lies side by side, whichever row wanted it.
  std::sort(units_.begin() + static_cast<std::ptrdiff_t>(num_likeliest_), units_.end());
  return true;
}

// Units [first, last) of the list, which lie side by side.
void HeadChooser::compute_run(std::size_t first, std::size_t last, std::int64_t rows, std::size_t thread) {
  LinearArgs a = head_.args;
  const std::int64_t unit = units_[first];
  a.weight += unit * unit_bytes_;
  a.rows = rows;
  a.out_features = (units_[last - 1] - unit) * unit_rows_ + tokens_in(units_[last - 1]);
  a.scratch = scratch_.data() + thread * scratch_bytes_;
  a.y = runs_.data() + thread * (inputs_.size() * kUnitsOfRun * size(unit_rows_) * sizeof(float));
  head_.kernel->run(a, alone_);
  for (std::size_t i = first; i < last; ++i)
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::span<float> to = logits_of(i, r);
      const std::int64_t from = r * a.out_features + static_cast<std::int64_t>(i - first) * unit_rows_;
      for (std::size_t n = 0; n < to.size(); ++n)
        to[n] = load_element(a.y, from + static_cast<std::int64_t>(n), a.dtype);
    }
}

void HeadChooser::compute_logits(std::size_t first, std::int64_t rows, ThreadPool& pool) {
  const std::size_t count = units_.size() - first;
  const auto piece = [&](int thread, std::int64_t begin, std::int64_t end) {
    for (std::size_t i = first + size(begin), last; i < first + size(end); i = last) {
      last = i + 1;
      while (last < first + size(end) && last - i < kUnitsOfRun && units_[last] == units_[last - 1] + 1) ++last;
      if (last < units_.size()) fetch(head_.args.weight + units_[last] * unit_bytes_);
      compute_run(i, last, rows, static_cast<std::size_t>(thread));
    }
  };
  pool.parallel_for(static_cast<std::int64_t>(count), kUnitsOfRun, piece);
}

// The least logit that the row could choose, lowered by what makes logits equal; nothing if one is not finite.
std::optional<float> HeadChooser::threshold_of(std::int64_t row) {
  sorted_.clear();
  for (std::size_t i = 0; i < units_.size(); ++i) {
    const std::span<const float> logits = logits_of(i, row);
    sorted_.insert(sorted_.end(), logits.begin(), logits.end());
  }
  const bool finite = std::all_of(sorted_.begin(), sorted_.end(), [](float v) { return std::isfinite(v); });
  if (!finite) return std::nullopt;
  const auto kth = sorted_.begin() + num_wanted(sampling_[size(row)]) - 1;
  std::nth_element(sorted_.begin(), kth, sorted_.end(), std::greater<>());
  constexpr float kDenormal = 1e-30f;
  return *kth - std::fabs(*kth) * share_of_rounding(head_.args.dtype) - kDenormal;
}

RowChoice HeadChooser::decide_row(std::int64_t row) {
  const RowSampling& how = sampling_[size(row)];
  Packet packet(packet_.data(), {max_units_ * unit_rows_, 0});
  *packet.body = {};
  packet.body->best_left_out = -std::numeric_limits<float>::infinity();
  ShardHead head{.largest = -std::numeric_limits<float>::infinity(), .token_id = -1, .not_finite = 0};
  std::size_t count = 0;
  for (std::size_t i = 0; i < units_.size(); ++i) {
    const ShardLogits unit{logits_of(i, row), units_[i] * unit_rows_};
    const ShardHead of_unit = head_of(unit);
    head.not_finite |= of_unit.not_finite;
    const bool before = of_unit.largest == head.largest && of_unit.token_id < head.token_id;
    if (head.token_id < 0 || of_unit.largest > head.largest || before)
      head.largest = of_unit.largest, head.token_id = of_unit.token_id;
    for (std::size_t n = 0; n < unit.logits.size(); ++n) {
      const float logit = unit.logits[n];
      if (logit < thresholds_[size(row)]) continue;
      packet.candidates[count++] = {how.temperature == 1 ? logit : logit / how.temperature, logit,
                                    static_cast<std::int32_t>(unit.first_id + static_cast<std::int64_t>(n))};
    }
  }
  packet.body->num_candidates = static_cast<std::int32_t>(count);
  return decide(how, head, {&packet, 1}, head_.args.out_features, candidates_);
}

void HeadChooser::choose_nothing() { std::fill(choices_.begin(), choices_.end(), RowChoice{}); }

ThreadPool::Upcoming HeadChooser::upcoming() const {
  if (!sketch_->made() || pause_ > 0) return {head_.args.weight, num_units(), unit_bytes_};
  return sketch_->upcoming();
}

bool HeadChooser::choose_among_few(std::int64_t rows, ThreadPool& pool) {
  units_.clear();
  std::fill(listed_.begin(), listed_.end(), std::uint8_t{0});
  SketchBounds bounds[kMostSketchInputs] = {};
  for (std::int64_t r = 0; r < rows; ++r) bounds[r] = bounds_memory(r);
  sketch_->bound(inputs_.data(), static_cast<int>(rows), bounds, pool);
  for (std::int64_t r = 0; r < rows; ++r)
    if (!list_likeliest(r)) return false;
  compute_logits(0, rows, pool);
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::optional<float> threshold = threshold_of(r);
    if (!threshold) return false;
    thresholds_[size(r)] = *threshold;
  }
  for (std::int64_t r = 0; r < rows; ++r) sketch_->refine(inputs_[size(r)], thresholds_[size(r)], bounds[r], pool);
  num_likeliest_ = units_.size();
  if (!list_possible(rows)) return false;
  compute_logits(num_likeliest_, rows, pool);
  for (std::int64_t r = 0; r < rows; ++r) choices_[size(r)] = decide_row(r);
  return std::none_of(choices_.begin(), choices_.begin() + rows,
                      [](const RowChoice& choice) { return choice.status == ChoiceStatus::on_host; });
}

std::optional<std::uint64_t> HeadChooser::bytes_at_least(std::int64_t rows) const {
  if (!sketch_->made() || rows < 1 || rows > std::ssize(inputs_)) return std::nullopt;
  return static_cast<std::uint64_t>(sketch_->layout().coarse_bytes());
}

bool HeadChooser::choose(const StepRows& step, ThreadPool& pool) {
  const std::int64_t rows = step.num_logits;
  choose_nothing();
  if (!wants_few_logits(rows) || !make_sketch(step, pool)) return false;
  if (pause_ > 0) return --pause_, false;
  for (std::int64_t r = 0; r < rows; ++r)
    if (!round_input(r)) return false;
  if (choose_among_few(rows, pool)) return true;
  choose_nothing();
  pause_ = kPauseAfterFailure;
  return false;
}

}  // namespace cajal::cpu
