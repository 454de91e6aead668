#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <limits>
#include <set>

namespace cajal {
namespace {

std::vector<TensorType> some_types() {
  const Quantized asymmetric{3, 128, DType::bf16, true};
  return {{DType::f32, {}, Plain{}},
          {DType::bf16, {2048, 1024}, Plain{}},
          {DType::i32, {7}, Plain{}},
          {DType::bf16, {5, 33, 7}, Packed{16, 2}},
          {DType::f32, {1, 2, 3, 4}, Packed{1, 1}},
          {DType::f16, {Shape::kDynamic, 2, 64, 20}, Packed{64, 4}},
          {DType::i8, {64, 64}, Quantized{}},
          {DType::i8, {3, 100}, asymmetric}};
}

TEST(TensorTypes, ReadBackWhatTheyPrint) {
  for (const TensorType& type : some_types()) {
    const std::string printed = to_string(type) + " and more";
    std::string_view text = printed;
    TensorType read;
    ASSERT_TRUE(parse_tensor_type(text, read)) << printed;
    EXPECT_EQ(read, type) << printed;
    EXPECT_EQ(text, " and more");
    // Whatever is cut off the end of a type leaves a different type or none.
    for (std::size_t n = 0; n + 9 < printed.size(); ++n) {
      std::string_view part = std::string_view(printed).substr(0, n);
      TensorType other;
      if (parse_tensor_type(part, other)) {
        EXPECT_FALSE(other == type) << printed << " cut to " << n;
      }
    }
  }
  EXPECT_EQ(to_string(TensorType{DType::bf16, {2048, 1024}, Packed{16, 2}}), "bf16[2048,1024]{tile 16x2}");
  EXPECT_EQ(to_string(TensorType{DType::i8, {64, 64}, Quantized{4, 32, DType::f16, false}}),
            "i8[64,64]{bits 4, group 32, scales f16}");
  EXPECT_EQ(to_string(TensorType{DType::bf16, {64, 64}, Quantized{.bits = 4, .tile_rows = 32}}),
            "bf16[64,64]{bits 4, group 32, scales i8, tile 32}");
}

TEST(TensorTypes, RefuseWhatIsNoType) {
  for (const char* text : {"", "f32", "f32[", "f32[1,]", "f32[-2]", "f32[1 ]", "f32[1,2,3,4,5]", "f99[1]",
                           "f32[99999999999999999999]", "f32[4]{tile 0x1}", "f32[4]{tile 4}", "f32[4]{tile 4x-1}",
                           "f32[4]{tile 9999999999x1}", "i8[4]{bits 0, group 4, scales f16}",
                           "i8[4]{bits 9, group 4, scales f16}", "i8[4]{bits 4, group 0, scales f16}",
                           "i8[4]{bits 4, group 4, scales x}", "i8[4]{bits 4, group 4, scales f16, zero}"}) {
    std::string_view rest = text;
    TensorType type;
    EXPECT_FALSE(parse_tensor_type(rest, type)) << text;
  }
}

TEST(TensorTypes, CountTheBytesOfPaddingScalesAndZeroPoints) {
  const auto bytes = [](DType dtype, Shape shape, Storage storage) {
    return TensorType{dtype, shape, storage}.bytes();
  };
  EXPECT_EQ(bytes(DType::f32, {}, Plain{}), 4u);
  EXPECT_EQ(bytes(DType::bf16, {3, 5}, Plain{}), 30u);
  EXPECT_EQ(bytes(DType::bf16, {3, 5}, Packed{16, 2}), 16u * 6 * 2);
  EXPECT_EQ(bytes(DType::bf16, {2, 17, 4}, Packed{16, 2}), 2u * 32 * 4 * 2);
  EXPECT_EQ(bytes(DType::f32, {5}, Packed{16, 4}), 32u);
  EXPECT_EQ(bytes(DType::f32, {0, 5}, Packed{16, 4}), 0u);
  EXPECT_EQ(bytes(DType::i8, {4, 64}, Quantized{4, 32, DType::f16, false}), 128u + 8 * 2);
  EXPECT_EQ(bytes(DType::i8, {4, 64}, Quantized{4, 32, DType::f32, true}), 128u + 8 * 8);
  EXPECT_EQ(bytes(DType::i8, {4, 33}, Quantized{8, 32, DType::f16, false}), 256u + 8 * 2);
  EXPECT_EQ(bytes(DType::i8, {1, 3}, Quantized{3, 1, DType::u8, false}), 2u + 3);            // nine bits are two bytes
  EXPECT_EQ(bytes(DType::bf16, {4, 64}, Quantized{4, 32, DType::i8, false}), 128u + 8 + 4);  // and exponents of rows
  EXPECT_EQ(bytes(DType::bf16, {2, 33, 33}, Quantized{8, 32, DType::i8, false, 32}), 2 * (64u * 64 + 64 * 2 + 64));
}

TEST(TensorTypes, FailRatherThanWrap) {
  const auto code = [](DType dtype, Shape shape, Storage storage) {
    try {
      TensorType{dtype, shape, storage}.bytes();
      return std::optional<ErrorCode>();
    } catch (const Error& e) {
      return std::optional(e.code());
    }
  };
  constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(code(DType::u8, {kMax}, Plain{}), std::nullopt);
  EXPECT_EQ(code(DType::f32, {kMax}, Plain{}), ErrorCode::data_loss);
  EXPECT_EQ(code(DType::u8, {kMax, 2}, Plain{}), ErrorCode::data_loss);
  EXPECT_EQ(code(DType::u8, {1l << 32, 1l << 31}, Plain{}), ErrorCode::data_loss);
  EXPECT_EQ(code(DType::u8, {kMax, 1}, Packed{16, 1}), ErrorCode::data_loss);
  EXPECT_EQ(code(DType::u8, {1, kMax}, Packed{1, 2}), ErrorCode::data_loss);
  EXPECT_EQ(code(DType::i8, {kMax}, Quantized{8, 1, DType::i64, true}), ErrorCode::data_loss);
  EXPECT_EQ(code(DType::i8, {(1l << 62) - 1}, Quantized{1, 1, DType::f16, true}),
            ErrorCode::data_loss);  // in the sum of both
  EXPECT_THROW((Shape{kMax, 3}.elements()), Error);
}

// Elements of a packed matrix lie in different places, all of them inside of what bytes() counts, and tiles and groups are
// the consecutive runs that the definition says.
TEST(PackedIndex, IsABijectionOntoTheStoredRange) {
  for (const Packed p : {Packed{1, 1}, Packed{16, 2}, Packed{4, 3}, Packed{64, 1}, Packed{1, 8}, Packed{5, 7}})
    for (const std::int64_t rows : {1, 5, 16, 33})
      for (const std::int64_t columns : {1, 2, 7, 24}) {
        const TensorType type{DType::u8, {rows, columns}, p};
        const std::int64_t padded_rows = (rows + p.rows - 1) / p.rows * p.rows,
                           padded_columns = (columns + p.group - 1) / p.group * p.group;
        std::set<std::int64_t> places;
        for (std::int64_t n = 0; n < padded_rows; ++n)
          for (std::int64_t k = 0; k < padded_columns; ++k) {
            const std::int64_t at = packed_index(p, padded_columns, n, k);
            places.insert(at);
            // [n / rows][k / group][n % rows][k % group], dimension by dimension
            const std::int64_t expected =
                ((n / p.rows * (padded_columns / p.group) + k / p.group) * p.rows + n % p.rows) * p.group + k % p.group;
            EXPECT_EQ(at, expected);
          }
        EXPECT_EQ(places.size(), type.bytes()) << to_string(type);
        EXPECT_EQ(*places.begin(), 0);
        EXPECT_EQ(*places.rbegin(), static_cast<std::int64_t>(type.bytes()) - 1);
      }
}

TEST(Shapes, CountDimensionsFromBothEnds) {
  Shape s{2, 3};
  s.push_back(4);
  EXPECT_EQ(s[0], 2);
  EXPECT_EQ(s[-1], 4);
  EXPECT_EQ(s.elements(), 24);
  EXPECT_EQ(Shape{}.elements(), 1);
  EXPECT_FALSE(s.dynamic());
  EXPECT_TRUE((Shape{Shape::kDynamic, 3}).dynamic());
  EXPECT_EQ(to_string(Shape{Shape::kDynamic, 3}), "[?,3]");
  EXPECT_EQ((Shape{2, 3, 4}), s);
  EXPECT_NE((Shape{2, 3}), s);
}

}  // namespace
}  // namespace cajal
