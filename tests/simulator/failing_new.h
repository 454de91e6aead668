#pragma once
// Lets operator new fail as AllocationFaults says. It replaces the operators of the whole program, so one file of a test
// program includes it. Under a sanitizer, which replaces them itself, nothing fails.
#include <cstddef>
#include <cstdlib>
#include <new>

#include "simulator/allocation_faults.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kNewCanFail = false;
#else
inline constexpr bool kNewCanFail = true;

namespace {

void* allocate_or_null(std::size_t bytes, std::size_t alignment) noexcept {
  if (cajal::simulator::AllocationFaults::next_fails()) return nullptr;
  if (alignment <= alignof(std::max_align_t)) return std::malloc(bytes ? bytes : 1);
  void* at = nullptr;
  return ::posix_memalign(&at, alignment, bytes ? bytes : 1) == 0 ? at : nullptr;
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
