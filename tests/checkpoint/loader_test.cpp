#include "checkpoint/loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <mutex>
#include <set>

#include "checkpoint/convert.h"
#include "checkpoint/dummy_weights.h"
#include "checkpoint/test_files.h"
#include "tensor/pack.h"

namespace cajal {
namespace {

using test::error_of;
using test::Stored;
using test::StoredTensors;
using test::TempFolder;
using test::write_tensors;
using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using Bytes = std::vector<std::byte>;

// The rank's type of a parameter: what a model builder would declare.
TensorType rank_type(const ops::Parameter& parameter, DType dtype, Storage storage = Plain{}) {
  Shape joined = parameter.pieces.front().shape;
  joined[0] = 0;
  for (const WeightPiece& piece : parameter.pieces)
    joined[0] += piece.shape[0] / (piece.sharding.dim == 0 ? piece.sharding.parts : 1);
  if (const Sharding& s = parameter.pieces.front().sharding; s.dim == 1) joined[1] /= s.parts;
  Shape shape;
  if (parameter.repeat > 1) shape.push_back(parameter.repeat);
  for (const std::int64_t d : joined) shape.push_back(d);
  return {dtype, shape, storage};
}

// The slow and obvious way: element by element, one piece after the other, as the words in op.h say.
Bytes expected_share(const ops::Parameter& parameter, const StoredTensors& tensors, DType dtype,
                     TensorParallelRank rank) {
  Bytes out;
  for (std::int64_t index = 0; index < parameter.repeat; ++index)
    for (const WeightPiece& piece : parameter.pieces) {
      const Stored& source = tensors.at(name_of_repeat(piece.name, index));
      const std::int64_t rows = piece.shape[0], columns = piece.shape.rank() == 2 ? piece.shape[1] : 1;
      const std::int64_t part = rank.rank * piece.sharding.parts / rank.world;
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t c = 0; c < columns; ++c) {
          const bool mine =
              piece.sharding.dim < 0 || (piece.sharding.dim == 0 ? r * piece.sharding.parts / rows == part
                                                                 : c * piece.sharding.parts / columns == part);
          if (!mine) continue;
          std::byte value[4];
          const std::size_t at = static_cast<std::size_t>(r * columns + c) * size_of(source.dtype);
          convert_elements(source.dtype, source.bytes.data() + at, dtype, value, 1);
          out.insert(out.end(), value, value + size_of(dtype));
        }
    }
  return out;
}

class Loading : public testing::Test {
 protected:
  Bytes load(const StoredTensors& tensors, const ops::Parameter& parameter, const TensorType& type,
             TensorParallelRank rank = {}) {
    write_tensors(folder_.file("model.safetensors"), tensors);
    return load_from(Checkpoint(folder_.path()), parameter, type, rank);
  }
  Bytes load_from(const Checkpoint& checkpoint, const ops::Parameter& parameter, const TensorType& type,
                  TensorParallelRank rank = {}) {
    Bytes bytes(type.bytes(), std::byte{0xa5});
    load_parameter(checkpoint, {parameter, type, rank}, bytes.data(), staging_);
    return bytes;
  }
  Bytes dummy(const ops::Parameter& parameter, const TensorType& type, TensorParallelRank rank = {},
              std::uint64_t seed = 1) {
    Bytes bytes(type.bytes(), std::byte{0xa5});
    fill_dummy({parameter, type, rank}, seed, bytes.data(), staging_);
    return bytes;
  }

