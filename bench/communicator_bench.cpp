// What it costs ranks to meet: communicator_bench [RANKS [CARRIER]] prints microseconds (median and best of many) of an
// all_reduce of 16 KiB and of other sizes, of a barrier and of a broadcast, as rank 0 sees them.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "distributed/thread_group.h"

namespace {

using cajal::Communicator;

void report(Communicator& group, const char* what, std::size_t bytes, const std::function<void()>& body) {
  std::vector<double> micros;
  const int times = bytes > 1000000 ? 60 : 3000;
  for (int i = 0; i < times; ++i) {
    const auto start = std::chrono::steady_clock::now();
    body();
    micros.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(micros.begin(), micros.end());
  if (group.rank() == 0)
    std::printf("%-12s %9zu bytes, %d ranks   median %9.2f us, best %9.2f us\n", what, bytes, group.size(),
                micros[micros.size() / 2], micros.front());
}

void measure(Communicator& group) {
  report(group, "barrier", 0, [&] { group.barrier(); });
  for (const std::size_t bytes : {256UL, 4096UL, 16384UL, 131072UL, 1UL << 20, 8UL << 20}) {
    std::vector<float> x(bytes / sizeof(float), 1.0F);
    report(group, "all_reduce", bytes, [&] {
      group.all_reduce(x);
      x[0] = 1;
    });
  }
  std::vector<std::byte> plan(2048);
  report(group, "broadcast", plan.size(), [&] { group.broadcast(plan, 0); });
}

}  // namespace

int main(int argc, char** argv) {
  const int ranks = argc > 1 ? std::atoi(argv[1]) : 2;
  cajal::run_thread_group(ranks, measure);
  return 0;
}
