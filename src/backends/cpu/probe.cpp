#include "backends/cpu/probe.h"

#include <immintrin.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "backends/cpu/isa.h"
#include "backends/cpu/unroll.h"
#include "base/error.h"

namespace cajal::cpu {
namespace {

constexpr int kChains = 24;        // more than latency times issue width of any of these instructions
constexpr int kPiecesAThread = 8;  // small pieces, so that a thread that lost its core delays little

// Somewhere to put results so that the compiler must compute them.
std::atomic<std::uint32_t> sink;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace
}  // namespace cajal::cpu

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX2)
namespace cajal::cpu {
namespace {

std::uint32_t multiply_f32_avx2(std::int64_t rounds) {
  __m256 c[12];
  const __m256 a = _mm256_set1_ps(1.0f), b = _mm256_set1_ps(0.0f);
  CAJAL_UNROLL for (int j = 0; j < 12; ++j) c[j] = a;
  for (std::int64_t i = 0; i < rounds; ++i) {
    CAJAL_UNROLL for (int j = 0; j < 12; ++j) {
      c[j] = _mm256_fmadd_ps(a, b, c[j]);
      __asm__ volatile("" : "+x"(c[j]));
    }
  }
  __m256 sum = a;
  CAJAL_UNROLL for (int j = 0; j < 12; ++j) sum = _mm256_add_ps(sum, c[j]);
  return static_cast<std::uint32_t>(_mm256_cvtss_f32(sum));
}

template <bool kFetch>
std::uint32_t read_avx2(const std::byte* p, std::size_t bytes) {
  constexpr std::size_t kStreams = 4;
  const std::size_t stream = bytes / kStreams;
  __m256i c[kStreams] = {};
  for (std::size_t i = 0; i < stream; i += 64) {
    CAJAL_UNROLL for (std::size_t s = 0; s < kStreams; ++s) {
      const auto* q = reinterpret_cast<const __m256i*>(p + s * stream + i);
      if constexpr (kFetch) _mm_prefetch(reinterpret_cast<const char*>(q) + 1024, _MM_HINT_T0);
      c[s] = _mm256_xor_si256(c[s], _mm256_xor_si256(_mm256_load_si256(q), _mm256_load_si256(q + 1)));
    }
  }
  c[0] = _mm256_xor_si256(_mm256_xor_si256(c[0], c[1]), _mm256_xor_si256(c[2], c[3]));
  return static_cast<std::uint32_t>(_mm256_extract_epi32(c[0], 0));
}

}  // namespace
}  // namespace cajal::cpu
CAJAL_TARGET_REGION_END

CAJAL_TARGET_REGION_BEGIN("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vnni,avx2,fma,f16c")
namespace cajal::cpu {
namespace {

struct MulF32 {
  static __m512i step(__m512i c, __m512i a) {
    return _mm512_castps_si512(_mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(a), _mm512_castsi512_ps(c)));
  }
};
struct MulBf16 {
  static __m512i step(__m512i c, __m512i a) {
    return _mm512_castps_si512(
        _mm512_dpbf16_ps(_mm512_castsi512_ps(c), reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(a)));
  }
};
struct MulInt8 {
  static __m512i step(__m512i c, __m512i a) { return _mm512_dpbusd_epi32(c, a, a); }
};

template <class Op>
std::uint32_t multiply_avx512(std::int64_t rounds) {
  __m512i c[kChains];
  const __m512i a = _mm512_setzero_si512();
  CAJAL_UNROLL for (int j = 0; j < kChains; ++j) c[j] = a;
  for (std::int64_t i = 0; i < rounds; ++i) {
    CAJAL_UNROLL for (int j = 0; j < kChains; ++j) {
      c[j] = Op::step(c[j], a);
      __asm__ volatile("" : "+v"(c[j]));
    }
  }
  __m512i all = a;
  CAJAL_UNROLL for (int j = 0; j < kChains; ++j) all = _mm512_xor_si512(all, c[j]);
  return static_cast<std::uint32_t>(_mm512_reduce_add_epi32(all));
}

template <bool kFetch>
std::uint32_t read_avx512(const std::byte* p, std::size_t bytes) {
  constexpr std::size_t kStreams = 4;
  const std::size_t stream = bytes / kStreams;
  __m512i c[kStreams] = {};
  for (std::size_t i = 0; i < stream; i += 64) {
    CAJAL_UNROLL for (std::size_t s = 0; s < kStreams; ++s) {
      const auto* q = p + s * stream + i;
      if constexpr (kFetch) _mm_prefetch(reinterpret_cast<const char*>(q) + 1024, _MM_HINT_T0);
      c[s] = _mm512_xor_si512(c[s], _mm512_load_si512(q));
    }
  }
  c[0] = _mm512_xor_si512(_mm512_xor_si512(c[0], c[1]), _mm512_xor_si512(c[2], c[3]));
  return static_cast<std::uint32_t>(_mm512_reduce_add_epi32(c[0]));
}

}  // namespace
}  // namespace cajal::cpu
CAJAL_TARGET_REGION_END

