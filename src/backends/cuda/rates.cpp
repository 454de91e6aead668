// The device's ceilings: reading memory many times the cache, and multiplying what lies in shared memory.
#include <algorithm>

#include "backends/cuda/check.h"
#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/kernels/probe.h"
#include "backends/cuda/memory.h"

#include "backends/cuda/rates.h"

namespace cajal::cuda {
namespace {

constexpr std::size_t kBytes = std::size_t{2} << 30, kLeastBytes = std::size_t{256} << 20;
constexpr int kRuns = 8;  // the best counts: others disturb some

class Timer {
 public:
  Timer() {
    check(cudaEventCreate(&begin_), "creating an event");
    check(cudaEventCreate(&end_), "creating an event");
  }
  ~Timer() { cudaEventDestroy(begin_), cudaEventDestroy(end_); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  template <class Body>
  double seconds(cudaStream_t stream, const Body& body) const {
    check(cudaEventRecord(begin_, stream), "measuring");
    body();
    check(cudaEventRecord(end_, stream), "measuring");
    check(cudaGetLastError(), "measuring");
    check(cudaEventSynchronize(end_), "measuring");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin_, end_), "measuring");
    return static_cast<double>(milliseconds) * 1e-3;
  }

 private:
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

}  // namespace

DeviceRates measure_rates(const Stream& stream, std::size_t free_bytes, int sm) {
  const std::size_t bytes = std::min(kBytes, free_bytes / 4 / 16 * 16);
  if (bytes < kLeastBytes) return {};  // what the cache holds would be measured
  stream.make_current();
  const DeviceBuffer data(stream, bytes), sink(stream, 256);
  const Timer timer;
  auto* word = reinterpret_cast<std::uint32_t*>(sink.data());
  probe_fill(data.data(), bytes, stream.get());
  DeviceRates rates;
  for (int run = 0; run < kRuns; ++run) {
    const double reading = timer.seconds(stream.get(), [&] { probe_read(data.data(), bytes, word, stream.get()); });
    rates.read_bytes_per_s = std::max(rates.read_bytes_per_s, static_cast<double>(bytes) / reading);
    const auto multiply = [&](double& rate, const auto& probe) {
      double operations = 0;
      const double multiplying = timer.seconds(stream.get(), [&] { operations = probe(); });
      rate = std::max(rate, operations / multiplying);
    };
    multiply(rates.bf16_flops_per_s, [&] {
      return sm == 90 ? probe_multiply(data.data(), word, stream.get()) : probe_multiply_mma(word, stream.get());
    });
    multiply(rates.f32_flops_per_s, [&] { return probe_multiply_f32(word, stream.get()); });
  }
  return rates;
}

}  // namespace cajal::cuda