  std::mt19937 random_{42};
  ThreadPool pool_{2};
  Staging staging_{pool_};
  TempFolder folder_;
};

std::int64_t below(std::mt19937& random, int n) {
  return static_cast<std::int64_t>(random() % static_cast<unsigned>(n));
}

// Random parameters of the kinds that models have: fused q, k, v with fewer kv parts, fused gate and up, row-parallel
// columns, experts, biases.
struct Case {
  ops::Parameter parameter;
  StoredTensors tensors;
  DType source, target;
};
Case random_case(std::mt19937& random) {
  constexpr DType kTypes[] = {DType::bf16, DType::f16, DType::f32};
  Case c;
  c.source = kTypes[below(random, 3)];
  c.target = kTypes[below(random, 3)];
  const std::int64_t world = std::int64_t{1} << below(random, 4);
  const bool by_columns = below(random, 3) == 0, vector = !by_columns && below(random, 4) == 0;
  const std::int64_t columns = vector ? 1 : (1 + below(random, 400)) * (by_columns ? world : 1);
  c.parameter.repeat = vector ? 1 : 1 + below(random, 4);
  const std::int64_t pieces = by_columns ? 1 : 1 + below(random, 3);
  for (std::int64_t i = 0; i < pieces; ++i) {
    const std::int64_t parts = std::int64_t{1} << below(random, 1 + std::countr_zero(static_cast<unsigned>(world)));
    WeightPiece piece;
    piece.name = detail::join("model.", c.parameter.repeat > 1 ? "*." : "", i);
    const std::int64_t rows = (1 + below(random, 40)) * (by_columns ? 1 : parts);
    piece.shape = vector ? Shape{rows} : Shape{rows, columns};
    piece.sharding = by_columns ? Sharding{1, static_cast<int>(world)} : Sharding{0, static_cast<int>(parts)};
    if (below(random, 6) == 0 && !by_columns) piece.sharding = {};
    for (std::int64_t r = 0; r < c.parameter.repeat; ++r)
      c.tensors[name_of_repeat(piece.name, r)] =
          test::random_tensor(c.source, {piece.shape.begin(), piece.shape.end()}, random);
    c.parameter.pieces.push_back(piece);
  }
  return c;
}

int world_of(const ops::Parameter& parameter) {
  int world = 1;
  for (const WeightPiece& piece : parameter.pieces) world = std::max(world, piece.sharding.parts);
  return world;
}

TEST_F(Loading, EveryRankGetsWhatTheWordsSayPlainAndPacked) {
  for (int i = 0; i < 120; ++i) {
    const Case c = random_case(random_);
    write_tensors(folder_.file("model.safetensors"), c.tensors);
    const Checkpoint checkpoint(folder_.path());
    const int world = world_of(c.parameter) * (i % 2 + 1);  // twice as many ranks as parts: neighbours share
    for (int rank = 0; rank < world; ++rank) {
      const Bytes expected = expected_share(c.parameter, c.tensors, c.target, {rank, world});
      const TensorType plain = rank_type(c.parameter, c.target);
      ASSERT_EQ(load_from(checkpoint, c.parameter, plain, {rank, world}), expected) << i << ' ' << to_string(plain);
      if (plain.shape.rank() == 1) continue;
      for (const Packed& tile : {Packed{16, 2}, Packed{8, 1}, Packed{4, 32}}) {
        const TensorType packed = rank_type(c.parameter, c.target, tile);
        const Bytes stored = load_from(checkpoint, c.parameter, packed, {rank, world});
        ASSERT_EQ(test::unpacked(packed, stored.data()), expected) << i << ' ' << to_string(packed);
      }
    }
  }
}

TEST_F(Loading, SharedThenJoinedIsTheIdentity) {
  for (const int dim : {0, 1})
    for (const int world : {1, 2, 4, 8}) {
      const ops::Parameter parameter{{{"w", {24, 1600}, {dim, world}}}, 1, ""};
      const StoredTensors tensors = {{"w", test::random_tensor(DType::f32, {24, 1600}, random_)}};
      Bytes joined(tensors.at("w").bytes.size());
      const std::int64_t rows = dim == 0 ? 24 / world : 24, columns = dim == 1 ? 1600 / world : 1600;
      for (int rank = 0; rank < world; ++rank) {
        const Bytes share = load(tensors, parameter, rank_type(parameter, DType::f32), {rank, world});
        for (std::int64_t r = 0; r < rows; ++r) {
          const std::int64_t row = dim == 0 ? rank * rows + r : r, column = dim == 1 ? rank * columns : 0;
          std::memcpy(joined.data() + (row * 1600 + column) * 4, share.data() + r * columns * 4,
                      static_cast<std::size_t>(columns) * 4);
        }
      }
      EXPECT_EQ(joined, tensors.at("w").bytes) << dim << ' ' << world;
    }
}

// Ranks that hold some columns of a row round them by the row's exponent, which is that of all columns.
TEST_F(Loading, SharesOfQuantisedRowsAreRoundedAsTheWhole) {
  constexpr std::int64_t kRows = 40, kColumns = 1024, kGroup = 32;
  for (const bool from_disk : {true, false})
    for (const int bits : {8, 4})
      for (const DType source : {DType::bf16, DType::f32})
        for (const int experts : {1, 3})
          for (Sharding sharding : {Sharding{.dim = 1, .parts = 2}, Sharding{.dim = 1, .parts = 8},
                                    Sharding{.dim = 1, .parts = 2, .unit = 256, .units = {0, 2, 3, -1, 1, -1}}}) {
            const std::string name = experts > 1 ? "w.*" : "w";
            const ops::Parameter whole{{{name, {kRows, kColumns}, {}}}, experts, ""};
            const ops::Parameter shared{{{name, {kRows, kColumns}, sharding}}, experts, ""};
            StoredTensors tensors;
            for (int e = 0; e < experts; ++e)
              tensors[name_of_repeat(name, e)] = test::random_tensor(source, {kRows, kColumns}, random_);
            const auto filled = [&](const ops::Parameter& parameter, std::int64_t columns, TensorParallelRank rank) {
              TensorType type{DType::bf16, {kRows, columns}, Quantized{.bits = bits, .tile_rows = 32}};
              if (experts > 1) type.shape = {experts, kRows, columns};
              const Bytes stored = from_disk ? load(tensors, parameter, type, rank) : dummy(parameter, type, rank);
              Bytes rows(static_cast<std::size_t>(type.shape.elements()) * 2);
              unpack_rows(type, 0, experts * kRows, stored.data(), rows.data());
              return rows;
            };
            const Bytes all = filled(whole, kColumns, {});
            const std::int64_t columns = sharding.share(kColumns), unit = sharding.units.empty() ? columns : 256;
            for (int rank = 0; rank < sharding.parts; ++rank) {
              const Bytes mine = filled(shared, columns, {rank, sharding.parts});
              for (std::int64_t at = 0; at < experts * kRows * columns; at += kGroup) {
                const std::int64_t row = at / columns, place = (rank * columns + at % columns) / unit;
                const std::int64_t of_whole =
                    sharding.units.empty() ? place : sharding.units[static_cast<std::size_t>(place)];
                Bytes want(kGroup * 2);
                if (of_whole >= 0)
                  std::memcpy(want.data(),
                              &all[static_cast<std::size_t>(row * kColumns + of_whole * unit + at % unit) * 2],
                              want.size());
                ASSERT_EQ(std::memcmp(&mine[static_cast<std::size_t>(at) * 2], want.data(), want.size()), 0)
                    << (from_disk ? "loaded " : "dummy ") << bits << " bits, rank " << rank << " of " << sharding.parts
                    << ", row " << row;
              }
            }
          }
}

TEST_F(Loading, StackedOnDiskGivesTheBytesOfSeparateExperts) {
  const std::int64_t experts = 5, inner = 8, hidden = 12;
  StoredTensors apart, stacked;
  Stored gate_up{DType::bf16, {experts, 2 * inner, hidden}, {}}, down{DType::bf16, {experts, hidden, inner}, {}};
  for (std::int64_t e = 0; e < experts; ++e)
    for (const char* name : {"gate_proj", "up_proj", "down_proj"}) {
      const bool is_down = std::string_view(name) == "down_proj";
      const Stored one =
          test::random_tensor(DType::bf16, is_down ? std::vector{hidden, inner} : std::vector{inner, hidden}, random_);
      apart[detail::join("model.experts.", e, ".", name, ".weight")] = one;
      Bytes& into = is_down ? down.bytes : gate_up.bytes;
      into.insert(into.end(), one.bytes.begin(), one.bytes.end());
    }
  stacked["model.experts.gate_up_proj"] = gate_up;
  stacked["model.experts.down_proj"] = down;
  const int tp = 2;
  const ops::Parameter both{{{"model.experts.*.gate_proj.weight", {inner, hidden}, {0, tp}},
                             {"model.experts.*.up_proj.weight", {inner, hidden}, {0, tp}}},
                            experts,
                            "model.experts.gate_up_proj"};
  const ops::Parameter last{
      {{"model.experts.*.down_proj.weight", {hidden, inner}, {1, tp}}}, experts, "model.experts.down_proj"};
  for (const ops::Parameter& parameter : {both, last})
    for (int rank = 0; rank < tp; ++rank)
      for (const Storage& storage : {Storage{Plain{}}, Storage{Packed{16, 2}}}) {
        const TensorType type = rank_type(parameter, DType::f32, storage);
        EXPECT_EQ(load(apart, parameter, type, {rank, tp}), load(stacked, parameter, type, {rank, tp}));
      }

  StoredTensors partly = apart;  // individual pieces go first; what lacks among them is missing
  partly.insert(stacked.begin(), stacked.end());
  partly.erase("model.experts.3.up_proj.weight");
  EXPECT_THAT(error_of([&] {
                load(partly, both, rank_type(both, DType::f32), {0, tp});
              }),
              HasSubstr("has no tensor model.experts.3.up_proj.weight"));
  stacked["model.experts.gate_up_proj"].shape = {experts, hidden,
                                                 2 * inner};  // as a sibling architecture transposes them
  EXPECT_THAT(error_of([&] {
                load(stacked, both, rank_type(both, DType::f32), {0, tp});
              }),
              HasSubstr("shape is [5,12,16], expected [5,16,12]"));
}

TEST_F(Loading, ExpertsOfOneLayerMayBeSpreadOverFiles) {
  const ops::Parameter parameter{{{"e.*", {4, 6}, {}}}, 3, ""};
  StoredTensors all;
  std::string map;
  for (int e = 0; e < 3; ++e) {
    const std::string name = detail::join("e.", e), file = detail::join("part", e, ".safetensors");
    all[name] = test::random_tensor(DType::f16, {4, 6}, random_);
    write_tensors(folder_.file(file), {{name, all[name]}});
    map += detail::join(e ? "," : "", '"', name, "\":\"", file, '"');
  }
  folder_.write("model.safetensors.index.json", "{\"weight_map\":{" + map + "}}");
  const TensorType type = rank_type(parameter, DType::bf16);
  EXPECT_EQ(load_from(Checkpoint(folder_.path()), parameter, type), expected_share(parameter, all, DType::bf16, {}));
}

TEST_F(Loading, APaddedVocabularyEndsInZeros) {
  const ops::Parameter parameter{{{"embed", {10, 3}, {0, 4}}}, 1, ""};
  const StoredTensors tensors = {{"embed", test::random_tensor(DType::f32, {10, 3}, random_)}};
  const TensorType type{DType::f32, {3, 3}, Plain{}};  // four ranks of three rows hold ten
  Bytes joined;
  for (int rank = 0; rank < 4; ++rank) {
    const Bytes share = load(tensors, parameter, type, {rank, 4});
    joined.insert(joined.end(), share.begin(), share.end());
  }
  const auto middle = joined.begin() + 10 * 3 * 4;
  EXPECT_EQ(Bytes(joined.begin(), middle), tensors.at("embed").bytes);
  EXPECT_THAT(Bytes(middle, joined.end()), Each(std::byte{0}));
}

TEST_F(Loading, WhatDoesNotFitIsRefusedWithBothShapes) {
  const ops::Parameter parameter{{{"model.q.weight", {8, 4}, {}}}, 1, ""};
  const TensorType type = rank_type(parameter, DType::bf16);
  EXPECT_THAT(error_of([&] {
                load({{"model.q.weight", test::random_tensor(DType::bf16, {4, 4}, random_)}}, parameter, type);
              }),
              AllOf(HasSubstr("model.q.weight in "), HasSubstr("model.safetensors: shape is [4,4], expected [8,4]"),
                    HasSubstr("another model")));
  EXPECT_THAT(error_of([&] {
                load({{"model.q.weight", {DType::i64, {8, 4}, Bytes(256)}}}, parameter, type);
              }),
              HasSubstr("the dtype is I64, expected BF16, F16 or F32"));
  const StoredTensors good = {{"model.q.weight", test::random_tensor(DType::bf16, {8, 4}, random_)}};
  EXPECT_THAT(error_of([&] { load(good, parameter, {DType::i8, {8, 4}, Plain{}}); }), HasSubstr("weights as i8"));
  EXPECT_THAT(error_of([&] { load(good, parameter, {DType::bf16, {7, 4}, Plain{}}); }), HasSubstr("give 8 rows"));
  EXPECT_THAT(error_of([&] { load(good, parameter, {DType::bf16, {8, 2}, Plain{}}); }), HasSubstr("4 columns"));
  EXPECT_THAT(error_of([&] { load(good, parameter, {DType::bf16, {1, 8, 4}, Plain{}}); }), HasSubstr("2 dimensions"));
  const ops::Parameter cut{{{"model.q.weight", {8, 4}, {0, 3}}}, 1, ""};
  EXPECT_THAT(error_of([&] { load(good, cut, {DType::bf16, {2, 4}, Plain{}}, {0, 3}); }), HasSubstr("give 3 rows"));
  EXPECT_THAT(error_of([&] {
                load(good, cut, {DType::bf16, {3, 4}, Plain{}}, {0, 4});
              }),
              HasSubstr("cannot share evenly"));
}

TEST_F(Loading, AFileThatShrinksMeanwhileIsAnErrorFromAnyThread) {
  const ops::Parameter parameter{{{"w", {4096, 512}, {}}}, 1, ""};
  write_tensors(folder_.file("model.safetensors"), {{"w", test::random_tensor(DType::f32, {4096, 512}, random_)}});
  const Checkpoint checkpoint(folder_.path());
  std::filesystem::resize_file(folder_.file("model.safetensors"), 5'000'000);
  for (int i = 0; i < 5; ++i)
    EXPECT_THAT(error_of([&] { load_from(checkpoint, parameter, rank_type(parameter, DType::bf16)); }),
                HasSubstr("the file ends"));
}

TEST_F(Loading, NeedsLittleMemoryBesideTheWeights) {
  const ops::Parameter parameter{{{"w", {4096, 1024}, {}}}, 1, ""};
  const StoredTensors tensors = {{"w", test::random_tensor(DType::f32, {4096, 1024}, random_)}};
  write_tensors(folder_.file("model.safetensors"), tensors);
  const TensorType type = rank_type(parameter, DType::bf16, Packed{16, 2});
  for (const int threads : {1, 2, 16}) {
    ThreadPool pool(threads);
    constexpr std::size_t kBound = std::size_t{3} << 20;
    Staging staging(pool, kBound);
    Bytes bytes(type.bytes());
    load_parameter(Checkpoint(folder_.path()), {parameter, type, {}}, bytes.data(), staging);
    EXPECT_GT(staging.peak_bytes(), 0u);
    EXPECT_LE(staging.peak_bytes(), kBound);
    EXPECT_EQ(test::unpacked(type, bytes.data()), expected_share(parameter, tensors, DType::bf16, {}));
  }
  Staging too_small(pool_, 1000);
  Bytes bytes(type.bytes());
  EXPECT_THAT(error_of([&] {
                load_parameter(Checkpoint(folder_.path()), {parameter, type, {}}, bytes.data(), too_small);
              }),
              HasSubstr("buffer of"));
}

TEST_F(Loading, DummyWeightsDoNotDependOnShardingPackingOrThreads) {
  for (int i = 0; i < 60; ++i) {
    const Case c = random_case(random_);
    const int world = world_of(c.parameter);
    // The whole of each tensor, as if it had been on a disk.
    StoredTensors whole;
    for (std::int64_t index = 0; index < c.parameter.repeat; ++index)
      for (const WeightPiece& piece : c.parameter.pieces) {
        const std::string name = name_of_repeat(piece.name, index);
        const ops::Parameter alone{{{name, piece.shape, {}}}, 1, ""};
        whole[name] = {
            c.target, {piece.shape.begin(), piece.shape.end()}, dummy(alone, {c.target, piece.shape, Plain{}})};
      }
    for (int rank = 0; rank < world; ++rank) {
      const Bytes expected = expected_share(c.parameter, whole, c.target, {rank, world});
      const TensorType plain = rank_type(c.parameter, c.target);
      ASSERT_EQ(dummy(c.parameter, plain, {rank, world}), expected) << i;
      if (plain.shape.rank() == 1) continue;
      const TensorType packed = rank_type(c.parameter, c.target, Packed{16, 2});
      ThreadPool pool(1 + i % 5);
      Staging staging(pool);
      Bytes stored(packed.bytes());
      fill_dummy({c.parameter, packed, {rank, world}}, 1, stored.data(), staging);
      ASSERT_EQ(test::unpacked(packed, stored.data()), expected) << i;
    }
  }
}

// A device in miniature: takes rows in any order, packs them by itself, and has few slots.
class Rows final : public RowStore {
 public:
  explicit Rows(const TensorType& type, bool makes_dummy = false)
      : stored(type.bytes()), type_(type), makes_dummy_(makes_dummy) {}
  std::size_t max_bytes() const override { return 5000; }
  std::span<std::byte> acquire() override {
    auto* slot = new std::byte[max_bytes()];
    const std::scoped_lock lock(mutex_);
    out_.insert(slot);
    return {slot, max_bytes()};
  }
  void store(std::int64_t first_row, std::int64_t num_rows, std::span<std::byte> rows) override {
    const std::scoped_lock lock(mutex_);
    put(first_row, num_rows, rows.data());
    take(rows);
  }
  void give_back(std::span<std::byte> rows) override {
    const std::scoped_lock lock(mutex_);
    take(rows);
  }
  bool makes_dummy_rows() const override { return makes_dummy_; }
  // As a kernel does it: element by element, from the recipe alone.
  void make(std::span<const DummyRows> rows) override {
    const std::int64_t columns = type_.shape.rank() == 1 ? 1 : type_.shape[-1];
    const std::int64_t of_matrix = type_.shape.rank() == 1 ? type_.shape[0] : type_.shape[-2];
    for (const DummyRows& r : rows)
      for (std::int64_t n = 0; n < r.rows; ++n) {
        std::vector<std::byte> row(static_cast<std::size_t>(columns) * size_of(type_.dtype));
        for (std::int64_t k = 0; k < columns; ++k) {
          const std::int64_t at = (r.source_row + n) * r.source_columns + r.source_column + k;
          const float value = r.numbers.value(
              static_cast<std::uint16_t>(r.numbers.hash(static_cast<std::uint64_t>(at / 4)) >> (16 * (at % 4))));
          convert_elements(DType::f32, reinterpret_cast<const std::byte*>(&value), type_.dtype,
                           row.data() + static_cast<std::size_t>(k) * size_of(type_.dtype), 1);
        }
        put(r.index * of_matrix + r.row + n, 1, row.data());
      }
  }
  std::size_t slots_out() const { return out_.size(); }

