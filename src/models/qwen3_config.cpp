#include "models/qwen3_config.h"

#include <algorithm>
#include <limits>
#include <span>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "models/config_reader.h"

namespace cajal {
namespace {

// Ten times what any model has and more; what lies beyond is a damaged file, and must not make us allocate.
constexpr ConfigReader::Range<std::int64_t> kVocab{1, 1 << 26}, kWidth{1, 1 << 22},
    kPositions{1, std::numeric_limits<std::int32_t>::max()};
constexpr ConfigReader::Range<int> kLayers{1, 4096}, kHeads{1, 1 << 14}, kHeadDim{2, 1 << 13}, kExperts{0, 1 << 14};
constexpr double kMostParameters = 1e13;

constexpr const char* kSupported =
    "cajal runs Qwen3ForCausalLM, Qwen3MoeForCausalLM, Qwen2MoeForCausalLM, Qwen3Model, Qwen3MoeModel and "
    "Qwen2MoeModel "
    "(model_type qwen3, qwen3_moe or qwen2_moe)";

constexpr const char* kUnconverted =
    "of a reranker use the checkpoint that it was converted from (Qwen3ForCausalLM), whose logits for yes and no "
    "'cajal rerank' scores with";

// The model type that an architecture belongs to; empty if it is not one of ours.
std::string_view model_type_of(std::string_view architecture) {
  // What is saved from inside PyTorch's FSDP may carry its prefix.
  if (architecture.starts_with("FSDP")) architecture.remove_prefix(4);
  if (architecture == "Qwen3ForCausalLM" || architecture == "Qwen3Model") return "qwen3";
  if (architecture == "Qwen3MoeForCausalLM" || architecture == "Qwen3MoeModel") return "qwen3_moe";
  if (architecture == "Qwen2MoeForCausalLM" || architecture == "Qwen2MoeModel") return "qwen2_moe";
  return {};
}

// Whether the architectures say that the checkpoint has no head; read_model_type() has checked them.
bool read_base_model(const ConfigReader& r) {
  const Json* architectures = r.find("architectures");
  if (!architectures || architectures->as_array().empty()) return false;
  return architectures->as_array()[0].as_string().ends_with("Model");
}

// model_type, or what the architectures say where it is missing; both must be ours and agree.
std::string read_model_type(const ConfigReader& r) {
  std::string model_type;
  r.optional("model_type", model_type);
  if (!model_type.empty() && model_type != "qwen3" && model_type != "qwen3_moe" && model_type != "qwen2_moe")
    r.fail_unsupported("model_type", "which is another architecture", kSupported);
  const Json* architectures = r.find("architectures");
  if (architectures && !architectures->is_array()) r.fail_value("architectures", *architectures, "a list of strings");
  if (!architectures || architectures->as_array().empty()) {
    if (model_type.empty())
      fail(ErrorCode::data_loss, r.where(), ": has neither 'model_type' nor 'architectures'", remedy(kSupported));
    return model_type;
  }
  for (const Json& architecture : architectures->as_array()) {
    if (!architecture.is_string()) r.fail_value("architectures", *architectures, "a list of strings");
    const std::string_view belongs_to = model_type_of(architecture.as_string());
    if (belongs_to.empty()) {
      const bool classifier =
          (architecture.as_string().starts_with("Qwen3") || architecture.as_string().starts_with("Qwen2Moe")) &&
          (architecture.as_string().find("Classification") != std::string::npos ||
           architecture.as_string().find("QuestionAnswering") != std::string::npos);
      r.fail_unsupported("architectures",
                         r.truthy("auto_map") ? "which needs the code that comes with the model ('auto_map')"
                         : classifier         ? "whose classification head is not supported"
                                              : "which is another architecture",
                         classifier ? kUnconverted : kSupported);
    }
    if (model_type.empty()) model_type = belongs_to;
    if (belongs_to != model_type)
      r.fail_value("architectures", *architectures, "those of model_type \"", model_type, "\"");
  }
  if (r.truthy("auto_map"))
    log_warning(r.where(),
                ": 'auto_map' names code that comes with the model; it is not run, Qwen3's own definition is");
  return model_type;
}

// A key whose mere being set to something else than `harmless` would change the result.
struct Refusal {
  const char* key;
  bool harmless;
  const char* why;
};
constexpr Refusal kRefusals[] = {
    {"is_causal", true, "and the model is causal"},
    {"mlp_bias", false, "and the model's MLP has no biases"},
    {"num_shared_experts", false, "and Qwen3-MoE has no shared expert, Qwen2-MoE one"},
    {"n_shared_experts", false, "and Qwen3-MoE has no shared expert, Qwen2-MoE one"},
    {"is_encoder_decoder", false, "and the model has no encoder"},
    {"per_layer_config", false, "and layers of different shapes are not supported"},
};
constexpr Refusal kQwen3Refusals[] = {
    {"use_qk_norm", true, "and Qwen3 always normalises queries and keys"},
    {"qkv_bias", false, "and Qwen3 has biases by 'attention_bias' only"},
    {"shared_expert_intermediate_size", false, "and Qwen3-MoE has no shared expert"},
};
constexpr Refusal kQwen2MoeRefusals[] = {
    {"use_qk_norm", false, "and Qwen2-MoE does not normalise queries and keys"},
    {"attention_bias", false, "and Qwen2-MoE has biases by 'qkv_bias' only"},
    {"num_local_experts", false, "and Qwen2-MoE has as many experts as 'num_experts' says"},
};

void refuse(const ConfigReader& r, std::span<const Refusal> refusals) {
  for (const Refusal& refusal : refusals)
    if (r.find(refusal.key) && r.truthy(refusal.key) != refusal.harmless)
      r.fail_unsupported(refusal.key, refusal.why, kSupported);
}

// Keys that would change the result and that we do not implement.
void refuse_unsupported(const ConfigReader& r, const std::string& model_type) {
  for (const char* key : {"quantization_config", "quantization", "compression_config"}) {
    if (!r.truthy(key)) continue;
    const Json* method = r.find(key)->find("quant_method");
    fail(ErrorCode::unsupported, r.where(), ": '", key, "' says that the weights are quantised",
         method && method->is_string() ? " by \"" + show(*method).substr(1) : std::string(),
         ", and quantised checkpoints are not supported", remedy("use the model's bfloat16 checkpoint"));
  }
  refuse(r, kRefusals);
  if (model_type == "qwen2_moe")
    refuse(r, kQwen2MoeRefusals);
  else
    refuse(r, kQwen3Refusals);
  std::string act = "silu";
  r.optional("hidden_act", act);
  if (act != "silu" && act != "swish")
    r.fail_unsupported("hidden_act", "and only \"silu\" is supported", "use a checkpoint with \"silu\"");
  if (r.truthy("dual_chunk_attention_config"))
    log_warning(r.where(),
                ": 'dual_chunk_attention_config' is not used, as in Hugging Face: attention is over the whole context");
}

void read_shapes(const ConfigReader& r, Qwen3Config& c) {
  r.required("vocab_size", c.vocab_size, kVocab)
      .required("hidden_size", c.hidden_size, kWidth)
      .required("num_hidden_layers", c.num_hidden_layers, kLayers)
      .required("num_attention_heads", c.num_attention_heads, kHeads);
  // A null is as many as there are heads, but not for Qwen2-MoE; an absent key is Hugging Face's default.
  const bool qwen2 = c.model_type == "qwen2_moe", moe = qwen2 || c.model_type == "qwen3_moe";
  const Json* kv_heads = r.object().find("num_key_value_heads");
  if (qwen2 && kv_heads && kv_heads->is_null())
    r.fail_value("num_key_value_heads", *kv_heads, "a number, or no such key, which means 16");
  c.num_key_value_heads = kv_heads ? c.num_attention_heads : qwen2 ? 16 : moe ? 4 : 32;
  r.optional("num_key_value_heads", c.num_key_value_heads, kHeads);
  if (c.num_attention_heads % c.num_key_value_heads != 0)
    fail(ErrorCode::data_loss, r.where(), ": 'num_attention_heads' is ", c.num_attention_heads,
         ", expected a multiple of 'num_key_value_heads', ", c.num_key_value_heads, remedy(kCompare));

  const std::int64_t even_share = c.hidden_size / c.num_attention_heads;
  const Json* head_dim = r.object().find("head_dim");
  if (head_dim && head_dim->is_null() && !moe && even_share != 128)
    r.fail_value("head_dim", *head_dim, "a number, or no such key, which means 128");
  if (!r.find("head_dim") && moe && (even_share < kHeadDim.min || even_share > kHeadDim.max))
    fail(ErrorCode::data_loss, r.where(), ": 'head_dim' is missing and hidden_size ", c.hidden_size,
         " / num_attention_heads ", c.num_attention_heads, " = ", even_share, " cannot be it", remedy(kCompare));
  c.head_dim = moe ? static_cast<int>(even_share) : 128;
  if (r.find("head_dim")) r.required("head_dim", c.head_dim, kHeadDim);
  if (c.head_dim % 2 != 0) r.fail_value("head_dim", Json(c.head_dim), "an even number, for RoPE turns pairs");

  c.max_position_embeddings = 32768;
  r.optional("max_position_embeddings", c.max_position_embeddings, kPositions)
      .optional("rms_norm_eps", c.rms_norm_eps, {0.0f, 1.0f})
      .optional("tie_word_embeddings", c.tie_word_embeddings);
  c.qkv_bias = qwen2;
  if (qwen2)
    r.optional("qkv_bias", c.qkv_bias);
  else
    r.optional("attention_bias", c.attention_bias);
  c.qk_norm = !qwen2;
}

// The sizes of the experts, of models that have some. Hugging Face's classes have defaults for all; we take those of
// Qwen2-MoE, whose files leave out what equals them.
void read_expert_sizes(const ConfigReader& r, Qwen3Config& c) {
  if (c.model_type == "qwen2_moe") {
    c.num_experts_per_tok = 4, c.moe_intermediate_size = 1408, c.shared_expert_intermediate_size = 5632;
    r.optional("moe_intermediate_size", c.moe_intermediate_size, kWidth)
        .optional("shared_expert_intermediate_size", c.shared_expert_intermediate_size, {0, kWidth.max});
  } else {
    c.num_experts_per_tok = 8;
    r.required("moe_intermediate_size", c.moe_intermediate_size, kWidth);
  }
  r.optional("num_experts_per_tok", c.num_experts_per_tok, {1, kExperts.max});
  if (c.num_experts_per_tok > c.num_experts)
    r.fail_value("num_experts_per_tok", Json(c.num_experts_per_tok), "at most the number of experts, ", c.num_experts);
}

void read_experts(const ConfigReader& r, Qwen3Config& c) {
  c.sparse_layer.assign(static_cast<std::size_t>(c.num_hidden_layers), false);
  if (c.model_type != "qwen3") {
    if (c.model_type == "qwen2_moe") {
      c.num_experts = 60;
      r.optional("num_experts", c.num_experts, kExperts);
    } else {
      // Transformers 5.1 and later write num_local_experts, and let it win.
      r.required(r.find("num_local_experts") ? "num_local_experts" : "num_experts", c.num_experts, kExperts);
    }
    int step = 1;
    std::vector<std::int64_t> mlp_only_layers;
    r.optional("decoder_sparse_step", step, {1, std::numeric_limits<int>::max()})
        .optional("mlp_only_layers", mlp_only_layers)
        .optional("norm_topk_prob", c.norm_topk_prob);
    for (int i = 0; i < c.num_hidden_layers; ++i)
      c.sparse_layer[static_cast<std::size_t>(i)] = c.num_experts > 0 && (i + 1) % step == 0;
    for (const std::int64_t i : mlp_only_layers)
      if (i >= 0 && i < c.num_hidden_layers) c.sparse_layer[static_cast<std::size_t>(i)] = false;
    if (c.num_experts > 0) read_expert_sizes(r, c);
  }
  // Files of mixtures carry a size of dense layers also when there is none; it need not be there then.
  const bool all_sparse = std::find(c.sparse_layer.begin(), c.sparse_layer.end(), false) == c.sparse_layer.end();
  if (!all_sparse)
    r.required("intermediate_size", c.intermediate_size, kWidth);
  else
    r.optional("intermediate_size", c.intermediate_size, {0, kWidth.max});
}

// Multiplies out what the shapes ask for, in double, which does not overflow, so that everything later may multiply
// without looking.
void check_size(const ConfigReader& r, const Qwen3Config& c) {
  const auto hidden = static_cast<double>(c.hidden_size);
  const auto num_sparse = static_cast<double>(std::count(c.sparse_layer.begin(), c.sparse_layer.end(), true));
  const double attention = 2.0 * (c.num_attention_heads + c.num_key_value_heads) * c.head_dim * hidden;
  const double dense = 3.0 * static_cast<double>(c.intermediate_size) * hidden;
  const double sparse = 3.0 * hidden *
                        (static_cast<double>(c.moe_intermediate_size) * c.num_experts +
                         static_cast<double>(c.shared_expert_intermediate_size));
  const double parameters = attention * c.num_hidden_layers + sparse * num_sparse +
                            dense * (c.num_hidden_layers - num_sparse) +
                            2.0 * static_cast<double>(c.vocab_size) * hidden;
  if (parameters > kMostParameters)
    fail(ErrorCode::data_loss, r.where(), ": its shapes ask for ", parameters, " parameters, expected at most ",
         kMostParameters, remedy(kCompare));
}

// layer_types of a file: per layer whether it slides. Empty where the file has none.
std::vector<bool> read_layer_types(const ConfigReader& r, const Qwen3Config& c) {
  const Json* types = r.find("layer_types");
  if (!types) return {};
  if (!types->is_array()) r.fail_value("layer_types", *types, "a list of strings");
  if (types->as_array().size() != static_cast<std::size_t>(c.num_hidden_layers))
    fail(ErrorCode::data_loss, r.where(), ": 'layer_types' has ", types->as_array().size(),
         " entries, expected num_hidden_layers, ", c.num_hidden_layers, remedy(kCompare));
  std::vector<bool> slides;
  for (const Json& type : types->as_array()) {
    if (!(type == Json("full_attention") || type == Json("sliding_attention")))
      fail(ErrorCode::unsupported, r.where(), ": 'layer_types' has ", show(type),
           ", and only \"full_attention\" and \"sliding_attention\" are supported", remedy(kSupported));
    slides.push_back(type == Json("sliding_attention"));
  }
  return slides;
}

// Whether Hugging Face lets a layer slide, of a file without layer_types whose use_sliding_window is true.
bool slides_by_default(const Qwen3Config& c, int layer, int max_window_layers) {
  if (c.model_type == "qwen3_moe") return true;
  if (c.model_type == "qwen2_moe") return layer % 2 == 0 && layer < max_window_layers;
  return layer >= max_window_layers;
}

void read_sliding_window(const ConfigReader& r, Qwen3Config& c) {
  const auto layers = static_cast<std::size_t>(c.num_hidden_layers);
  bool use = false;
  r.optional("use_sliding_window", use);
  // Absent is Hugging Face's default; null is none, and so is the 0 that some files have for it.
  std::int64_t window = r.object().find("sliding_window") ? 0 : 4096;
  if (r.truthy("sliding_window") || (r.find("sliding_window") && !r.find("sliding_window")->is_bool()))
    r.optional("sliding_window", window, {0, std::numeric_limits<std::int64_t>::max()});
  if (!use) window = 0;

  int max_window_layers = 28;
  r.optional("max_window_layers", max_window_layers);
  std::vector<bool> slides = read_layer_types(r, c);
  const bool listed = !slides.empty();
  for (int i = 0; !listed && i < c.num_hidden_layers; ++i) slides.push_back(slides_by_default(c, i, max_window_layers));
  const bool some = std::find(slides.begin(), slides.end(), true) != slides.end();
  const bool all = std::find(slides.begin(), slides.end(), false) == slides.end();
  if (listed && window == 0 && some)
    fail(ErrorCode::data_loss, r.where(), ": 'layer_types' has \"sliding_attention\" while ",
         use ? "'sliding_window' is not set" : "'use_sliding_window' is false",
         remedy("set 'use_sliding_window' and 'sliding_window', or make every layer \"full_attention\""));
  // Hugging Face's Qwen3-MoE does not look at layer_types: all of its layers slide, or none.
  if (c.model_type == "qwen3_moe" && window > 0 && !all)
    fail(ErrorCode::unsupported, r.where(),
         ": 'layer_types' has \"full_attention\" while 'use_sliding_window' is true, and every layer of a Qwen3-MoE "
         "slides then",
         remedy("make every layer \"sliding_attention\", or set 'use_sliding_window' to false"));
  if (c.model_type == "qwen2_moe" && use && window == 0 && some)
    fail(ErrorCode::data_loss, r.where(), ": 'use_sliding_window' is true while 'sliding_window' is not set",
         remedy("set 'sliding_window', or 'use_sliding_window' to false"));
  c.sliding_window.assign(layers, 0);
  for (std::size_t i = 0; i < layers; ++i)
    if (slides[i]) c.sliding_window[i] = window;
}

void read_dtype(const ConfigReader& r, Qwen3Config& c) {
  for (const char* key : {"dtype", "torch_dtype"}) {
    std::string name;
    r.optional(key, name);
    if (name.empty() || name == "auto") continue;
    const std::string_view bare = name.starts_with("torch.") ? std::string_view(name).substr(6) : name;
    c.has_dtype = true;
    if (bare == "bfloat16")
      c.dtype = DType::bf16;
    else if (bare == "float16" || bare == "half")
      c.dtype = DType::f16;
    else if (bare == "float32" || bare == "float")
      c.dtype = DType::f32;
    else
      r.fail_unsupported(key, "and only \"bfloat16\", \"float16\" and \"float32\" are supported",
                         "use the model's bfloat16 checkpoint");
    return;
  }
}

std::optional<std::int32_t> read_token_id(const ConfigReader& r, const char* key) {
  const Json* value = r.find(key);
  if (!value) return std::nullopt;
  if (value->is_array()) r.fail_value(key, *value, "an integer or null");
  std::vector<std::int32_t> ids;
  r.optional_token_ids(key, ids);
  return ids.empty() ? std::nullopt : std::optional(ids.front());
}

}  // namespace

Qwen3Config read_qwen3_config(const Json& config, std::string_view file) {
  const ConfigReader r(config, std::string(file));
  Qwen3Config c;
  c.model_type = read_model_type(r);
  c.base_model = read_base_model(r);
  refuse_unsupported(r, c.model_type);
  read_shapes(r, c);
  read_experts(r, c);
  check_size(r, c);
  read_sliding_window(r, c);
  read_dtype(r, c);
  c.rope = read_rope_config(config, file, c.head_dim, c.max_position_embeddings);
  r.optional_token_ids("eos_token_id", c.eos_token_id);
  c.bos_token_id = read_token_id(r, "bos_token_id");
  c.pad_token_id = read_token_id(r, "pad_token_id");
  return c;
}

Qwen3Config load_qwen3_config(const std::string& folder) {
  const std::string path = folder + "/config.json";
  if (!file_exists(path))
    fail(ErrorCode::not_found, path, ": no such file", remedy("name the folder of a model in Hugging Face's format"));
  return read_qwen3_config(parse_json(read_file(path, std::uint64_t{1} << 26), path), path);
}

std::int64_t default_max_model_len(const Qwen3Config& c) {
  auto length = static_cast<double>(c.max_position_embeddings);
  switch (c.rope.kind) {
    case RopeKind::linear:
    case RopeKind::dynamic: length *= c.rope.factor; break;
    case RopeKind::yarn: length = static_cast<double>(c.rope.original_max_position_embeddings) * c.rope.factor; break;
    case RopeKind::standard:
    case RopeKind::llama3:
    case RopeKind::proportional:
    case RopeKind::longrope: break;
  }
  return static_cast<std::int64_t>(std::clamp(length, 1.0, static_cast<double>(kPositions.max)));
}

}  // namespace cajal
