#include "models/rope.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <numbers>
#include <string>

#include "base/error.h"
#include "base/log.h"
#include "models/config_reader.h"
#include "tensor/pytorch_pow.h"

namespace cajal {
namespace {

// Wide enough for any model, and narrow enough that no frequency leaves the range of f32.
constexpr ConfigReader::Range<double> kTheta{1e-6, 1e30}, kFactor{1e-6, 1e6}, kPositive{1e-6, 1e12};
constexpr std::int64_t kMostPositions = std::numeric_limits<std::int32_t>::max();

RopeKind kind_of(const ConfigReader& r) {
  // Hugging Face looks for "type" only where "rope_type" is absent; a null is not absent.
  const Json* named = nullptr;
  for (const char* key : {"rope_type", "type"}) {
    named = r.object().find(key);
    if (!named) continue;
    for (const RopeKind kind : {RopeKind::standard, RopeKind::linear, RopeKind::dynamic, RopeKind::yarn,
                                RopeKind::llama3, RopeKind::longrope, RopeKind::proportional})
      if (named->is_string() && named->as_string() == to_string(kind)) return kind;
    r.fail_unsupported(key,
                       "and only \"default\", \"linear\", \"dynamic\", \"yarn\", \"llama3\", \"longrope\" and "
                       "\"proportional\" are supported",
                       "use a checkpoint with one of these kinds of RoPE");
  }
  return RopeKind::standard;
}

// The keys that a kind reads; Hugging Face warns of others, and computes without them.
bool is_known(RopeKind kind, std::string_view key) {
  static constexpr std::string_view kAlways[] = {"rope_type", "type", "rope_theta", "partial_rotary_factor"};
  static constexpr std::string_view kYarn[] = {
      "factor", "attention_factor", "beta_fast", "beta_slow",
      "mscale", "mscale_all_dim",   "truncate",  "original_max_position_embeddings"};
  static constexpr std::string_view kLlama3[] = {"factor", "low_freq_factor", "high_freq_factor",
                                                 "original_max_position_embeddings"};
  static constexpr std::string_view kLongrope[] = {"factor", "attention_factor", "short_factor", "long_factor",
                                                   "original_max_position_embeddings"};
  const auto in = [&](const auto& keys) { return std::find(std::begin(keys), std::end(keys), key) != std::end(keys); };
  if (in(kAlways)) return true;
  switch (kind) {
    case RopeKind::standard: return false;
    case RopeKind::linear:
    case RopeKind::proportional:
    case RopeKind::dynamic: return key == "factor";
    case RopeKind::yarn: return in(kYarn);
    case RopeKind::llama3: return in(kLlama3);
    case RopeKind::longrope: return in(kLongrope);
  }
  return false;
}

void warn_of_unread_keys(const ConfigReader& r, RopeKind kind) {
  for (const auto& [key, value] : r.object().as_object()) {
    if (value.is_null() || is_known(kind, key)) continue;
    if (kind == RopeKind::yarn && key == "attn_factor")
      log_warning(
          r.where(), ": 'attn_factor' is ", show(value),
          " and is not used: Hugging Face knows 'attention_factor' only, and cajal follows it; vLLM multiplies by "
          "'attn_factor'. To get vLLM's result, set 'attention_factor' to 'attn_factor' * (0.1 ln(factor) + 1)");
    else
      log_warning(r.where(), ": '", show(Json(key)), "' is not a key of RoPE kind \"", to_string(kind),
                  "\" and is not used");
  }
}

// Hugging Face's scaled kinds would rotate int(head_dim * partial_rotary_factor) dimensions; Qwen3's attention has no
// code for the rest and fails on the shapes. Its default kind does not look at the key.
void check_partial(const ConfigReader& config, const ConfigReader* dict, RopeKind kind, int head_dim) {
  for (const ConfigReader* r : {dict, &config}) {
    const Json* value = r ? r->find("partial_rotary_factor") : nullptr;
    if (!value) continue;
    const double factor = r->to_number("partial_rotary_factor", *value, 0, 1e6);
    if (kind == RopeKind::standard) {
      if (factor != 1)
        log_warning(r->where(), ": 'partial_rotary_factor' is ", factor,
                    " and is not used: Hugging Face's Qwen3 rotates all of a head");
    } else if (kind != RopeKind::proportional && std::trunc(head_dim * factor) != head_dim) {
      r->fail_unsupported("partial_rotary_factor", "and Qwen3 rotates all of a head: Hugging Face fails here too",
                          "remove the key, or set it to 1.0");
    }
    return;  // the inner one wins
  }
}

// What the model was trained on: the top level of config.json wins, as in Hugging Face, then the dictionary, and a
// model that says nothing was trained on max_position_embeddings.
std::int64_t original_length(const ConfigReader& config, const ConfigReader& r, std::int64_t max_position_embeddings) {
  std::int64_t length = max_position_embeddings;
  r.optional("original_max_position_embeddings", length, {1, kMostPositions});
  config.optional("original_max_position_embeddings", length, {1, kMostPositions});
  return length;
}

// YaRN's get_mscale.
double mscale(double scale, double m) { return scale <= 1 ? 1.0 : 0.1 * m * std::log(scale) + 1.0; }

void check_attention_factor(const ConfigReader& r, double factor) {
  if (!(factor >= 1e-6 && factor <= 1e6))
    fail(ErrorCode::data_loss, r.where(), ": the factor on attention comes to ", factor, ", expected 1e-06 to 1e+06",
         remedy("check 'attention_factor', 'mscale', 'mscale_all_dim' and 'factor'"));
}

void read_yarn(const ConfigReader& r, RopeConfig& c, std::int64_t max_position_embeddings) {
  const double original = static_cast<double>(c.original_max_position_embeddings);
  if (!r.object().find("factor")) r.fail_missing("factor");
  c.factor = static_cast<double>(max_position_embeddings) / original;  // what a null stands for
  r.optional("factor", c.factor, kFactor);
  if (c.theta == 1)
    fail(ErrorCode::data_loss, r.where(), ": 'rope_theta' is 1, which has no logarithm to divide by", remedy(kCompare));
  if (r.find("attention_factor")) {
    r.optional("attention_factor", c.attention_factor);
  } else {
    double numerator = 1, denominator = 0;
    if (r.truthy("mscale") && r.truthy("mscale_all_dim")) {
      r.optional("mscale", numerator, {-1e6, 1e6}).optional("mscale_all_dim", denominator, {-1e6, 1e6});
      c.attention_factor = mscale(c.factor, numerator) / mscale(c.factor, denominator);
    } else {
      c.attention_factor = mscale(c.factor, 1);
    }
  }
  check_attention_factor(r, c.attention_factor);
  // Python's `or`: a zero means the default too.
  if (r.truthy("beta_fast")) r.optional("beta_fast", c.beta_fast, kPositive);
  if (r.truthy("beta_slow")) r.optional("beta_slow", c.beta_slow, kPositive);
  if (r.object().find("truncate")) c.truncate = r.truthy("truncate");
}

void read_llama3(const ConfigReader& r, RopeConfig& c) {
  r.required("factor", c.factor, kFactor)
      .required("low_freq_factor", c.low_freq_factor, kPositive)
      .required("high_freq_factor", c.high_freq_factor, kPositive);
  if (c.high_freq_factor <= c.low_freq_factor)
    r.fail_value("high_freq_factor", Json(c.high_freq_factor), "more than low_freq_factor, which is ",
                 c.low_freq_factor);
}

std::vector<double> read_factors(const ConfigReader& r, const char* key, int head_dim) {
  const Json* value = r.find(key);
  if (!value) r.fail_missing(key);
  const auto count = static_cast<std::size_t>(head_dim / 2);
  if (!value->is_array()) r.fail_value(key, *value, "a list of ", count, " numbers");
  if (value->as_array().size() != count)
    fail(ErrorCode::data_loss, r.where(), ": '", key, "' has ", value->as_array().size(), " numbers, expected ", count,
         " (half of head_dim ", head_dim, ")", remedy(kCompare));
  std::vector<double> factors;
  for (const Json& factor : value->as_array()) factors.push_back(r.to_number(key, factor, kFactor.min, kFactor.max));
  return factors;
}

void read_longrope(const ConfigReader& r, RopeConfig& c, int head_dim, std::int64_t max_position_embeddings) {
  const double original = static_cast<double>(c.original_max_position_embeddings);
  c.short_factor = read_factors(r, "short_factor", head_dim);
  c.long_factor = read_factors(r, "long_factor", head_dim);
  c.factor = static_cast<double>(max_position_embeddings) / original;
  r.optional("factor", c.factor, kFactor);
  if (r.find("attention_factor"))
    r.optional("attention_factor", c.attention_factor);
  else if (c.factor <= 1)
    c.attention_factor = 1;
  else if (c.original_max_position_embeddings == 1)
    r.fail_value("original_max_position_embeddings", Json(1), "at least 2");
  else
    c.attention_factor = std::sqrt(1 + std::log(c.factor) / std::log(original));
  check_attention_factor(r, c.attention_factor);
}

// Hugging Face's `rope_scaling or rope_parameters`: null when neither says anything.
const char* dictionary_key(const ConfigReader& config) {
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!config.truthy(key)) continue;
    if (std::string_view(key) == "rope_scaling" && config.truthy("rope_parameters"))
      log_warning(config.where(), ": 'rope_scaling' replaces all of 'rope_parameters', as in Hugging Face");
    if (!config.find(key)->is_object()) config.fail_value(key, *config.find(key), "an object or null");
    return key;
  }
  return nullptr;
}

}  // namespace

