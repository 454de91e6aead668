#pragma once
// What the device does at best: kernels that only read, or only multiply.
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace cajal::cuda {

// Reads `bytes` (a multiple of 16) from end to end; `sink` gets a word that depends on all of them.
void probe_read(const void* data, std::size_t bytes, std::uint32_t* sink, cudaStream_t stream);

// Products, without any reading beside them; each returns how many operations one call makes.
// bf16 by wgmma, of tiles in shared memory that are filled from `data` (at least 64 KiB); on sm_90 alone.
double probe_multiply(const void* data, std::uint32_t* sink, cudaStream_t stream);
// bf16 by mma.sync, of registers.
double probe_multiply_mma(std::uint32_t* sink, cudaStream_t stream);
// f32 by fused multiply-adds.
double probe_multiply_f32(std::uint32_t* sink, cudaStream_t stream);

// Fills memory with bf16 numbers of either sign around 1/100, different everywhere.
void probe_fill(void* data, std::size_t bytes, cudaStream_t stream);

}  // namespace cajal::cuda
