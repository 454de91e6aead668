#include "engine/ranks/plan.h"

#include <algorithm>
#include <array>

#include "base/checksum.h"
#include "base/error.h"
#include "engine/model_runner.h"

namespace cajal {
namespace {

constexpr std::uint32_t kMagic = 0x314a4143;  // "CAJ1"
// What every plan sends at once: a decode step of a few dozen sequences. Longer ones take a second broadcast.
constexpr std::size_t kFirstBytes = 4096;
constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 32;

struct Header {
  std::uint32_t magic = kMagic;
  PlanKind kind = PlanKind::stop;
  std::uint64_t number = 0, object = 0, body_bytes = 0;
  std::uint64_t history = 0;  // the checksum of this plan and all before it
};
static_assert(std::has_unique_object_representations_v<Header> && sizeof(Header) == 40);

// The history after a plan: of the one before and of all that the plan says.
std::uint64_t extend_history(std::uint64_t history, const Header& header, std::span<const std::byte> body) {
  const std::array<std::uint64_t, 6> all{history,           static_cast<std::uint64_t>(header.kind),
                                         header.number,     header.object,
                                         header.body_bytes, checksum(body)};
  return checksum(std::as_bytes(std::span(all)));
}

[[noreturn]] void fail_short() { fail(ErrorCode::data_loss, "a plan is shorter than it says"); }

}  // namespace

const char* to_string(PlanKind kind) {
  switch (kind) {
    case PlanKind::load_model: return "load a model";
    case PlanKind::make_runner: return "make a runner";
    case PlanKind::make_bucket: return "make a bucket ready";
    case PlanKind::step: return "step";
    case PlanKind::drop: return "drop";
    case PlanKind::stop: return "stop";
  }
  return "unknown";
}

void PlanWriter::put_bytes(std::span<const std::byte> bytes) {
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
}

void PlanWriter::put(const std::string& text) { put_list(std::span<const char>(text)); }

std::span<const std::byte> PlanReader::take(std::uint64_t count, std::size_t size) {
  if (count > left_.size() / size) fail_short();
  const auto taken = left_.first(static_cast<std::size_t>(count) * size);
  left_ = left_.subspan(taken.size());
  return taken;
}

std::string PlanReader::get_text() {
  const auto from = take(get<std::uint64_t>(), 1);
  return {reinterpret_cast<const char*>(from.data()), from.size()};
}

std::size_t PlanReader::get_count(std::size_t least_bytes) {
  const auto count = get<std::uint64_t>();
  if (count > left_.size() / least_bytes) fail_short();
  return static_cast<std::size_t>(count);
}

void PlanReader::expect_end() const {
  if (!left_.empty()) fail(ErrorCode::data_loss, "a plan has ", left_.size(), " bytes more than it says");
}

void write(PlanWriter& to, const StepInput& step) {
  to.put_list(std::span<const BlockCopy>(step.block_copies));
  to.put(static_cast<std::uint64_t>(step.rows.size()));
  for (const TokenRow& row : step.rows) {
    to.put(row.token_id);
    to.put(row.position);
    to.put(row.seq_index);
    to.put(row.slot);
    to.put(row.rope_length);
    to.put(row.wants_logits);
  }
  to.put(static_cast<std::uint64_t>(step.block_tables.size()));
  for (const auto& table : step.block_tables) to.put_list(table);
  to.put(static_cast<std::uint64_t>(step.sampling.size()));
  for (const RowSampling& s : step.sampling) {
    to.put(s.how);
    to.put(s.num_logprobs);
    to.put(s.temperature);
    to.put(s.top_k);
    to.put(s.top_p);
    to.put(s.log_min_p);
    to.put(s.key.seed);
    to.put(s.key.position);
    to.put(s.key.sequence);
  }
}

namespace {

void read_tables(PlanReader& from, ReceivedStep& into) {
  const std::size_t count = from.get_count(sizeof(std::uint64_t));
  into.blocks.clear();
  into.ends.clear();
  for (std::size_t i = 0; i < count; ++i) {
    from.append_list(into.blocks);
    into.ends.push_back(into.blocks.size());
  }
  into.input.block_tables.clear();
  for (std::size_t i = 0, begin = 0; i < count; begin = into.ends[i++])
    into.input.block_tables.push_back(std::span<const std::int32_t>(into.blocks).subspan(begin, into.ends[i] - begin));
}

}  // namespace

void read(PlanReader& from, ReceivedStep& into) {
  StepInput& step = into.input;
  from.get_list(step.block_copies);
  step.rows.resize(from.get_count(5 * sizeof(std::int32_t) + 1));
  for (TokenRow& row : step.rows) {
    row.token_id = from.get<std::int32_t>();
    row.position = from.get<std::int32_t>();
    row.seq_index = from.get<std::int32_t>();
    row.slot = from.get<std::int32_t>();
    row.rope_length = from.get<std::int32_t>();
    row.wants_logits = from.get<bool>();
  }
  read_tables(from, into);
  step.sampling.resize(from.get_count(4 * sizeof(std::int32_t)));
  for (RowSampling& s : step.sampling) {
    s.how = from.get<ChooseHow>();
    s.num_logprobs = from.get<std::int32_t>();
    s.temperature = from.get<float>();
    s.top_k = from.get<std::int32_t>();
    s.top_p = from.get<double>();
    s.log_min_p = from.get<double>();
    s.key.seed = from.get<std::uint64_t>();
    s.key.position = from.get<std::uint64_t>();
    s.key.sequence = from.get<std::uint32_t>();
  }
}

namespace {

void write(PlanWriter& to, const Qwen3Outputs& outputs) {
  to.put(outputs.logits);
  to.put(outputs.last_hidden_state);
  to.put(outputs.chosen_experts);
}

Qwen3Outputs read_outputs(PlanReader& from) {
  Qwen3Outputs outputs;
  outputs.logits = from.get<bool>();
  outputs.last_hidden_state = from.get<bool>();
  outputs.chosen_experts = from.get<bool>();
  return outputs;
}

}  // namespace

void write(PlanWriter& to, const RunnerLimits& limits) {
  to.put(limits.max_num_seqs);
  to.put(limits.max_num_batched_tokens);
  to.put(limits.max_num_logits);
  to.put(limits.max_model_len);
  to.put(limits.num_kv_blocks);
  to.put(limits.choose_on_device);
  write(to, limits.outputs);
}

RunnerLimits read_limits(PlanReader& from) {
  RunnerLimits limits;
  limits.max_num_seqs = from.get<std::int64_t>();
  limits.max_num_batched_tokens = from.get<std::int64_t>();
  limits.max_num_logits = from.get<std::int64_t>();
  limits.max_model_len = from.get<std::int64_t>();
  limits.num_kv_blocks = from.get<std::int64_t>();
  limits.choose_on_device = from.get<bool>();
  limits.outputs = read_outputs(from);
  return limits;
}

void write(PlanWriter& to, const ModelOptions& options) {
  to.put(options.folder);
  to.put(options.dtype.has_value());
  to.put(options.dtype.value_or(DType::f32));
  to.put(options.load_format);
  to.put(options.dummy_seed);
  to.put_list(std::span<const int>(options.quantization.bits));
  to.put(options.quantization.group_size);
  to.put(options.kv_cache_dtype);
  to.put(to_json(options.config_overrides));
  to.put(options.prepared);
  write(to, options.outputs);
  to.put(options.capacity_factor.value_or(0.0));
}

ModelOptions read_model_options(PlanReader& from) {
  ModelOptions options;
  options.folder = from.get_text();
  const bool has_dtype = from.get<bool>();
  const auto dtype = from.get<DType>();
  if (has_dtype) options.dtype = dtype;
  options.load_format = from.get<LoadFormat>();
  options.dummy_seed = from.get<std::uint64_t>();
  std::vector<int> bits;
  from.get_list(bits);
  if (bits.size() != options.quantization.bits.size()) fail_short();
  std::copy(bits.begin(), bits.end(), options.quantization.bits.begin());
  options.quantization.group_size = from.get<int>();
  options.kv_cache_dtype = from.get<KvCacheDType>();
  options.config_overrides = parse_json(from.get_text(), "rank 0's overrides of config.json");
  options.prepared = from.get_text();
  options.outputs = read_outputs(from);
  const auto capacity_factor = from.get<double>();
  if (capacity_factor > 0) options.capacity_factor = capacity_factor;
  return options;
}

void PlanLink::send(PlanKind kind, std::uint64_t object) {
  const auto body = body_.bytes();
  Header header{.kind = kind, .number = number_ + 1, .object = object, .body_bytes = body.size()};
  header.history = extend_history(history_, header, body);
  packet_.resize(std::max(kFirstBytes, sizeof header + body.size()));
  std::memcpy(packet_.data(), &header, sizeof header);
  std::copy(body.begin(), body.end(), packet_.begin() + sizeof header);
  number_ = header.number;
  history_ = header.history;
  world_.broadcast(std::span(packet_).first(kFirstBytes), 0);
  if (packet_.size() > kFirstBytes) world_.broadcast(std::span(packet_).subspan(kFirstBytes), 0);
}

Plan PlanLink::receive() {
  packet_.resize(std::max(packet_.size(), kFirstBytes));
  world_.broadcast(std::span(packet_).first(kFirstBytes), 0);
  Header header;
  std::memcpy(&header, packet_.data(), sizeof header);
  if (header.magic != kMagic || header.body_bytes > kMostBytes)
    fail(ErrorCode::data_loss, "what rank 0 sent after plan ", number_, " is no plan");
  if (header.number != number_ + 1)
    fail(ErrorCode::data_loss, "rank 0 sent plan ", header.number, ", expected ", number_ + 1);
  const std::size_t bytes = sizeof header + static_cast<std::size_t>(header.body_bytes);
  if (bytes > kFirstBytes) {
    packet_.resize(std::max(packet_.size(), bytes));
    world_.broadcast(std::span(packet_).first(bytes).subspan(kFirstBytes), 0);
  }
  const auto body = std::span<const std::byte>(packet_).first(bytes).subspan(sizeof header);
  const std::uint64_t history = extend_history(history_, header, body);
  if (history != header.history)
    fail(ErrorCode::data_loss, "plan ", header.number, " (", to_string(header.kind), ") has the checksum ",
         checksum_text(header.history), ", and what came here has ", checksum_text(history),
         remedy("start all ranks anew, of one build; if it happens again the memory or the network is damaged"));
  number_ = header.number;
  history_ = history;
  return {header.kind, header.object, body};
}

}  // namespace cajal
