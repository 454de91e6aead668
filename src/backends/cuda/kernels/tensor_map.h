#pragma once
// Descriptions of matrices in device memory for the copy engine (sm_90), made on the host and passed by value as
// __grid_constant__ parameters; and the copies themselves.
#include <cuda.h>

#include <cstdint>
#include <initializer_list>

#include "backends/cuda/kernels/mma.cuh"

namespace cajal::cuda {

// Innermost first, whose stride is not asked for; `box` elements are copied at a time. What lies outside is zero.
struct TensorDimension {
  std::int64_t size, stride_bytes;
  int box;
};

// False where the driver or the hardware does not take it: strides must be multiples of 16 bytes, sizes less than 2^32.
bool make_tensor_map(CUtensorMap& map, const void* at, std::initializer_list<TensorDimension> dimensions,
                     CUtensorMapSwizzle swizzle);

#ifdef __CUDACC__
__device__ inline void copy_tensor(std::uint32_t to, const CUtensorMap* map, int x, int y, std::uint64_t* bar) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
          to),
      "l"(map), "r"(x), "r"(y), "r"(shared_address(bar))
      : "memory");
}
__device__ inline void copy_tensor(std::uint32_t to, const CUtensorMap* map, int x, int y, int z, std::uint64_t* bar) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];" ::
          "r"(to),
      "l"(map), "r"(x), "r"(y), "r"(z), "r"(shared_address(bar))
      : "memory");
}
__device__ inline void copy_tensor(std::uint32_t to, const CUtensorMap* map, const int (&at)[5], std::uint64_t* bar) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5, %6}], "
      "[%7];" ::"r"(to),
      "l"(map), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4]), "r"(shared_address(bar))
      : "memory");
}
__device__ inline void copy_tensor(std::uint32_t to, const CUtensorMap* map, int x, int y, int z, int w,
                                   std::uint64_t* bar) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], "
      "[%6];" ::"r"(to),
      "l"(map), "r"(x), "r"(y), "r"(z), "r"(w), "r"(shared_address(bar))
      : "memory");
}
#endif

}  // namespace cajal::cuda
