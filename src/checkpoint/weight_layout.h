#pragma once
// Which source elements make up a rank's share of a parameter. Loading and dummy weights both follow it, so that a tensor
// that was never on a disk is sharded, joined and packed exactly like one that was.
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/staging.h"
#include "graph/op.h"
#include "tensor/dummy_numbers.h"
#include "tensor/tensor.h"

namespace cajal {

// Place of a rank in its tensor-parallel group. Of a piece cut into `parts`, it holds share rank * parts / world.
struct TensorParallelRank {
  int rank = 0, world = 1;
  int expert_rank = 0, expert_world = 1;  // its group among those that share the experts
};

// A parameter as one rank holds it. `type` is that of the Parameter node: the rank's own shape, dtype and storage.
struct WeightRequest {
  const ops::Parameter& parameter;
  const TensorType& type;
  TensorParallelRank rank;
};

// A rectangle of the result, and where in the piece it is, which has `source_columns`. Vectors count as matrices of one
// column: biases of q, k and v join like their rows.
struct WeightSegment {
  std::size_t piece = 0;
  std::int64_t row = 0, rows = 0, column = 0, columns = 0;
  std::int64_t source_row = 0, source_column = 0, source_columns = 0;
};

struct WeightLayout {
  std::int64_t count = 1;               // matrices of the result
  std::int64_t first_repeat = 0;        // the first of them is of this repeat
  std::int64_t repeats = 1;             // as many of them have one; the others are zeros
  std::int64_t rows = 0, columns = 0;   // of each, in the result
  std::vector<WeightSegment> segments;  // of each, by row; what none covers is padding, and zero
  bool whole_rows = true;               // segments are of all columns
  TensorType matrix;                    // of one, as stored
};

// Checks the parameter against its type. Throws Error(invalid_argument) if the two do not fit: the graph then belongs to
// another parallel degree or is damaged.
WeightLayout weight_layout(const WeightRequest& request);

// Rows of one segment of the matrix of repeat `index`: those from the segment's row `first` on.
struct RowRange {
  std::int64_t index = 0;
  const WeightSegment& segment;
  std::int64_t first = 0, rows = 0;
  std::int64_t stride = 0;  // elements from a row of what is written to the next
};
// Writes the rows of the segment, plain in the target dtype: the first element to `out`, the next row `stride` elements
// further. Runs on several threads at once, each with `scratch` of its own; may throw.
struct RowProducer {
  std::size_t scratch_bytes = 0;
  std::function<void(const RowRange& range, std::byte* out, std::span<std::byte> scratch)> produce;
};

// Takes a parameter's rows as they are made, plain in the target dtype, for devices that store them by themselves.
class RowStore {
 public:
  virtual ~RowStore() = default;
  virtual std::size_t max_bytes() const = 0;  // of one range of rows
  // Memory for a range of rows; waits while others hold all of it. What is made there is handed to store(), or to
  // give_back() if it could not be made. Both are called by several threads at once.
  virtual std::span<std::byte> acquire() = 0;
  // `num_rows` rows from row `first_row` on, counted through all matrices of a stack.
  virtual void store(std::int64_t first_row, std::int64_t num_rows, std::span<std::byte> rows) = 0;
  virtual void give_back(std::span<std::byte> rows) = 0;
  // Whether it can make dummy weights out of their recipe.
  virtual bool makes_dummy_rows() const { return false; }
  virtual void make(std::span<const DummyRows> /*rows*/) {}
};

// Where a parameter goes: memory of type.bytes(), or who takes its rows.
struct WeightPlace {
  std::byte* memory = nullptr;
  RowStore* rows = nullptr;
  WeightPlace(std::byte* m) : memory(m) {}  // NOLINT(google-explicit-constructor): memory is a place
  explicit WeightPlace(RowStore& r) : rows(&r) {}
};

// Fills a place in row ranges, in parallel, storing each as the type says. Rows that no segment covers become zero in
// memory; a RowStore does not get those behind the last segment. Rows that are quantised and cut are made whole as well, for
// their largest magnitudes: so that ranks round them as one rank does.
void fill_weight(const WeightLayout& layout, const RowProducer& producer, const WeightPlace& destination,
                 Staging& staging);

// "model.layers.0.mlp.experts.*.up_proj.weight" for index 7 -> "….experts.7.up_proj.weight"
std::string name_of_repeat(const std::string& pattern, std::int64_t index);

}  // namespace cajal
