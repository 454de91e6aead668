#include <algorithm>
#include <cstring>

#include "backends/cpu/kernels/linear.h"
#include "backends/cpu/kernels/linear_ref.h"
#include "backends/cpu/kernels/quant_blocks.h"
#include "base/thread_pool.h"
#include "tensor/lossless.h"

namespace cajal::cpu {
namespace {

constexpr const char* kClass = "copy";

// Where a row of y goes; null if it is one of zeros, which it is then.
std::byte* row_to_fill(const EmbeddingArgs& a, std::int64_t row) {
  const std::int64_t bytes = a.hidden_size * static_cast<std::int64_t>(size_of(a.dtype));
  std::byte* const to = a.y + row * bytes;
  if (a.table_row(row) >= 0) return to;
  std::memset(to, 0, static_cast<std::size_t>(bytes));
  return nullptr;
}

// One by one, through the formula of the storage.
void embedding_ref(const EmbeddingArgs& a, ThreadPool&) {
  const auto bytes = static_cast<std::int64_t>(size_of(a.dtype));
  const std::int64_t padded = (a.hidden_size + a.packed.group - 1) / a.packed.group * a.packed.group;
  for (std::int64_t row = 0; row < a.rows; ++row) {
    std::byte* const to = row_to_fill(a, row);
    for (std::int64_t k = 0; to && k < a.hidden_size; ++k)
      std::memcpy(to + k * bytes, a.table + packed_index(a.packed, padded, a.table_row(row), k) * bytes,
                  static_cast<std::size_t>(bytes));
  }
}

// Groups of four bytes, `packed.rows` of them apart.
void copy_row_of_words(const EmbeddingArgs& a, std::int64_t row) {
  constexpr std::int64_t kGroupBytes = 4;
  const auto bytes = static_cast<std::int64_t>(size_of(a.dtype));
  const std::int64_t padded = (a.hidden_size + a.packed.group - 1) / a.packed.group * a.packed.group;
  std::byte* const to = row_to_fill(a, row);
  if (!to) return;
  const std::byte* from = a.table + packed_index(a.packed, padded, a.table_row(row), 0) * bytes;
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
      if (std::byte* const to = row_to_fill(a, row))
        std::memcpy(to, a.table + a.table_row(row) * bytes, static_cast<std::size_t>(bytes));
  });
}

void embedding_words(const EmbeddingArgs& a, ThreadPool& pool) {
  pool.parallel_for(a.rows, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) copy_row_of_words(a, row);
  });
}

// The first `count` numbers of a group of row n, integer * scale * row scale, rounded to the table's type.
template <int kBits>
void copy_group(const EmbeddingArgs& a, const QuantizedLayout& l, std::int64_t n, std::int64_t group,
                std::int64_t count, float row_scale, std::byte* to) {
  constexpr std::int64_t kColumns = kBits == 8 ? 4 : 8;  // of four bytes
  const std::int64_t step = l.integer_at(n, group, kColumns) - l.integer_at(n, group, 0);
  const std::byte* const from = a.table + l.integer_at(n, group, 0);
  const int scale = quantized_scale(l, a.table, n, group);
  for (std::int64_t k = 0; k < count; ++k) {
    const auto byte = static_cast<int>(from[k / kColumns * step + k % 4]);
    const int integer = kBits == 8 ? byte : k % 8 < 4 ? byte & 15 : byte >> 4;
    store_element(to, k, a.dtype, static_cast<float>((integer - quantized_offset(kBits)) * scale) * row_scale);
  }
}

void embedding_quantized(const EmbeddingArgs& a, ThreadPool& pool) {
  const QuantizedLayout l{a.quantized, a.vocab_size, a.hidden_size};
  const auto copy = l.storage.bits == 8 ? copy_group<8> : copy_group<4>;
  const std::int64_t size = l.storage.group_size, bytes = size * static_cast<std::int64_t>(size_of(a.dtype));
  pool.parallel_for(a.rows, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      std::byte* const to = row_to_fill(a, row);
      if (!to) continue;
      const std::int64_t n = a.table_row(row);
      const float row_scale = quantized_row_scale(l, a.table, n);
      for (std::int64_t group = 0; group < l.groups(); ++group)
        copy(a, l, n, group, std::min(size, a.hidden_size - group * size), row_scale, to + group * bytes);
    }
  });
}

void embedding_lossless(const EmbeddingArgs& a, ThreadPool& pool) {
  const LosslessLayout l{a.vocab_size, a.hidden_size};
  pool.parallel_for(a.rows, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row)
      if (std::byte* const to = row_to_fill(a, row)) {
        const std::int64_t n = a.table_row(row);
        read_lossless_row(l, a.table + n / LosslessLayout::kTileRows * l.tile_bytes(), n % LosslessLayout::kTileRows,
                          to);
      }
  });
}

bool lossless(const EmbeddingShape& s) { return std::holds_alternative<Lossless>(s.storage); }
bool plain(const EmbeddingShape& s) { return std::holds_alternative<Plain>(s.storage); }
bool packed_by_words(const EmbeddingShape& s) {
  const auto* packed = std::get_if<Packed>(&s.storage);
  return packed && static_cast<std::size_t>(packed->group) * size_of(s.dtype) == 4;
}
bool quantized(const EmbeddingShape& s) {
  // A table that no linear reads lies row by row.
  Storage tiled = s.storage;
  if (auto* q = std::get_if<Quantized>(&tiled); q && q->tile_rows == 1) q->tile_rows = kQuantTileOutputs;
  return is_quant_storage(tiled, s.dtype);
}
bool anything(const EmbeddingShape& s) { return !std::holds_alternative<Quantized>(s.storage) && !lossless(s); }

constexpr EmbeddingKernel kKernels[] = {
    {"embedding_plain", kClass, kBaseline, plain, embedding_plain},
    {"embedding_words", kClass, kBaseline, packed_by_words, embedding_words},
    {"embedding_quantized", "integer times scale, rounded once", kBaseline, quantized, embedding_quantized},
    {"embedding_lossless", kClass, kBaseline, lossless, embedding_lossless},
    {"embedding_ref", kClass, kBaseline, anything, embedding_ref},
};

}  // namespace

std::span<const EmbeddingKernel> embedding_kernels() { return kKernels; }

}  // namespace cajal::cpu
