// Times the CUDA backend's matrix kernels on the shapes of Qwen3 beside what the device does at best, measured in the same
// run, and compares the bits of all kernels of the class. Weights rotate through a buffer many times the cache.
//
//   cuda_bench [--rows 1,16,2048]
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "backends/cuda/check.h"
#include "backends/cuda/kernels/linear.h"
#include "backends/cuda/kernels/probe.h"

namespace cajal::cuda {
namespace {

constexpr std::size_t kWeights = std::size_t{12} << 30, kActivations = std::size_t{1} << 30;

struct Shape {
  const char* what;
  int out_features, in_features, sum_parts;
};
constexpr Shape kShapes[] = {
    {"8B qkv", 6144, 4096, 1},
    {"8B o", 4096, 4096, 1},
    {"8B gate_up", 24576, 4096, 1},
    {"8B down", 4096, 12288, 1},
    {"8B down, 8 parts", 4096, 12288, 8},
    {"8B head", 151936, 4096, 1},
    {"0.6B qkv", 4096, 1024, 1},
    {"0.6B o", 1024, 2048, 8},
    {"0.6B gate_up", 6144, 1024, 1},
    {"0.6B down", 1024, 3072, 8},
};

struct Kernel {
  const char* name;
  bool (*accepts)(const LinearArgs&);
  void (*run)(const LinearArgs&, cudaStream_t);
};
const Kernel kKernels[] = {
    {"stream", linear_stream_accepts, linear_stream},
    {"wgmma", linear_wgmma_accepts, linear_wgmma},
    {"mma", [](const LinearArgs&) { return true; }, linear_mma},
};

class Bench {
 public:
  Bench() {
    check(cudaStreamCreate(&stream_), "stream");
    check(cudaMalloc(reinterpret_cast<void**>(&weights_), kWeights), "weights");
    check(cudaMalloc(reinterpret_cast<void**>(&x_), kActivations), "x");
    check(cudaMalloc(reinterpret_cast<void**>(&y_), 2 * kActivations), "y");
    check(cudaMalloc(reinterpret_cast<void**>(&rows_), 256), "rows");
    check(cudaEventCreate(&begin_), "event");
    check(cudaEventCreate(&end_), "event");
    probe_fill(weights_, kWeights, stream_);
    probe_fill(x_, kActivations, stream_);
    check(cudaStreamSynchronize(stream_), "fill");
  }

  // Seconds of one call of `body`, which is called `count` times in a graph, as steps are; the median of seven.
  double seconds(int count, const std::function<void(int)>& body) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), "capturing");
    for (int i = 0; i < count; ++i) body(i);
    check(cudaStreamEndCapture(stream_, &graph), "capturing");
    check(cudaGetLastError(), "capturing");
    check(cudaGraphInstantiate(&exec, graph, 0), "capturing");
    std::vector<double> times;
    for (int repeat = 0; repeat < 8; ++repeat) {
      check(cudaEventRecord(begin_, stream_), "event");
      check(cudaGraphLaunch(exec, stream_), "launching");
      check(cudaEventRecord(end_, stream_), "event");
      check(cudaEventSynchronize(end_), "running");
      float ms = 0;
      check(cudaEventElapsedTime(&ms, begin_, end_), "event");
      if (repeat > 0) times.push_back(ms * 1e-3 / count);
    }
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }

  void ceilings() {
    read_rate_ = kWeights / seconds(1, [&](int) { probe_read(weights_, kWeights, sink(), stream_); });
    double operations = 0;
    const double s = seconds(4, [&](int) { operations = probe_multiply(weights_, sink(), stream_); });
    flops_ = operations / s;
    std::printf("ceilings: read %.3f TB/s, bf16 %.0f TFLOP/s\n", read_rate_ / 1e12, flops_ / 1e12);
  }

  void line(const Shape& s, int rows) {
    const std::size_t bytes = static_cast<std::size_t>(s.out_features) * static_cast<std::size_t>(s.in_features) * 2;
    const auto y_bytes = static_cast<std::size_t>(rows) * static_cast<std::size_t>(s.out_features) * 2;
    check(cudaMemcpy(rows_, &rows, sizeof rows, cudaMemcpyHostToDevice), "rows");
    LinearArgs a{};
    a.x = x_, a.y = y_, a.rows = {rows, rows_, 1};
    a.in_features = s.in_features, a.out_features = s.out_features, a.sum_parts = s.sum_parts;
    std::vector<std::byte> first, other(y_bytes);
    for (const Kernel& kernel : kKernels) {
      if (!kernel.accepts(a)) continue;
      a.weight = weights_;
      check(cudaMemset(y_, 0xff, y_bytes), "poison");
      kernel.run(a, stream_);
      check(cudaStreamSynchronize(stream_), kernel.name);
      check(cudaMemcpy(other.data(), y_, y_bytes, cudaMemcpyDeviceToHost), "y");
      if (first.empty()) first = other;
      const std::size_t copies = kWeights / bytes;
      const int count = static_cast<int>(std::clamp<double>(
          4e-3 / (static_cast<double>(bytes) / 4e12 + 2.0 * rows * static_cast<double>(bytes) / 2 / 6e14), 2, 400));
      const double t = seconds(count, [&](int i) {
        a.weight = weights_ + static_cast<std::size_t>(i) % copies * bytes;
        kernel.run(a, stream_);
      });
      const double flops = static_cast<double>(rows) * static_cast<double>(bytes);
      std::printf("%-16s %5d rows  %-6s %9.2f us  %6.3f TB/s %5.1f %%  %6.1f TFLOP/s %5.1f %%  %s\n", s.what, rows,
                  kernel.name, t * 1e6, static_cast<double>(bytes) / t / 1e12,
                  100 * static_cast<double>(bytes) / t / read_rate_, flops / t / 1e12, 100 * flops / t / flops_,
                  other == first ? "bits equal" : "BITS DIFFER");
    }
    std::fflush(stdout);
  }

 private:
  std::uint32_t* sink() const { return reinterpret_cast<std::uint32_t*>(rows_) + 8; }

  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
  std::byte *weights_ = nullptr, *x_ = nullptr, *y_ = nullptr;
  std::int32_t* rows_ = nullptr;
  double read_rate_ = 1, flops_ = 1;
};

}  // namespace
}  // namespace cajal::cuda

int main(int argc, char** argv) {
  std::vector<int> rows = {1, 4, 16, 17, 32, 48, 64, 96, 128, 192, 256, 512, 2048, 8192};
  if (argc == 3 && std::strcmp(argv[1], "--rows") == 0) {
    rows.clear();
    for (const char* at = argv[2]; *at;) {
      rows.push_back(std::atoi(at));
      at += std::strcspn(at, ",");
      at += *at == ',';
    }
  }
  try {
    cajal::cuda::Bench bench;
    bench.ceilings();
    for (const int r : rows)
      for (const auto& shape : cajal::cuda::kShapes)
        if (r <= 512 || shape.out_features < 100000) bench.line(shape, r);
    bench.ceilings();
  } catch (const cajal::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
