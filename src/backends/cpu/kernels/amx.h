#pragma once
// Intel's tiles (AMX) as an object with eight registers of up to 16 rows by 64 bytes. Not the compiler's intrinsics: GCC 12 takes
// the 64 bytes that ldtilecfg reads for 8, and the memory that tileloadd reads for none, and drops or moves what was stored there.
// To be included *inside* a target region with CAJAL_AMX, behind <cstddef> and <cstdint>.
namespace cajal::cpu {
namespace {

class HardwareTiles {
 public:
  static constexpr int kTiles = 8;

  // `rows` and `row_bytes` (at most 16, and 64 in fours) of every register; none may be 0.
  void configure(const int (&rows)[kTiles], const int (&row_bytes)[kTiles]) {
    struct alignas(64) {
      std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
      std::uint16_t row_bytes[16] = {};
      std::uint8_t rows[16] = {};
    } config;
    for (int i = 0; i < kTiles; ++i) {
      config.rows[i] = static_cast<std::uint8_t>(rows[i]);
      config.row_bytes[i] = static_cast<std::uint16_t>(row_bytes[i]);
    }
    __asm__ volatile("ldtilecfg %0" ::"m"(config));
  }
  // Gives them back, so that the system need not save them any more.
  ~HardwareTiles() { __asm__ volatile("tilerelease"); }

  template <int kTile>
  [[gnu::always_inline]] void zero() {
    __asm__ volatile("tilezero %%tmm%c0" ::"i"(kTile));
  }
  // `stride`: bytes from a row in memory to the next.
  template <int kTile>
  [[gnu::always_inline]] void load(const void* from, std::int64_t stride) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(kTile) : "memory");
  }
  template <int kTile>
  [[gnu::always_inline]] void store(void* to, std::int64_t stride) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(kTile) : "memory");
  }
  // sums[m][n] += what pairs of bf16 x[m][k] and w[k][n] give: the even columns and the odd ones each a chain of fused multiply-adds
  // in f32 from zero on, their sum, which is added; denormals count as zeros everywhere.
  template <int kSums, int kX, int kW>
  [[gnu::always_inline]] void multiply_bf16() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kX), "i"(kW));
  }
  // sums[m][n] += the products of fours of signed bytes x[m][k] and w[k][n], in i32.
  template <int kSums, int kX, int kW>
  [[gnu::always_inline]] void multiply_int8() {
    __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kX), "i"(kW));
  }
};

}  // namespace
}  // namespace cajal::cpu
