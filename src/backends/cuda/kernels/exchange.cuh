#pragma once
// How multiprocessors hand results to each other within a launch. Data is its own flag: memory is all ones before its step,
// which no rounding to bf16 gives (its NaN is 0x7fff). Readers load 16 bytes at a time until none is all ones, so there is
// no fence, no counter and no barrier between them, and a torn vector is one that is not there yet.
#include "backends/cuda/kernels/device.cuh"

namespace cajal::cuda {

// Waits that cannot end are errors of ours: better a trap after some seconds than a device that hangs.
class Patience {
 public:
  __device__ void spend() {
    if (++tries_ > kMost) __trap();
  }

 private:
  static constexpr unsigned kMost = 1u << 22;
  unsigned tries_ = 0;
};

// 16 bytes as other multiprocessors wrote them.
__device__ inline uint4 load_shared_data(const void* from) {
  uint4 v;
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from)
               : "memory");
  return v;
}
__device__ inline void put(bf16* to, float v) {
  asm volatile("st.relaxed.gpu.global.u16 [%0], %1;" ::"l"(to), "h"(__bfloat16_as_ushort(store<bf16>(v))) : "memory");
}
// Whether a half of any of these words is all ones.
__device__ inline bool bf16_missing(const uint4& v) {
  const auto ones = [](std::uint32_t w) { return (~w - 0x00010001u) & w; };
  return ((ones(v.x) | ones(v.y) | ones(v.z) | ones(v.w)) & 0x80008000u) != 0;
}

}  // namespace cajal::cuda
