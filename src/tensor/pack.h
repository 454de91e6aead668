#pragma once
// Writing rows of a tensor into the storage that its type names, and reading them back. What is stored in fewer bits is
// rounded, as quantized.h says; other rows come back as they were.
//
// Rows are counted over all dimensions but the last: of [E,N,K] there are E*N, and row e*N + n is row n of matrix e. In
// Packed storage every matrix [N,K] is padded to whole tiles by itself, so matrix e begins at e * padded N * padded K.
#include <cstddef>
#include <cstdint>

#include "tensor/tensor.h"

namespace cajal {

// rows[num_rows, K], dense and of type.dtype, become rows first_row.. of `stored`, which is the whole tensor
// (type.bytes()). Columns of padding are zeroed with their row, rows of padding with the last row of their matrix: once
// all rows have been written, so has every byte. Calls for rows of different tiles may run at the same time.
// Quantised storage takes bf16 and f32. Error(unsupported) for other bits than 8 and 4, scales that are not i8, and zero
// points; Error(data_loss) for weights that are not finite or too large. `largest[num_rows]` are the largest magnitudes of
// the rows that these are parts of: so parts are rounded as the whole is. Null: they are whole. Lossless storage takes bf16,
// whole tiles at a time; Error(unsupported) for weights of which too many need more than its 12 bits.
void pack_rows(const TensorType& type, std::int64_t first_row, std::int64_t num_rows, const std::byte* rows,
               std::byte* stored, const float* largest = nullptr);

// The inverse: rows first_row.. of `stored` become rows[num_rows, K].
void unpack_rows(const TensorType& type, std::int64_t first_row, std::int64_t num_rows, const std::byte* stored,
                 std::byte* rows);

// The smallest number of rows of which pieces can be packed independently: that of a tile, or 1.
std::int64_t rows_per_tile(const TensorType& type);

}  // namespace cajal