  Bytes stored;

 private:
  // Rows of a vector are its elements.
  void put(std::int64_t first_row, std::int64_t num_rows, const std::byte* rows) {
    const TensorType as_matrix{type_.dtype, {type_.shape.elements(), 1}, Plain{}};
    pack_rows(type_.shape.rank() == 1 ? as_matrix : type_, first_row, num_rows, rows, stored.data());
  }
  void take(std::span<std::byte> slot) {
    ASSERT_EQ(out_.erase(slot.data()), 1u);
    delete[] slot.data();
  }
  TensorType type_;
  bool makes_dummy_;
  std::mutex mutex_;
  std::set<std::byte*> out_;
};

TEST_F(Loading, GivesRowsToWhoStoresThemByHimself) {
  for (int i = 0; i < 60; ++i) {
    const Case c = random_case(random_);
    write_tensors(folder_.file("model.safetensors"), c.tensors);
    const Checkpoint checkpoint(folder_.path());
    const int world = world_of(c.parameter);
    for (int rank = 0; rank < world; ++rank) {
      const TensorType plain = rank_type(c.parameter, c.target);
      Rows rows(plain);
      load_parameter(checkpoint, {c.parameter, plain, {rank, world}}, WeightPlace(rows), staging_);
      ASSERT_EQ(rows.stored, expected_share(c.parameter, c.tensors, c.target, {rank, world})) << i;
      ASSERT_EQ(rows.slots_out(), 0u);
      Rows made(plain, true);
      made.make(dummy_rows({c.parameter, plain, {rank, world}}, 7));
      ASSERT_EQ(made.stored, dummy(c.parameter, plain, {rank, world}, 7)) << i;
    }
  }
}

TEST_F(Loading, GivesSlotsBackWhenAFileShrinksMeanwhile) {
  const ops::Parameter parameter{{{"w", {4096, 512}, {}}}, 1, ""};
  write_tensors(folder_.file("model.safetensors"), {{"w", test::random_tensor(DType::f32, {4096, 512}, random_)}});
  const Checkpoint checkpoint(folder_.path());
  std::filesystem::resize_file(folder_.file("model.safetensors"), 5'000'000);
  const TensorType type = rank_type(parameter, DType::bf16);
  Rows rows(type);
  EXPECT_THAT(error_of([&] {
                load_parameter(checkpoint, {parameter, type, {}}, WeightPlace(rows), staging_);
              }),
              HasSubstr("the file ends"));
  EXPECT_EQ(rows.slots_out(), 0u);
}

TEST_F(Loading, DummyWeightsLookLikeAFreshModels) {
  const auto statistics = [&](const std::string& name, const Shape& shape, std::uint64_t seed = 1) {
    const Bytes bytes = dummy({{{name, shape, {}}}, 1, ""}, {DType::f32, shape, Plain{}}, {}, seed);
    std::vector<float> values(bytes.size() / 4);
    std::memcpy(values.data(), bytes.data(), bytes.size());
    double sum = 0, squares = 0;
    for (const float v : values) sum += v, squares += double{v} * v;
    const double n = static_cast<double>(values.size()), mean = sum / n;
    return std::pair(mean, std::sqrt(squares / n - mean * mean));
  };
  const auto [mean, deviation] = statistics("model.layers.0.mlp.up_proj.weight", {512, 1024});
  EXPECT_NEAR(mean, 0, 1e-4);
  EXPECT_NEAR(deviation, 0.02, 1e-4);
  EXPECT_NEAR(statistics("model.norm.weight", {4096}).first, 1, 5e-3);
  EXPECT_NEAR(statistics("model.q_proj.bias", {4096}).first, 0, 5e-3);
  const Shape shape{64, 64};
  const TensorType type{DType::bf16, shape, Plain{}};
  const ops::Parameter a{{{"a", shape, {}}}, 1, ""}, b{{{"b", shape, {}}}, 1, ""};
  EXPECT_NE(dummy(a, type), dummy(b, type));
  EXPECT_NE(dummy(a, type, {}, 1), dummy(a, type, {}, 2));
  EXPECT_EQ(dummy(a, type), dummy(a, type));
}

}  // namespace
}  // namespace cajal
