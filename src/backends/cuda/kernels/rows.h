#pragma once
// What kernels and the host's code about them share.
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace cajal::cuda {

enum class Element : std::uint8_t { bf16, f32 };

// How many rows a kernel works on: at most `most`, and in this step `*live` times `scale`, which only the device knows.
// So one captured launch serves every step of its bucket.
struct Rows {
  std::int32_t most = 0;
  const std::int32_t* live = nullptr;
  std::int32_t scale = 1;  // rows of the kernel for each row of the step

#ifdef __CUDACC__
  __device__ int count() const { return min(most, *live * scale); }
#endif
};

}  // namespace cajal::cuda
