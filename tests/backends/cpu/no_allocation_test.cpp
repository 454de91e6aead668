// A step allocates nothing: operator new is counted while one runs.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "backends/backend.h"
#include "compiler/model_graphs.h"

namespace {

std::atomic<bool> counting{false};
std::atomic<std::int64_t> allocations{0};

void* allocate_or_null(std::size_t bytes, std::size_t alignment) noexcept {
  if (counting.load(std::memory_order_relaxed)) allocations.fetch_add(1, std::memory_order_relaxed);
  void* at = nullptr;
  if (alignment <= alignof(std::max_align_t)) {
    at = std::malloc(bytes ? bytes : 1);
  } else if (::posix_memalign(&at, alignment, bytes ? bytes : 1) != 0) {
    at = nullptr;
  }
  return at;
}

void* allocate(std::size_t bytes, std::size_t alignment) {
  void* at = allocate_or_null(bytes, alignment);
  if (!at) throw std::bad_alloc();
  return at;
}

}  // namespace

void* operator new(std::size_t bytes) { return allocate(bytes, 1); }
void* operator new[](std::size_t bytes) { return allocate(bytes, 1); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return allocate(bytes, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t bytes, std::align_val_t alignment) {
  return allocate(bytes, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return allocate_or_null(bytes, 1); }
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept { return allocate_or_null(bytes, 1); }
void operator delete(void* at) noexcept { std::free(at); }
void operator delete[](void* at) noexcept { std::free(at); }
void operator delete(void* at, std::size_t) noexcept { std::free(at); }
void operator delete[](void* at, std::size_t) noexcept { std::free(at); }
void operator delete(void* at, std::align_val_t) noexcept { std::free(at); }
void operator delete[](void* at, std::align_val_t) noexcept { std::free(at); }
void operator delete(void* at, std::size_t, std::align_val_t) noexcept { std::free(at); }
void operator delete[](void* at, std::size_t, std::align_val_t) noexcept { std::free(at); }

namespace cajal {
namespace {

TEST(AStep, AllocatesNothing) {
  const auto backend = make_backend("cpu", {2});
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const bool experts : {false, true}) {
      const Bucket bucket{.num_tokens = 16, .num_seqs = 2, .max_blocks_per_seq = 2, .num_logits = 2};
      const Graph graph =
          backend->prepare(build_qwen3(test::small_config(experts), {.bucket = bucket, .dtype = dtype}));
      const auto executable = backend->compile(graph);
      // Zero weights do as well as any: what is counted does not depend on values.
      std::map<std::string, std::unique_ptr<Buffer>> buffers;
      const auto buffer = [&](const std::string& name) -> Buffer& {
        auto& b = buffers[name];
        TensorType type = graph.type(*graph.find_leaf(name));
        if (type.shape.dynamic()) type.shape[0] = 4;
        if (!b) b = backend->allocate(type.bytes());
        return *b;
      };
      const auto arena = backend->allocate(executable->plan().arena_bytes);
      executable->bind({buffer, buffer, arena.get()});
      for (const StepRows rows : {StepRows{16, 2}, StepRows{1, 1}, StepRows{7, 0}})
        executable->wait(executable->launch(rows));
      allocations = 0;
      counting = true;
      for (int i = 0; i < 3; ++i)
        for (const StepRows rows : {StepRows{16, 2}, StepRows{1, 1}, StepRows{7, 0}})
          executable->wait(executable->launch(rows));
      counting = false;
      EXPECT_EQ(allocations.load(), 0) << to_string(dtype) << (experts ? " experts" : "");
    }
  counting = true;
  delete new int;
  counting = false;
  EXPECT_EQ(allocations.load(), 1);  // the count counts
}

}  // namespace
}  // namespace cajal
