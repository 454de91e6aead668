#pragma once
// What this machine can do at best, measured: the ceilings that `cajal bench` and `cajal doctor` print beside what a
// kernel reaches. A run takes about a millisecond, so that a benchmark can interleave it with its kernels and compare
// maxima of both: on a shared machine only runs of the same minute compare.
#include <cstddef>
#include <cstdint>

#include "base/thread_pool.h"

namespace cajal::cpu {

enum class Multiply : std::uint8_t { f32, bf16, int8 };

// Operations (a multiply and an add count as two) per second of all threads of the pool, from registers alone, by the
// strongest instruction for this type that `isa` has; 0 if there is none.
double multiply_rate(ThreadPool& pool, Multiply type, std::uint32_t isa);

// Memory larger than the caches, on huge pages where the system gives them, read from end to end by each run.
class ReadProbe {
 public:
  explicit ReadProbe(std::size_t bytes = std::size_t{256} << 20);
  ~ReadProbe();
  ReadProbe(const ReadProbe&) = delete;
  ReadProbe& operator=(const ReadProbe&) = delete;

  // Bytes per second of the whole pool, each thread reading several streams at once; every second run fetches ahead of
  // them, so that the best of several is what the machine can do.
  double rate(ThreadPool& pool, std::uint32_t isa);

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0, next_ = 0;  // runs read consecutive windows in turn
  bool fetches_ = false;
};

// Zeroed memory aligned to 2 MiB with a request for huge pages; for buffers that are read at memory speed. Error
// (out_of_memory) if there is none. Free with free_huge.
std::byte* allocate_huge(std::size_t bytes);
void free_huge(std::byte* data);

}  // namespace cajal::cpu
