#pragma once
// PyTorch's `base ** tensor` in f32, to the bit. RoPE multiplies frequencies by positions of many thousands, where their
// last bit moves an angle visibly; the C library's powf differs from PyTorch's in about one value of a hundred.
#include <span>

namespace cajal {

// powers[i] = base ** exponents[i] for base > 0, as PyTorch computes it on x86 CPUs with AVX-512: whole blocks of 32 with its vector
// routine, the rest with the C library's powf. (With AVX2 its blocks are of 16: for 64 exponents, a head_dim of 128, it
// is the same.) Results must be normal f32 numbers.
void pytorch_pow(float base, std::span<const float> exponents, std::span<float> powers);

}  // namespace cajal
