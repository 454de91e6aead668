#include "checkpoint/quantized_names.h"

#include <array>

namespace cajal {
namespace {

struct Rule {
  std::string_view suffix;  // of the name; empty: any
  std::string_view dtype;   // beginning of the type; empty: any
  std::string_view format;
};

// The first rule that any tensor meets names the format, so what tells formats apart stands above what they share.
constexpr std::array kRules = {
    Rule{".weight_scale_inv", "", "FP8 with block scales (weight_scale_inv)"},
    Rule{".weight_scale_2", "", "NVFP4 of ModelOpt (weight_scale_2)"},
    Rule{".weight_global_scale", "", "NVFP4 of compressed-tensors (weight_global_scale)"},
    Rule{".weight_packed", "", "compressed-tensors (weight_packed)"},
    Rule{".quant_state.bitsandbytes__nf4", "", "bitsandbytes NF4"},
    Rule{".quant_state.bitsandbytes__fp4", "", "bitsandbytes FP4"},
    Rule{".SCB", "", "bitsandbytes LLM.int8"},
    Rule{".absmax", "", "bitsandbytes"},
    Rule{".quant_map", "", "bitsandbytes"},
    Rule{".g_idx", "", "GPTQ (qweight, g_idx)"},
    Rule{".qweight", "", "AWQ or GPTQ (qweight)"},
    Rule{".qzeros", "", "AWQ or GPTQ (qzeros)"},
    Rule{".weight", "U32", "MLX (integers in U32, with scales and biases)"},
    Rule{".scales", "", "group-quantised (scales)"},
    Rule{".biases", "", "MLX (scales and biases)"},
    Rule{".weight_zero_point", "", "compressed-tensors (weight_zero_point)"},
    Rule{".weight", "I8", "INT8, compressed-tensors or similar (weight in I8)"},
    Rule{".weight", "F8_", "FP8 (weight in an F8 type)"},
    Rule{"_proj", "F8_", "FP8 (experts in an F8 type)"},
    Rule{".weight_scale", "", "FP8 or INT8, compressed-tensors or similar (weight_scale)"},
    Rule{".input_scale", "", "FP8 with static activation scales (input_scale)"},
    Rule{".weight", "F4", "FP4 (weight in F4)"},
    Rule{".weight", "U8", "4 bits in bytes (weight in U8)"},
    Rule{".weight", "I32", "integers in I32"},
};

}  // namespace

QuantizedSign find_quantized_sign(std::span<const TensorSight> tensors) {
  const Rule* best = nullptr;
  const TensorSight* seen = nullptr;
  for (const TensorSight& tensor : tensors)
    for (const Rule& rule : kRules) {
      if (best && &rule >= best) break;
      if (!tensor.name.ends_with(rule.suffix) || !tensor.dtype.starts_with(rule.dtype)) continue;
      best = &rule;
      seen = &tensor;
      break;
    }
  if (!best) return {};
  return {std::string(best->format), std::string(seen->name)};
}

}  // namespace cajal
