#pragma once
// Counts calls of operator new, or lets them fail. It replaces the operators of the whole program, so one file of a test program includes it.
// Under a sanitizer, which replaces them itself, nothing is counted.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kCountsNew = false;
#else
inline constexpr bool kCountsNew = true;
#endif

namespace {

std::atomic<bool> counting{false};
std::atomic<std::int64_t> allocations{0};
std::atomic<bool> memory_is_short{false};
std::atomic<std::int64_t> allocations_left{0};  // while it is

}  // namespace

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
namespace {

void* allocate_or_null(std::size_t bytes, std::size_t alignment) noexcept {
  if (counting.load(std::memory_order_relaxed)) allocations.fetch_add(1, std::memory_order_relaxed);
  if (memory_is_short.load(std::memory_order_relaxed) && allocations_left.fetch_sub(1) <= 0) return nullptr;
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
#endif

// Calls of operator new, on any thread, while `body` runs.
template <class Body>
std::int64_t allocations_during(Body&& body) {
  allocations = 0;
  counting = true;
  body();
  counting = false;
  return allocations.load();
}

// Runs `body` with memory for so many allocations; whether it threw std::bad_alloc.
template <class Body>
bool fails_with_memory_for(std::int64_t count, Body&& body) {
  allocations_left = count;
  memory_is_short = true;
  bool failed = false;
  try {
    body();
  } catch (const std::bad_alloc&) {
    failed = true;
  }
  memory_is_short = false;
  return failed;
}