const char* to_string(RopeKind kind) {
  switch (kind) {
    case RopeKind::standard: return "default";
    case RopeKind::linear: return "linear";
    case RopeKind::proportional: return "proportional";
    case RopeKind::dynamic: return "dynamic";
    case RopeKind::yarn: return "yarn";
    case RopeKind::llama3: return "llama3";
    case RopeKind::longrope: return "longrope";
  }
  return "?";
}

RopeConfig read_rope_config(const Json& json, std::string_view file, int head_dim,
                            std::int64_t max_position_embeddings) {
  const ConfigReader config(json, std::string(file));
  RopeConfig c;
  config.optional("rope_theta", c.theta, kTheta);
  const char* key = dictionary_key(config);
  if (!key) {
    check_partial(config, nullptr, c.kind, head_dim);
    return c;
  }
  const ConfigReader r(*config.find(key), std::string(file) + ", " + key);
  for (const char* layer_type : {"full_attention", "sliding_attention"})
    if (r.find(layer_type))
      r.fail_unsupported(layer_type, "and Qwen3 has one RoPE for all layers",
                         "give one set of parameters for all layers");
  // A null inside is not "absent": Hugging Face takes it for the value, and fails.
  if (r.object().find("rope_theta")) r.required("rope_theta", c.theta, kTheta);
  c.kind = kind_of(r);
  warn_of_unread_keys(r, c.kind);
  check_partial(config, &r, c.kind, head_dim);
  switch (c.kind) {
    case RopeKind::standard: break;
    case RopeKind::linear: r.required("factor", c.factor, kFactor); break;
    case RopeKind::proportional:
      r.optional("factor", c.factor, kFactor);
      r.optional("partial_rotary_factor", c.partial_rotary_factor, {0, 1});
      break;
    case RopeKind::dynamic:
      r.required("factor", c.factor, kFactor);
      if (head_dim <= 2) r.fail_unsupported("rope_type", "which needs a head_dim of more than 2", "use another kind");
      c.original_max_position_embeddings = max_position_embeddings;  // it looks at no other length
      break;
    case RopeKind::yarn:
      c.original_max_position_embeddings = original_length(config, r, max_position_embeddings);
      read_yarn(r, c, max_position_embeddings);
      break;
    case RopeKind::llama3:
      c.original_max_position_embeddings = original_length(config, r, max_position_embeddings);
      read_llama3(r, c);
      break;
    case RopeKind::longrope:
      c.original_max_position_embeddings = original_length(config, r, max_position_embeddings);
      read_longrope(r, c, head_dim, max_position_embeddings);
      break;
  }
  if (c.kind != RopeKind::standard && c.factor < 1)
    log_warning(r.where(), ": 'factor' is ", c.factor, ", and one of less than 1 shortens what the model can read");
  return c;
}

