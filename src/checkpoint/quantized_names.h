#pragma once
// What the names and types of a checkpoint's tensors say about quantisation. Names decide before any configuration does:
// a folder whose config.json lost its quantization_config must not be read as if its codes were weights.
#include <span>
#include <string>
#include <string_view>

namespace cajal {

struct TensorSight {
  std::string_view name, dtype;  // dtype as the format spells it: "F8_E4M3"
};

struct QuantizedSign {
  std::string format;  // "FP8 with block scales (weight_scale_inv)"; empty if nothing looks quantised
  std::string tensor;  // the one that shows it
};
QuantizedSign find_quantized_sign(std::span<const TensorSight> tensors);

}  // namespace cajal
