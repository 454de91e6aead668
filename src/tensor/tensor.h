#pragma once
// What a tensor is (TensorType: element type, shape, and how the elements are stored) and where one lies (TensorView).
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <variant>

#include "base/error.h"
#include "tensor/dtype.h"

namespace cajal {

// Up to four dimensions, row-major, no heap. A language model needs no fifth. A dimension may be kDynamic in the type of
// a state: the number of blocks of a KV pool is chosen when memory is, not when the graph is.
class Shape {
 public:
  static constexpr int kMaxRank = 4;
  static constexpr std::int64_t kDynamic = -1;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims) {
    CAJAL_CHECK(dims.size() <= kMaxRank);
    for (auto d : dims) dims_[static_cast<std::size_t>(rank_++)] = d;
  }
  int rank() const { return rank_; }
  std::int64_t operator[](int i) const { return dims_[index(i)]; }  // negative counts from the end
  std::int64_t& operator[](int i) { return dims_[index(i)]; }
  void push_back(std::int64_t d) {
    CAJAL_CHECK(rank_ < kMaxRank);
    dims_[static_cast<std::size_t>(rank_++)] = d;
  }
  const std::int64_t* begin() const { return dims_.data(); }
  const std::int64_t* end() const { return dims_.data() + rank_; }
  bool dynamic() const;
  std::int64_t elements() const;  // not of a dynamic shape; Error(data_loss) if it does not fit 63 bits
  bool operator==(const Shape&) const = default;

 private:
  std::size_t index(int i) const {
    const int at = i < 0 ? rank_ + i : i;
    CAJAL_CHECK(at >= 0 && at < rank_, "dimension ", i, " of rank ", rank_);
    return static_cast<std::size_t>(at);
  }
  std::array<std::int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};
std::string to_string(const Shape& shape);  // "[2048,1024]", a dynamic dimension as "?"

// Dense and row-major.
struct Plain {
  bool operator==(const Plain&) const = default;
};

// The last two dimensions [N,K] are cut into tiles of `rows` rows, and each tile into groups of `group` columns: element
// (n,k) of a matrix lies at [n / rows][k / group][n % rows][k % group]. N and K are padded with zeros to whole tiles and
// groups. One tile is what a kernel reads in one stream: `rows` outputs advance together along k.
struct Packed {
  int rows = 1, group = 1;
  bool operator==(const Packed&) const = default;
};

// Integers of `bits` bits with one scale (and, if asymmetric, one zero point) for every `group_size` consecutive k of a
// row: the element is about integer * scale. Scales of i8 are integers as well, which count a power of two of their row. The
// tensor's dtype is that of the numbers which they stand for. `tile_rows` rows lie together, so that as many outputs advance
// along k; quantized.h says how. No backend reads zero points.
struct Quantized {
  int bits = 8, group_size = 32;
  DType scale_dtype = DType::i8;
  bool zero_points = false;
  int tile_rows = 1;
  bool row_exponents() const { return scale_dtype == DType::i8; }
  bool operator==(const Quantized&) const = default;
};

// A bf16 matrix in 12 bits a weight, without loss; lossless.h says how.
struct Lossless {
  bool operator==(const Lossless&) const = default;
};

using Storage = std::variant<Plain, Packed, Quantized, Lossless>;

struct TensorType {
  DType dtype = DType::bf16;
  Shape shape;
  Storage storage = Plain{};

  std::size_t bytes() const;  // as stored, padding included; not of a dynamic shape
  const Quantized* quantized() const { return std::get_if<Quantized>(&storage); }
  bool plain() const { return std::holds_alternative<Plain>(storage); }
  bool lossless() const { return std::holds_alternative<Lossless>(storage); }
  bool operator==(const TensorType&) const = default;
};
// "bf16[2048,1024]", "bf16[2048,1024]{tile 16x2}", "bf16[64,64]{bits 4, group 32, scales i8, tile 32}",
// "bf16[2048,1024]{lossless}"
std::string to_string(const TensorType& type);
// The inverse; nothing if `text` does not begin with a type. On success `text` is advanced past it.
bool parse_tensor_type(std::string_view& text, TensorType& into);
bool parse_shape(std::string_view& text, Shape& into);

// A tensor that someone else owns.
struct TensorView {
  std::byte* data = nullptr;
  TensorType type;
};

// Where element (n,k) of the matrix lies in a Packed [N,K] tensor, counted in elements.
inline std::int64_t packed_index(const Packed& p, std::int64_t padded_k, std::int64_t n, std::int64_t k) {
  return n / p.rows * p.rows * padded_k + k / p.group * p.rows * p.group + n % p.rows * p.group + k % p.group;
}

}  // namespace cajal
