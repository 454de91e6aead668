#pragma once
// Tensors of chosen awkwardness for the tests of kernels, and comparison of bits.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <random>
#include <span>
#include <string_view>
#include <vector>

#include "backends/cpu/kernels/kernel.h"
#include "backends/cpu/kernels/linear_ref.h"
#include "tensor/pack.h"
#include "tensor/tensor.h"

namespace cajal::cpu {

// LinearArgs::read_once, which changes no bit: sizes are tested in one of both ways, odd ones as read once.
inline bool read_in_one_way_or_the_other(std::int64_t size) { return size % 2 != 0; }

// Exactly as long as it is said to be, so that a sanitizer sees what reads too far.
using Bytes = std::vector<std::byte>;

enum class Values : std::uint8_t {
  ordinary,    // around 1
  spread,      // exponents over the whole range, denormals and zeros of both signs among them
  special,     // ordinary, with an infinity or a NaN now and then
  cancelling,  // ordinary; the test makes sums of it vanish
};

inline Bytes random_tensor(DType dtype, std::int64_t elements, Values values, std::mt19937& random) {
  Bytes bytes(static_cast<std::size_t>(elements) * size_of(dtype));
  std::normal_distribution<float> normal;
  for (std::int64_t i = 0; i < elements; ++i) {
    float v = normal(random);
    if (values == Values::spread) {
      // Products reach from far below the denormals to about 2^40; a few elements are themselves denormal.
      v = std::ldexp(v, static_cast<int>(random() % 90) - 70);
      if (random() % 16 == 0) v = std::ldexp(v, -60);
      if (random() % 16 == 0) v = random() % 2 ? 0.0f : -0.0f;
    }
    if (values == Values::special && random() % 200 == 0) {
      constexpr float kSpecial[] = {INFINITY, -INFINITY, NAN};
      v = kSpecial[random() % 3];
    }
    store_element(bytes.data(), i, dtype, v);
  }
  return bytes;
}

// `largest` is null, or has the largest magnitudes of the rows that these are parts of.
inline Bytes packed_tensor(const TensorType& type, const Bytes& plain, const float* largest = nullptr) {
  Bytes stored(type.bytes(), std::byte{0x5a});
  const std::int64_t rows = type.shape[-1] == 0 ? 0 : type.shape.elements() / type.shape[-1];
  pack_rows(type, 0, rows, plain.data(), stored.data(), largest);
  return stored;
}

inline Packed tile_of(const Storage& storage) {
  const auto* packed = std::get_if<Packed>(&storage);
  return packed ? *packed : Packed{};
}

inline Quantized quantized_of(const Storage& storage) {
  const auto* quantized = std::get_if<Quantized>(&storage);
  return quantized ? *quantized : Quantized{};
}

// The last kernel of the list that is in this class.
template <class Shape, class Args>
const Kernel<Shape, Args>& reference_of(std::span<const Kernel<Shape, Args>> kernels, const Shape& shape,
                                        std::string_view numerics_class) {
  for (std::size_t i = kernels.size(); i-- > 0;)
    if (kernels[i].numerics_class == numerics_class && kernels[i].accepts(shape)) return kernels[i];
  return kernels.back();
}
// Of the class of the one that production would take here.
template <class Shape, class Args>
const Kernel<Shape, Args>& reference_of(std::span<const Kernel<Shape, Args>> kernels, const Shape& shape) {
  return reference_of(kernels, shape, choose(kernels, shape, detect_isa()).numerics_class);
}

// What made(reference) gives for the reference of each class, made once.
template <class Shape, class Args, class Make>
class ByClass {
 public:
  ByClass(std::span<const Kernel<Shape, Args>> kernels, const Shape& shape, const Make& make)
      : kernels_(kernels), shape_(shape), make_(make) {}
  const Bytes& of(const Kernel<Shape, Args>& kernel) {
    const std::string_view numerics_class = kernel.numerics_class;
    const auto [at, is_new] = made_.try_emplace(numerics_class);
    if (is_new) at->second = make_(reference_of(kernels_, shape_, numerics_class));
    return at->second;
  }

 private:
  const std::span<const Kernel<Shape, Args>> kernels_;
  const Shape& shape_;
  const Make& make_;
  std::map<std::string_view, Bytes> made_;
};

// The same bits, except that one NaN is as good as another.
inline testing::AssertionResult same_bits(const Bytes& got, const Bytes& want, DType dtype) {
  if (got.size() != want.size()) return testing::AssertionFailure() << got.size() << " bytes, not " << want.size();
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(got.size() / size_of(dtype)); ++i) {
    const float a = load_element(got.data(), i, dtype), b = load_element(want.data(), i, dtype);
    if (std::bit_cast<std::uint32_t>(a) != std::bit_cast<std::uint32_t>(b) && !(a != a && b != b))
      return testing::AssertionFailure() << "element " << i << " is " << a << ", not " << b;
  }
  return testing::AssertionSuccess();
}

}  // namespace cajal::cpu
