#include "models/neuron_config.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "models/config_reader.h"

namespace cajal {
namespace {

constexpr std::int64_t kMost = std::int64_t{1} << 31;  // of any length or number in the file
constexpr std::int64_t kMostRanks = 1 << 16;
constexpr std::string_view kSerializedKey = "NxDNeuronConfig";
constexpr std::int64_t kDefaultChunk = 1024, kDefaultSequence = 4096;
// Fields of earlier versions of Optimum Neuron whose value changes nothing here.
constexpr std::array<std::string_view, 2> kOldFields = {"enable_bucketing", "embedding_model"};

// Calls f("field", member) for all of them, in the order of the file.
template <class Config, class F>
void visit_fields(Config& c, F&& f) {
  f("_serialized_key", c.serialized_key);
  f("batch_size", c.batch_size);
  f("capacity_factor", c.capacity_factor);
  f("checkpoint_id", c.checkpoint_id);
  f("checkpoint_revision", c.checkpoint_revision);
  f("continuous_batching", c.continuous_batching);
  f("ep_degree", c.ep_degree);
  f("fused_qkv", c.fused_qkv);
  f("glu_mlp", c.glu_mlp);
  f("local_ranks_size", c.local_ranks_size);
  f("max_batch_size", c.max_batch_size);
  f("max_context_length", c.max_context_length);
  f("max_topk", c.max_topk);
  f("n_active_tokens", c.n_active_tokens);
  f("neuronxcc_version", c.neuronxcc_version);
  f("on_device_sampling", c.on_device_sampling);
  f("optimum_neuron_version", c.optimum_neuron_version);
  f("output_logits", c.output_logits);
  f("pp_degree", c.pp_degree);
  f("prefill_chunk_size", c.prefill_chunk_size);
  f("sequence_length", c.sequence_length);
  f("speculation_length", c.speculation_length);
  f("start_rank_id", c.start_rank_id);
  f("target", c.target);
  f("torch_dtype", c.torch_dtype);
  f("tp_degree", c.tp_degree);
}

std::string_view torch_name(DType dtype) {
  return dtype == DType::f32 ? "float32" : dtype == DType::f16 ? "float16" : "bfloat16";
}

// Most fields count something that there is at least one of.
std::int64_t least(std::string_view key) {
  if (key == "max_topk") return -1;  // 0 and -1: candidates are not limited
  return key == "prefill_chunk_size" || key == "speculation_length" || key == "start_rank_id" ? 0 : 1;
}

class FieldReader {
 public:
  explicit FieldReader(const ConfigReader& reader) : reader_(reader) {}

  void operator()(const char* key, std::int64_t& into) const {
    reader_.optional(key, into, {least(key), is_degree(key) ? kMostRanks : kMost});
  }
  void operator()(const char* key, bool& into) const { reader_.optional(key, into); }
  void operator()(const char* key, std::string& into) const { reader_.required(key, into); }
  void operator()(const char* key, std::optional<std::string>& into) const {
    if (!reader_.find(key)) return;
    reader_.required(key, into.emplace());
  }
  void operator()(const char* key, std::optional<double>& into) const {
    if (!reader_.find(key)) return;
    reader_.required(key, into.emplace(), {0, 1e6});
  }
  void operator()(const char* key, DType& into) const {
    std::string name(torch_name(into));
    reader_.optional(key, name);
    if (name.starts_with("torch.")) name.erase(0, 6);
    for (const DType dtype : {DType::bf16, DType::f16, DType::f32})
      if (name == torch_name(dtype)) {
        into = dtype;
        return;
      }
    reader_.fail_value(key, *reader_.find(key), "bfloat16, float16 or float32");
  }

 private:
  static bool is_degree(std::string_view key) { return key.ends_with("_degree"); }
  const ConfigReader& reader_;
};

class FieldWriter {
 public:
  explicit FieldWriter(Json& into) : into_(into) {}
  template <class T>
  void operator()(const char* key, const T& value) const {
    into_.set(key, value);
  }
  template <class T>
  void operator()(const char* key, const std::optional<T>& value) const {
    into_.set(key, value ? Json(*value) : Json());
  }
  void operator()(const char* key, DType value) const { into_.set(key, torch_name(value)); }

