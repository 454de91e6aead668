#pragma once
// What every kernel list has in common. A list is one constant array, best first, the reference (slow, obvious, exact)
// last. Production takes the first entry that runs here and accepts the shape; tests compare each entry with the last;
// benchmarks time them all. Entries of one numerics class give the same bits whatever the number of rows.
#include <cstdint>
#include <span>

#include "backends/cpu/isa.h"
#include "base/error.h"
#include "tensor/tensor.h"

namespace cajal {
class ThreadPool;
}

namespace cajal::cpu {

// Shape: what is known when a graph is compiled. Args: pointers, and the rows that a step really has.
template <class Shape, class Args>
struct Kernel {
  const char* name;
  const char* numerics_class;
  std::uint32_t isa;  // bits of Isa it needs
  bool (*accepts)(const Shape&);
  void (*run)(const Args&, ThreadPool&);
  // Bytes of scratch memory that run() needs at Args::scratch for at most `threads` threads; null: none.
  std::size_t (*scratch_bytes)(const Shape&, int threads) = nullptr;
};

template <class Shape, class Args>
const Kernel<Shape, Args>& choose(std::span<const Kernel<Shape, Args>> kernels, const Shape& shape, std::uint32_t isa) {
  for (const auto& kernel : kernels)
    if ((kernel.isa & ~isa) == 0 && kernel.accepts(shape)) return kernel;
  CAJAL_CHECK(false, "a kernel list without a reference that accepts everything");
  return kernels.back();
}

}  // namespace cajal::cpu