// Below, each f32 operation is one of PyTorch's tensor operations in modeling_rope_utils.py, in its order; what is
// double there, because Python computes it before any tensor is involved, is double here.
namespace {

// base ** (arange(0, rotated, 2) / head_dim)
std::vector<float> base_powers(double base, int head_dim, int rotated) {
  std::vector<float> exponents;
  for (int i = 0; i < rotated; i += 2) exponents.push_back(static_cast<float>(i) / static_cast<float>(head_dim));
  std::vector<float> powers(exponents.size());
  pytorch_pow(static_cast<float>(base), exponents, powers);
  return powers;
}

std::vector<float> base_powers(double base, int head_dim) { return base_powers(base, head_dim, head_dim); }

std::vector<float> standard_frequencies(double base, int head_dim) {
  std::vector<float> inv_freq = base_powers(base, head_dim);
  for (float& f : inv_freq) f = 1.0f / f;
  return inv_freq;
}

std::vector<float> yarn_frequencies(const RopeConfig& rope, int head_dim) {
  // The dimension whose wave turns `rotations` times within the original length.
  const auto correction_dim = [&](double rotations) {
    return head_dim *
           std::log(static_cast<double>(rope.original_max_position_embeddings) / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(rope.theta));
  };
  double low = correction_dim(rope.beta_fast), high = correction_dim(rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, head_dim - 1.0);
  if (low == high) high += 0.001;  // Hugging Face's guard against a division by zero

  const auto factor = static_cast<float>(rope.factor);
  std::vector<float> inv_freq = base_powers(rope.theta, head_dim);
  for (std::size_t i = 0; i < inv_freq.size(); ++i) {
    const float extrapolation = 1.0f / inv_freq[i];
    const float interpolation = 1.0f / (factor * inv_freq[i]);
    const float linear = (static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low);
    const float keep = 1.0f - std::clamp(linear, 0.0f, 1.0f);
    inv_freq[i] = interpolation * (1.0f - keep) + extrapolation * keep;
  }
  return inv_freq;
}

std::vector<float> llama3_frequencies(const RopeConfig& rope, int head_dim) {
  const auto factor = static_cast<float>(rope.factor);
  const auto low_freq = static_cast<float>(rope.low_freq_factor);
  const auto span = static_cast<float>(rope.high_freq_factor - rope.low_freq_factor);
  const auto original = static_cast<double>(rope.original_max_position_embeddings);
  const auto low_wavelen = static_cast<float>(original / rope.low_freq_factor);
  const auto high_wavelen = static_cast<float>(original / rope.high_freq_factor);

  std::vector<float> inv_freq = standard_frequencies(rope.theta, head_dim);
  for (float& f : inv_freq) {
    // PyTorch divides a number by a tensor as the tensor's reciprocal times the number.
    const float wavelen = (1.0f / f) * static_cast<float>(2 * std::numbers::pi);
    if (wavelen > low_wavelen) {
      f = f / factor;
    } else if (wavelen >= high_wavelen) {
      const float smooth = ((1.0f / wavelen) * static_cast<float>(original) - low_freq) / span;
      f = (1.0f - smooth) * f / factor + smooth * f;
    }
  }
  return inv_freq;
}

// The dimensions beyond the rotated ones have frequency 0: they stay as they are.
std::vector<float> proportional_frequencies(const RopeConfig& rope, int head_dim) {
  const int angles = static_cast<int>(std::floor(rope.partial_rotary_factor * head_dim / 2));
  std::vector<float> inv_freq = base_powers(rope.theta, head_dim, 2 * angles);
  for (float& f : inv_freq) f = 1.0f / f / static_cast<float>(rope.factor);
  inv_freq.resize(static_cast<std::size_t>(head_dim / 2), 0.0f);
  return inv_freq;
}

std::vector<float> longrope_frequencies(double theta, const std::vector<double>& factors, int head_dim) {
  std::vector<float> inv_freq = base_powers(theta, head_dim);
  for (std::size_t i = 0; i < inv_freq.size(); ++i) inv_freq[i] = 1.0f / (static_cast<float>(factors[i]) * inv_freq[i]);
  return inv_freq;
}

}  // namespace

