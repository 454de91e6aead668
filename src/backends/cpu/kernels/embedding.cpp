#include <cstring>

#include "backends/cpu/kernels/linear.h"
#include "base/thread_pool.h"

namespace cajal::cpu {
namespace {

constexpr const char* kClass = "copy";

// One by one, through the formula of the storage.
void embedding_ref(const EmbeddingArgs& a, ThreadPool&) {
  const auto bytes = static_cast<std::int64_t>(size_of(a.dtype));
  const std::int64_t padded = (a.hidden_size + a.packed.group - 1) / a.packed.group * a.packed.group;
  for (std::int64_t row = 0; row < a.rows; ++row)
    for (std::int64_t k = 0; k < a.hidden_size; ++k)
      std::memcpy(a.y + (row * a.hidden_size + k) * bytes,
                  a.table + packed_index(a.packed, padded, a.ids[row], k) * bytes, static_cast<std::size_t>(bytes));
}

// Groups of four bytes, `packed.rows` of them apart.
void copy_row_of_words(const EmbeddingArgs& a, std::int64_t row) {
  constexpr std::int64_t kGroupBytes = 4;
  const auto bytes = static_cast<std::int64_t>(size_of(a.dtype));
  const std::int64_t padded = (a.hidden_size + a.packed.group - 1) / a.packed.group * a.packed.group;
  const std::byte* from = a.table + packed_index(a.packed, padded, a.ids[row], 0) * bytes;
  std::byte* to = a.y + row * a.hidden_size * bytes;
  const std::int64_t row_bytes = a.hidden_size * bytes, step = a.packed.rows * kGroupBytes;
  std::int64_t at = 0;
  for (; at + kGroupBytes <= row_bytes; at += kGroupBytes, from += step)
    std::memcpy(to + at, from, static_cast<std::size_t>(kGroupBytes));
  std::memcpy(to + at, from, static_cast<std::size_t>(row_bytes - at));
}

void embedding_plain(const EmbeddingArgs& a, ThreadPool& pool) {
  const std::int64_t bytes = a.hidden_size * static_cast<std::int64_t>(size_of(a.dtype));
  pool.parallel_for(a.rows, 32, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row)
      std::memcpy(a.y + row * bytes, a.table + a.ids[row] * bytes, static_cast<std::size_t>(bytes));
  });
}

void embedding_words(const EmbeddingArgs& a, ThreadPool& pool) {
  pool.parallel_for(a.rows, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) copy_row_of_words(a, row);
  });
}

bool plain(const EmbeddingShape& s) { return std::holds_alternative<Plain>(s.storage); }
bool packed_by_words(const EmbeddingShape& s) {
  const auto* packed = std::get_if<Packed>(&s.storage);
  return packed && static_cast<std::size_t>(packed->group) * size_of(s.dtype) == 4;
}
bool anything(const EmbeddingShape&) { return true; }

constexpr EmbeddingKernel kKernels[] = {
    {"embedding_plain", kClass, kBaseline, plain, embedding_plain},
    {"embedding_words", kClass, kBaseline, packed_by_words, embedding_words},
    {"embedding_ref", kClass, kBaseline, anything, embedding_ref},
};

}  // namespace

std::span<const EmbeddingKernel> embedding_kernels() { return kKernels; }

}  // namespace cajal::cpu
