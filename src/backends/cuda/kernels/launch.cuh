#pragma once
// How every kernel of a step is launched: on sm_90 it may begin while the kernel before it still runs, and begins with
// follow_previous(), or does what does not depend on other kernels (fetching weights) before that.
#include <cuda_runtime_api.h>

#include <utility>

namespace cajal::cuda {

__device__ inline void let_next_begin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
__device__ inline void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// Nothing that another kernel writes may be read before this.
__device__ inline void follow_previous() {
  let_next_begin();
  wait_for_previous();
}

// Of the device that is current when it is first asked for.
template <cudaDeviceAttr kAttribute>
int device_attribute() {
  static const int value = [] {
    int device = 0, n = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&n, kAttribute, device);
    return n;
  }();
  return value;
}
inline int multiprocessors() { return device_attribute<cudaDevAttrMultiProcessorCount>(); }
// The most that a block may ask for.
inline int shared_bytes() { return device_attribute<cudaDevAttrMaxSharedMemoryPerBlockOptin>(); }

// Whether a kernel waits as it must: one that was compiled for older GPUs does not, whatever it runs on.
inline bool may_overlap(const void* kernel) {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, kernel) == cudaSuccess && attributes.ptxVersion >= 90;
}

// Errors stay in cudaGetLastError().
template <class... Parameters, class... Arguments>
void launch_kernel(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
                   Arguments&&... arguments) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid, config.blockDim = block, config.dynamicSmemBytes = shared_bytes, config.stream = stream;
  config.attrs = &attribute, config.numAttrs = may_overlap(reinterpret_cast<const void*>(kernel)) ? 1 : 0;
  cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
}

}  // namespace cajal::cuda
