#include "backends/cuda/memory.h"

#include <algorithm>

#include "backends/cuda/check.h"

namespace cajal::cuda {

void check(cudaError_t error, std::string_view doing) {
  if (error == cudaSuccess) return;
  const bool memory = error == cudaErrorMemoryAllocation;
  if (memory) cudaGetLastError();  // this one is over; others stay
  fail(memory ? ErrorCode::out_of_memory : ErrorCode::unavailable, "CUDA: ", doing, ": ", cudaGetErrorString(error),
       " (", cudaGetErrorName(error), ")");
}

Stream::Stream(int device) : device_(device) {
  make_current();
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "creating a stream");
}
Stream::~Stream() {
  if (cudaSetDevice(device_) == cudaSuccess) cudaStreamDestroy(stream_);
}
void Stream::make_current() const { check(cudaSetDevice(device_), detail::join("choosing device ", device_)); }
void Stream::wait() const { check(cudaStreamSynchronize(stream_), "waiting for the device"); }

CudaEvent::CudaEvent(unsigned flags) { check(cudaEventCreateWithFlags(&event_, flags), "creating an event"); }
CudaEvent::~CudaEvent() { cudaEventDestroy(event_); }

DeviceBuffer::DeviceBuffer(const Stream& stream, std::size_t bytes) : stream_(stream), bytes_(bytes) {
  stream_.make_current();
  const cudaError_t error = cudaMalloc(reinterpret_cast<void**>(&data_), std::max<std::size_t>(1, bytes));
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    std::size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    fail(ErrorCode::out_of_memory, "cannot take ", bytes, " bytes of memory of CUDA device ", stream_.device(),
         ", where ", free, " of ", total, " are free",
         remedy("free memory, or lower --max-model-len or the number of sequences"));
  }
  check(error, "allocating memory");
  check(cudaMemsetAsync(data_, 0, bytes_, stream_.get()), "clearing memory");
}
DeviceBuffer::~DeviceBuffer() {
  if (cudaSetDevice(stream_.device()) == cudaSuccess && cudaStreamSynchronize(stream_.get()) == cudaSuccess)
    cudaFree(data_);
}

void DeviceBuffer::upload(std::span<const std::byte> from, std::size_t offset) {
  CAJAL_CHECK(offset <= bytes_ && from.size() <= bytes_ - offset);
  stream_.make_current();
  check(cudaMemcpyAsync(data_ + offset, from.data(), from.size(), cudaMemcpyHostToDevice, stream_.get()), "uploading");
  stream_.wait();
}
void DeviceBuffer::download(std::span<std::byte> to, std::size_t offset) const {
  CAJAL_CHECK(offset <= bytes_ && to.size() <= bytes_ - offset);
  stream_.make_current();
  check(cudaMemcpyAsync(to.data(), data_ + offset, to.size(), cudaMemcpyDeviceToHost, stream_.get()), "downloading");
  stream_.wait();
}
void DeviceBuffer::copy_within(std::size_t from, std::size_t to, std::size_t count) {
  CAJAL_CHECK(count <= bytes_ && from <= bytes_ - count && to <= bytes_ - count);
  stream_.make_current();
  check(cudaMemcpyAsync(data_ + to, data_ + from, count, cudaMemcpyDeviceToDevice, stream_.get()), "copying");
}

void DeviceBuffer::reserve_outputs(std::size_t bytes) {
  if (outputs().size() >= bytes) return;
  stream_.wait();  // nobody writes to the old memory any more
  outputs_ = std::make_unique<PinnedMemory>(bytes);
}

PinnedMemory::PinnedMemory(std::size_t bytes) : bytes_(bytes) {
  check(cudaHostAlloc(reinterpret_cast<void**>(&data_), std::max<std::size_t>(1, bytes), cudaHostAllocDefault),
        detail::join("taking ", bytes, " bytes of pinned memory"));
  std::fill_n(data_, bytes_, std::byte{0});
}
PinnedMemory::~PinnedMemory() { cudaFreeHost(data_); }

}  // namespace cajal::cuda
