#pragma once
// Conversion of weights between the floating-point types that checkpoints and engines use.
#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace cajal {

constexpr bool is_weight_dtype(DType t) { return t == DType::bf16 || t == DType::f16 || t == DType::f32; }

// Writes `count` elements of type `from` as type `to`, each rounded once, to nearest and ties to even; the same bits as
// dtype.h's functions one by one. Types are bf16, f16 or f32; the memory needs no alignment and must not overlap.
void convert_elements(DType from, const std::byte* source, DType to, std::byte* target, std::int64_t count);

}  // namespace cajal