 private:
  Json& into_;
};

void check_stamps(const ConfigReader& r) {
  for (const char* key : {"optimum_neuron_version", "_serialized_key", "neuronxcc_version"})
    if (!r.find(key))
      fail(ErrorCode::data_loss, r.where(), ": Invalid neuron configuration: missing mandatory ", key, " attribute.",
           remedy("take the file that the export wrote, or export again"));
  std::string key;
  r.required("_serialized_key", key);
  if (key != kSerializedKey)
    fail(ErrorCode::unsupported, r.where(), ": No neuron configuration registered for the ", key,
         " serialized key, expected ", kSerializedKey, remedy("export a text model"));
}

void check_known(const ConfigReader& r) {
  NeuronConfig any;
  for (const auto& member : r.object().as_object()) {
    bool known = std::find(kOldFields.begin(), kOldFields.end(), member.first) != kOldFields.end();
    visit_fields(any, [&](const char* name, const auto&) { known = known || member.first == name; });
    if (!known)
      fail(ErrorCode::data_loss, r.where(), ": '", member.first, "' is no field of ", kSerializedKey,
           remedy("remove it, or export again"));
  }
}

// Lengths that follow from others where the file leaves them open.
void fill_in(const ConfigReader& r, NeuronConfig& c) {
  const auto unset = [&](const char* key) { return !r.find(key); };
  if (unset("max_batch_size")) c.max_batch_size = c.batch_size;
  if (unset("max_context_length")) c.max_context_length = c.sequence_length;
  if (unset("n_active_tokens")) c.n_active_tokens = c.sequence_length;
  if (unset("local_ranks_size")) c.local_ranks_size = c.world_size();
}

template <class... Parts>
[[noreturn]] void incompatible(std::string_view where, const Parts&... parts) {
  fail(ErrorCode::invalid_argument, where, ": ", parts...);
}

void check_lengths(const NeuronConfig& c, std::string_view where) {
  if (c.max_batch_size < c.batch_size)
    incompatible(where, "max_batch_size is ", c.max_batch_size, ", and batch_size ", c.batch_size, " is larger",
                 remedy("make max_batch_size at least batch_size"));
  const auto within = [&](const char* name, std::int64_t value) {
    if (value > c.sequence_length)
      incompatible(where, name, " is ", value, ", and a sequence has at most ", c.sequence_length,
                   " tokens (sequence_length)", remedy("lower it, or raise sequence_length"));
  };
  within("max_context_length", c.max_context_length);
  within("prefill_chunk_size", c.prefill_chunk_size);
  within("speculation_length", c.speculation_length);
}

}  // namespace

void check_neuron_config(const NeuronConfig& c, std::string_view where) {
  if (c.speculation_length > 0 && c.on_device_sampling)
    incompatible(where, "Speculative decoding is incompatible with on-device sampling: speculation_length is ",
                 c.speculation_length, ", and on_device_sampling is true",
                 remedy("set speculation_length to 0 or on_device_sampling to false"));
  if (c.speculation_length > 0 && c.prefill_chunk_size > 0)
    incompatible(where, "Chunked prefill is incompatible with speculative decoding: prefill_chunk_size is ",
                 c.prefill_chunk_size, ", and speculation_length is ", c.speculation_length,
                 remedy("set one of them to 0"));
  check_lengths(c, where);
}

NeuronConfig read_neuron_config(const Json& config, std::string_view file) {
  const ConfigReader r(config, std::string(file));
  check_stamps(r);
  check_known(r);
  NeuronConfig c;
  visit_fields(c, FieldReader(r));
  fill_in(r, c);
  check_neuron_config(c, file);
  return c;
}

std::string to_json_text(const NeuronConfig& config) {
  Json json;
  visit_fields(config, FieldWriter(json));
  return to_json(json, 2) + "\n";
}

namespace {

// Tokens are neither guessed nor chosen where none is generated.
void refuse_generation(const NeuronConfigWish& wish) {
  const auto refuse = [](const char* name) {
    incompatible("the export", name, " is asked for, and texts that are only encoded have no tokens to generate",
                 remedy("leave it out, or export for text-generation"));
  };
  if (wish.speculation_length.value_or(0) > 0) refuse("speculation_length");
  if (wish.on_device_sampling.value_or(false)) refuse("on_device_sampling");
  if (wish.output_logits.value_or(false)) refuse("output_logits");
}

}  // namespace

NeuronConfig make_neuron_config(const NeuronConfigWish& wish, const Qwen3Config& model, DType dtype) {
  NeuronConfig c;
  c.torch_dtype = dtype;
  c.batch_size = c.max_batch_size = wish.batch_size.value_or(1);
  c.sequence_length = wish.sequence_length.value_or(std::min(model.max_position_embeddings, kDefaultSequence));
  c.max_context_length = wish.max_context_length.value_or(c.sequence_length);
  c.n_active_tokens = c.sequence_length;
  c.speculation_length = wish.speculation_length.value_or(0);
  const bool chunked = c.sequence_length > kDefaultChunk && c.speculation_length == 0 && !wish.max_context_length;
  c.prefill_chunk_size = wish.prefill_chunk_size.value_or(chunked ? kDefaultChunk : 0);
  c.tp_degree = wish.tp_degree.value_or(1);
  c.ep_degree = wish.ep_degree.value_or(1);
  c.local_ranks_size = c.world_size();
  if (wish.encodes) refuse_generation(wish);
  c.continuous_batching = c.batch_size > 1 && !wish.encodes;
  c.fused_qkv = model.num_experts == 0;
  const bool samples = c.speculation_length == 0 && !(c.continuous_batching && c.tp_degree == 2);
  c.on_device_sampling = wish.on_device_sampling.value_or(samples && !wish.encodes);
  c.output_logits = wish.output_logits.value_or(!wish.encodes);
  c.max_topk = wish.max_topk.value_or(c.max_topk);
  c.capacity_factor = wish.capacity_factor;
  check_neuron_config(c, "the export");
  return c;
}

BucketLimits limits_of(const NeuronConfig& c) {
  return {.max_num_seqs = c.batch_size,
          .max_model_len = c.sequence_length,
          .max_context_length = c.max_context_length,
          .prefill_chunk_size = c.prefill_chunk_size > 0 ? c.prefill_chunk_size : c.max_context_length,
          .speculation_length = std::max<std::int64_t>(c.speculation_length, 1)};
}

}  // namespace cajal
