#pragma once
// From a checkpoint to the memory of a device: what a graph's parameters say is done, in bounded pieces and in parallel.
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "checkpoint/checkpoint.h"
#include "checkpoint/staging.h"
#include "checkpoint/weight_layout.h"
#include "graph/graph.h"

namespace cajal {

// Fills `destination` (request.type.bytes()) with the rank's share of the parameter: its pieces in order, each cut by its
// own sharding, converted to the type's dtype (to nearest, ties to even) and stored as the type says. If none of the
// pieces of index 0 is there and the parameter has a `stacked_name`, that one tensor, [repeat, rows of all pieces,
// columns] (without the first dimension if it does not repeat), is read instead; the bytes are the same.
//
// Names and shapes and types of all sources are checked before the first byte is read. Memory beside `destination` and the
// checkpoint's own lists is the staging's. Throws Error: (not_found) a missing tensor; (data_loss) a shape that is not
// the parameter's, a file that ends early; (unsupported) a type that is not BF16, F16 or F32.
void load_parameter(const Checkpoint& checkpoint, const WeightRequest& request, const WeightPlace& destination,
                    Staging& staging);

// Where weights go. Host memory answers with a place in its arena and ignores finished(); a device takes rows as they are
// made, and brings them over while others are made.
class WeightSink {
 public:
  virtual ~WeightSink() = default;
  // type.bytes() bytes for the parameter of that node, at least 64-byte aligned, valid until finished(name) returns. Called
  // once for each parameter, in the graph's order, always from the caller's thread.
  virtual std::span<std::byte> destination(const std::string& name, const TensorType& type) = 0;
  // Asked first: who takes the rows of this parameter, until finished(name) returns; null: destination() does.
  virtual RowStore* row_store(const std::string& /*name*/, const TensorType& /*type*/) { return nullptr; }
  virtual void finished(const std::string& /*name*/) {}
};

// Calls fill(request, destination) for every Parameter node of the graph. Errors say which node they are about. Returns the
// bytes that were filled.
std::uint64_t for_each_parameter(const Graph& graph, TensorParallelRank rank, WeightSink& sink,
                                 const std::function<void(const WeightRequest&, const WeightPlace&)>& fill);
// load_parameter for every Parameter node.
std::uint64_t load_all(const Checkpoint& checkpoint, const Graph& graph, TensorParallelRank rank, WeightSink& sink,
                       Staging& staging);

}  // namespace cajal
