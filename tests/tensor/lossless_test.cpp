#include "tensor/lossless.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "tensor/pack.h"

namespace cajal {
namespace {

using Bytes = std::vector<std::byte>;
using Words = std::vector<std::uint16_t>;

Words normal_weights(std::int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  Words words(static_cast<std::size_t>(n));
  for (auto& w : words) w = float_to_bf16(normal(random));
  return words;
}

const std::byte* bytes_of(const Words& words) { return reinterpret_cast<const std::byte*>(words.data()); }

Bytes packed(const TensorType& t, const Words& words) {
  Bytes stored(t.bytes(), std::byte{0x5a});
  pack_rows(t, 0, t.shape.elements() / t.shape[-1], bytes_of(words), stored.data());
  return stored;
}

Words there_and_back(const TensorType& t, const Words& words) {
  const Bytes stored = packed(t, words);
  Words back(words.size());
  unpack_rows(t, 0, t.shape.elements() / t.shape[-1], stored.data(), reinterpret_cast<std::byte*>(back.data()));
  return back;
}

TEST(Lossless, NormallyDistributedWeightsComeBackInEveryBit) {
  for (const std::int64_t n : {1, 15, 16, 17, 48})
    for (const std::int64_t k : {1, 2, 3, 8, 31, 64, 100, 1000})
      for (const TensorType& t : {TensorType{DType::bf16, {n, k}, Lossless{}}, {DType::bf16, {3, n, k}, Lossless{}}}) {
        const Words words = normal_weights(t.shape.elements(), 1);
        ASSERT_EQ(there_and_back(t, words), words) << to_string(t);
      }
}

TEST(Lossless, EveryOneOfThe65536ValuesComesBack) {
  const std::int64_t k = 1024, tiles = 600;
  const TensorType t{DType::bf16, {16 * tiles, k}, Lossless{}};
  Words words = normal_weights(t.shape.elements(), 2);
  const LosslessLayout layout{16 * tiles, k};
  for (std::int64_t i = 0; i < 65536; ++i) {
    const std::int64_t tile = i % tiles, place = i / tiles * 149;
    words[static_cast<std::size_t>(tile * 16 * k + place)] = static_cast<std::uint16_t>(i);
  }
  ASSERT_GT(layout.max_escapes(), 65536 / tiles);
  EXPECT_EQ(there_and_back(t, words), words);
}

TEST(Lossless, EscapesBesideEachOtherAndAtBothEndsComeBack) {
  const TensorType t{DType::bf16, {16, 512}, Lossless{}};
  for (const std::int64_t first : {0, 1, 511, 16 * 512 - 60}) {
    Words words(16 * 512, 0x3c00);
    for (std::size_t i = 0; i < 15; ++i)
      words[1000 + i * 200] = words[1001 + i * 200] = static_cast<std::uint16_t>(i << 8);
    for (std::int64_t i = 0; i < 60; ++i)
      words[static_cast<std::size_t>(first + i)] = static_cast<std::uint16_t>((0x40 + i % 60) << 8 | 0x5a);
    ASSERT_EQ(there_and_back(t, words), words) << first;
  }
}

TEST(Lossless, ATileTakesAsManyEscapesAsItSaysAndNoMore) {
  const TensorType t{DType::bf16, {40, 256}, Lossless{}};
  const std::int64_t room = LosslessLayout{40, 256}.max_escapes();
  for (const std::int64_t escapes : {room, room + 1}) {
    Words words(40 * 256, 0x3c12);
    // Sixteen values fill the table, and each of the others comes less often.
    for (std::int64_t i = 0; i < 15 * 50; ++i)
      words[static_cast<std::size_t>(16 * 256 + i)] = static_cast<std::uint16_t>((i % 15) << 8);
    for (std::int64_t i = 0; i < escapes; ++i)
      words[static_cast<std::size_t>(16 * 256 + 1000 + i)] = static_cast<std::uint16_t>((0x80 + i % 100) << 8);
    if (escapes <= room) {
      EXPECT_EQ(there_and_back(t, words), words);
      continue;
    }
    try {
      packed(t, words);
      ADD_FAILURE() << escapes << " escapes are taken";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::unsupported);
      EXPECT_NE(std::string(e.what()).find(detail::join("rows from 16 on: ", escapes, " of 4096 weights")),
                std::string::npos)
          << e.what();
    }
  }
}

TEST(Lossless, PiecesOfWholeTilesGiveTheBytesOfTheWhole) {
  const TensorType t{DType::bf16, {2, 40, 24}, Lossless{}};
  const Words words = normal_weights(t.shape.elements(), 3);
  const Bytes want = packed(t, words);
  Bytes got(t.bytes());
  for (const auto& [first, rows] : {std::pair{72, 8}, {0, 16}, {56, 16}, {16, 24}, {40, 16}})
    pack_rows(t, first, rows, bytes_of(words) + first * 24 * 2, got.data());
  EXPECT_EQ(got, want);
  Words part(7 * 24);
  unpack_rows(t, 37, 7, want.data(), reinterpret_cast<std::byte*>(part.data()));
  EXPECT_TRUE(std::equal(part.begin(), part.end(), words.begin() + 37 * 24));
}

TEST(Lossless, KnowsListsOfEscapesThatKernelsCannotFollow) {
  const TensorType t{DType::bf16, {2, 40, 24}, Lossless{}};
  const LosslessLayout l{40, 24};
  const Bytes whole = packed(t, normal_weights(t.shape.elements(), 5));
  EXPECT_TRUE(lossless_tiles_are_sound(t, whole.data()));
  const auto sound_with = [&](std::int64_t tile, const std::vector<std::uint32_t>& escapes) {
    Bytes changed = whole;
    const std::int64_t list = tile * l.tile_bytes() + LosslessLayout::kTableBytes;
    for (std::size_t i = 0; i < 4 * escapes.size(); ++i)
      changed.at(static_cast<std::size_t>(list) + i) = static_cast<std::byte>(escapes[i / 4] >> i % 4 * 8);
    return lossless_tiles_are_sound(t, changed.data());
  };
  const auto end = static_cast<std::uint32_t>(l.units() * LosslessLayout::kUnitWeights);
  EXPECT_TRUE(sound_with(5, {kNoEscape}));
  EXPECT_TRUE(sound_with(5, {8 << 8, (end - 1) << 8, kNoEscape}));
  EXPECT_FALSE(sound_with(5, {8 << 8, end << 8, kNoEscape}));
  EXPECT_FALSE(sound_with(0, {9 << 8, 8 << 8, kNoEscape}));
  std::vector<std::uint32_t> many;
  for (std::uint32_t i = 0; i < l.max_escapes(); ++i) many.push_back(i << 8);
  many.push_back(kNoEscape);
  EXPECT_TRUE(sound_with(2, many));
  many.back() = 0x1000 << 8 | 0xff;
  EXPECT_FALSE(sound_with(2, many));
}

TEST(Lossless, TakesTwelveBitsAWeightAndAFortieth) {
  const TensorType t{DType::bf16, {4096, 1024}, Lossless{}};
  EXPECT_EQ(t.bytes() % 64, 0u);
  EXPECT_LT(static_cast<double>(t.bytes()), 1.025 * 1.5 * 4096 * 1024);
  std::string_view text = "bf16[4096,1024]{lossless}";
  TensorType parsed;
  EXPECT_EQ(to_string(t), text);
  EXPECT_TRUE(parse_tensor_type(text, parsed));
  EXPECT_EQ(parsed, t);
  for (std::string_view wrong : {"f32[64,64]{lossless}", "bf16[64]{lossless}"})
    EXPECT_FALSE(parse_tensor_type(wrong, parsed));
}

}  // namespace
}  // namespace cajal
