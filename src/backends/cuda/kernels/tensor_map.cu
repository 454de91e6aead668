#include "backends/cuda/kernels/tensor_map.h"

#include <cuda_runtime_api.h>

namespace cajal::cuda {
namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

// From the driver that is loaded: the library is not linked with one.
Encode encoder() {
  static const Encode found = [] {
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult result{};
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &result);
    return error == cudaSuccess && result == cudaDriverEntryPointSuccess ? reinterpret_cast<Encode>(entry) : nullptr;
  }();
  return found;
}

}  // namespace

bool make_tensor_map(CUtensorMap& map, const void* at, std::initializer_list<TensorDimension> dimensions,
                     CUtensorMapSwizzle swizzle) {
  if (!encoder()) return false;  // an old driver
  cuuint64_t sizes[5], strides[5];
  cuuint32_t boxes[5], steps[5];
  cuuint32_t rank = 0;
  for (const TensorDimension& d : dimensions) {
    sizes[rank] = static_cast<cuuint64_t>(d.size), strides[rank] = static_cast<cuuint64_t>(d.stride_bytes);
    boxes[rank] = static_cast<cuuint32_t>(d.box), steps[rank++] = 1;
  }
  return encoder()(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, rank, const_cast<void*>(at), sizes, strides + 1, boxes,
                   steps, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                   CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

}  // namespace cajal::cuda
