#pragma once
// The stream that everything is ordered on, and memory of the device and of the host beside it.
#include <cuda_runtime_api.h>

#include <memory>
#include <span>

#include "backends/backend.h"

namespace cajal::cuda {

// Host memory that the device copies from and to by itself; zero-filled.
class PinnedMemory {
 public:
  explicit PinnedMemory(std::size_t bytes);
  ~PinnedMemory();
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;
  std::span<std::byte> span() const { return {data_, bytes_}; }

 private:
  std::size_t bytes_;
  std::byte* data_ = nullptr;
};

// One device and one stream. Work that threads other than the one that made it start goes to the same device.
class Stream {
 public:
  explicit Stream(int device);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  int device() const { return device_; }
  cudaStream_t get() const { return stream_; }
  void make_current() const;  // for the calling thread
  void wait() const;

 private:
  int device_;
  cudaStream_t stream_ = nullptr;
};

// A point in a stream; by default one that measures no time.
class CudaEvent {
 public:
  explicit CudaEvent(unsigned flags = cudaEventDisableTiming);
  ~CudaEvent();
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

class DeviceBuffer final : public Buffer {
 public:
  DeviceBuffer(const Stream& stream, std::size_t bytes);
  ~DeviceBuffer() override;
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  std::size_t bytes() const override { return bytes_; }
  void upload(std::span<const std::byte> from, std::size_t offset) override;
  void download(std::span<std::byte> to, std::size_t offset) const override;
  void copy_within(std::size_t from, std::size_t to, std::size_t count) override;
  std::byte* data() const { return data_; }

  // For arenas: where the host finds the outputs of whichever executable ran last. It only grows.
  void reserve_outputs(std::size_t bytes);
  std::span<std::byte> outputs() const { return outputs_ ? outputs_->span() : std::span<std::byte>{}; }

 private:
  const Stream& stream_;
  std::size_t bytes_;
  std::unique_ptr<PinnedMemory> outputs_;
  std::byte* data_ = nullptr;
};

}  // namespace cajal::cuda