CAJAL_TARGET_REGION_BEGIN(CAJAL_AMX)
#include "backends/cpu/kernels/amx.h"

namespace cajal::cpu {
namespace {

constexpr std::int64_t kRoundsATime = 6;  // of others take as long as one of four tile instructions

template <bool kBf16>
std::uint32_t multiply_amx(std::int64_t rounds) {
  HardwareTiles tiles;
  constexpr int kRows[] = {16, 16, 16, 16, 16, 16, 16, 16}, kRowBytes[] = {64, 64, 64, 64, 64, 64, 64, 64};
  tiles.configure(kRows, kRowBytes);
  for (std::int64_t i = 0; i < rounds; i += kRoundsATime) {
    if constexpr (kBf16)
      tiles.multiply_bf16<0, 4, 6>(), tiles.multiply_bf16<1, 4, 7>(), tiles.multiply_bf16<2, 5, 6>(),
          tiles.multiply_bf16<3, 5, 7>();
    else
      tiles.multiply_int8<0, 4, 6>(), tiles.multiply_int8<1, 4, 7>(), tiles.multiply_int8<2, 5, 6>(),
          tiles.multiply_int8<3, 5, 7>();
  }
  return 0;
}

}  // namespace
}  // namespace cajal::cpu
CAJAL_TARGET_REGION_END