ops::RotaryTable rotary_table(const RopeConfig& rope, int head_dim, std::int64_t max_position_embeddings) {
  CAJAL_CHECK(head_dim > 0 && head_dim % 2 == 0, "head_dim ", head_dim);
  ops::RotaryTable table;
  table.attention_scaling = static_cast<float>(rope.attention_factor);
  switch (rope.kind) {
    case RopeKind::standard: table.inv_freq = standard_frequencies(rope.theta, head_dim); break;
    case RopeKind::linear:
      table.inv_freq = standard_frequencies(rope.theta, head_dim);
      for (float& f : table.inv_freq) f /= static_cast<float>(rope.factor);
      break;
    case RopeKind::dynamic: {
      // Up to the original length Hugging Face evaluates the same formula, whose growth is 1 but for rounding.
      const auto length = static_cast<double>(max_position_embeddings);
      const double growth = rope.factor * length / length - (rope.factor - 1);
      const double exponent = static_cast<double>(head_dim) / (head_dim - 2);
      table.inv_freq = standard_frequencies(rope.theta * std::pow(growth, exponent), head_dim);
      table.original_length = rope.original_max_position_embeddings;
      table.dynamic_base = static_cast<float>(rope.theta);
      table.dynamic_factor = static_cast<float>(rope.factor);
      table.dynamic_offset = static_cast<float>(rope.factor - 1);
      break;
    }
    case RopeKind::proportional: table.inv_freq = proportional_frequencies(rope, head_dim); break;
    case RopeKind::yarn: table.inv_freq = yarn_frequencies(rope, head_dim); break;
    case RopeKind::llama3: table.inv_freq = llama3_frequencies(rope, head_dim); break;
    case RopeKind::longrope:
      table.inv_freq = longrope_frequencies(rope.theta, rope.short_factor, head_dim);
      table.long_inv_freq = longrope_frequencies(rope.theta, rope.long_factor, head_dim);
      table.original_length = rope.original_max_position_embeddings;
      break;
  }
  return table;
}

}  // namespace cajal
