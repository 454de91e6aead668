#pragma once
// One step of a product by tile registers. To be included *inside* a target region, behind <cstdint> and <utility>.
namespace cajal::cpu {
namespace {

// body<0>(), body<1>() and so on: registers have numbers, not addresses.
template <int kCount, class Body>
[[gnu::always_inline]] inline void unroll(const Body& body) {
  [&]<int... kNumber>(std::integer_sequence<int, kNumber...>) { (body.template operator()<kNumber>(), ...); }
  (std::make_integer_sequence<int, kCount>());
}

// Where a tile register is loaded from: `stride` bytes from a row to the next.
struct TileRowsAt {
  const std::byte* first;
  std::int64_t stride;
};

// Registers 0 to 3 are sums, those of an x after those of the one before it; then come kX of x, then weights.
template <int kX, int kOutputs, class Tiles>
[[gnu::always_inline]] inline void multiply_step(Tiles& tiles, const std::byte* const (&x)[kX], std::int64_t x_stride,
                                                 TileRowsAt weight, std::int64_t weight_step) {
  constexpr int kFirstX = 4, kFirstWeight = kFirstX + kX, kWeights = Tiles::kTiles - kFirstWeight;
  unroll<kX>([&]<int kRow>() { tiles.template load<kFirstX + kRow>(x[kRow], x_stride); });
  unroll<kOutputs>([&]<int kOutput>() {
    constexpr int kWeight = kFirstWeight + kOutput % kWeights;
    tiles.template load<kWeight>(weight.first + kOutput * weight_step, weight.stride);
    unroll<kX>([&]<int kRow>() { tiles.template multiply_bf16<kRow * kOutputs + kOutput, kFirstX + kRow, kWeight>(); });
  });
}

}  // namespace
}  // namespace cajal::cpu