namespace cajal::cpu {
namespace {

// SSE2 has no fused multiply-add: two instructions.
std::uint32_t multiply_f32_baseline(std::int64_t rounds) {
  __m128 c[12];
  const __m128 one = _mm_set1_ps(1.0f);
  for (auto& v : c) v = one;
  for (std::int64_t i = 0; i < rounds; ++i) {
    CAJAL_UNROLL for (int j = 0; j < 12; ++j) {
      __m128 product = one;
      __asm__ volatile("" : "+x"(product));
      c[j] = _mm_add_ps(c[j], _mm_mul_ps(product, one));
      __asm__ volatile("" : "+x"(c[j]));
    }
  }
  __m128 sum = one;
  for (auto& v : c) sum = _mm_add_ps(sum, v);
  return static_cast<std::uint32_t>(_mm_cvtss_f32(sum));
}

std::uint32_t read_baseline(const std::byte* p, std::size_t bytes) {
  __m128i c = _mm_setzero_si128();
  for (std::size_t i = 0; i < bytes; i += 16)
    c = _mm_xor_si128(c, _mm_load_si128(reinterpret_cast<const __m128i*>(p + i)));
  return static_cast<std::uint32_t>(_mm_cvtsi128_si32(c));
}

template <bool kFetch>
auto reader_for(std::uint32_t isa) {
  return isa & kAvx512 ? read_avx512<kFetch> : isa & kAvx2 ? read_avx2<kFetch> : read_baseline;
}

struct Chains {
  std::uint32_t (*run)(std::int64_t rounds) = nullptr;
  double operations_a_round = 0;
};

Chains chains_for(Multiply type, std::uint32_t isa) {
  switch (type) {
    case Multiply::f32:
      if (isa & kAvx512) return {multiply_avx512<MulF32>, kChains * 16 * 2};
      if (isa & kAvx2) return {multiply_f32_avx2, 12 * 8 * 2};
      return {multiply_f32_baseline, 12 * 4 * 2};
    case Multiply::bf16:
      if (isa & kAmx) return {multiply_amx<true>, 4.0 * 16 * 16 * 32 * 2 / kRoundsATime};
      if (isa & kAvx512Bf16) return {multiply_avx512<MulBf16>, kChains * 32 * 2};
      return {};
    case Multiply::int8:
      if (isa & kAmx) return {multiply_amx<false>, 4.0 * 16 * 16 * 64 * 2 / kRoundsATime};
      if ((isa & kAvx512) && __builtin_cpu_supports("avx512vnni")) return {multiply_avx512<MulInt8>, kChains * 64 * 2};
      return {};
  }
  return {};
}

}  // namespace

double multiply_rate(ThreadPool& pool, Multiply type, std::uint32_t isa) {
  const Chains chains = chains_for(type, isa);
  if (!chains.run) return 0;
  constexpr std::int64_t kRounds = 10000;  // about 40 us a piece
  const std::int64_t pieces = pool.size() * kPiecesAThread;
  const auto start = std::chrono::steady_clock::now();
  pool.parallel_for(pieces, 1, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = begin; i < end; ++i) sink.fetch_add(chains.run(kRounds), std::memory_order_relaxed);
  });
  return chains.operations_a_round * static_cast<double>(kRounds * pieces) / seconds_since(start);
}

std::byte* allocate_huge(std::size_t bytes) {
  constexpr std::size_t kHuge = std::size_t{2} << 20;
  const std::size_t rounded = (bytes + kHuge - 1) / kHuge * kHuge;
  void* data = std::aligned_alloc(kHuge, rounded);
  if (!data) fail(ErrorCode::out_of_memory, "no memory for a buffer of ", bytes, " bytes");
#if defined(MADV_HUGEPAGE)
  madvise(data, rounded, MADV_HUGEPAGE);  // a wish: small pages work too
#endif
  std::memset(data, 0, rounded);
  return static_cast<std::byte*>(data);
}

void free_huge(std::byte* data) { std::free(data); }

ReadProbe::ReadProbe(std::size_t bytes) : data_(allocate_huge(bytes)), bytes_(bytes) {
  CAJAL_CHECK(bytes >= std::size_t{1} << 20, "a probe of ", bytes, " bytes");
}
ReadProbe::~ReadProbe() { free_huge(data_); }

double ReadProbe::rate(ThreadPool& pool, std::uint32_t isa) {
  constexpr std::size_t kPiece = std::size_t{1} << 20, kWindow = std::size_t{32} << 20;
  // Which way is faster depends on the processor, by a tenth either way.
  const auto read = (fetches_ = !fetches_) ? reader_for<true>(isa) : reader_for<false>(isa);
  const std::size_t window = std::min(kWindow, bytes_);
  if (next_ + window > bytes_) next_ = 0;
  const std::byte* from = data_ + next_;
  next_ += window;
  const auto start = std::chrono::steady_clock::now();
  pool.parallel_for(static_cast<std::int64_t>(window / kPiece), 1, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = begin; i < end; ++i)
      sink.fetch_add(read(from + static_cast<std::size_t>(i) * kPiece, kPiece), std::memory_order_relaxed);
  });
  return static_cast<double>(window) / seconds_since(start);
}

}  // namespace cajal::cpu
