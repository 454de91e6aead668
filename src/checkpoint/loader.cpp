#include "checkpoint/loader.h"

#include <algorithm>
#include <variant>

#include "base/checked.h"
#include "base/error.h"
#include "checkpoint/convert.h"

namespace cajal {
namespace {

// A read from the page cache costs about a microsecond before its first byte: columns shorter than this are cut out of
// whole rows instead of being read one by one.
constexpr std::int64_t kMinReadBytes = 2048;
// What is read before it is converted. Two of these and a chunk fit the second-level cache.
constexpr std::int64_t kReadBytes = std::int64_t{128} << 10;

// Where a piece's elements are: element (row, column) of the piece is element (first_row + row) * columns + column.
struct Source {
  CheckpointTensor where;
  std::int64_t first_row = 0;
};

std::string shape_text(const std::vector<std::int64_t>& shape) {
  SafetensorsTensor only_shape;
  only_shape.shape = shape;
  return only_shape.shape_text();
}

void check_source(const CheckpointTensor& found, const std::vector<std::int64_t>& expected,
                  const WeightRequest& request) {
  const SafetensorsTensor& tensor = *found.tensor;
  const std::string& path = found.file->path();
  if (tensor.shape != expected)
    fail(ErrorCode::data_loss, tensor.name, " in ", path, ": shape is ", tensor.shape_text(), ", expected ",
         shape_text(expected), " for the parameter ", to_string(request.type),
         remedy("is config.json from another model?"));
  if (!tensor.dtype->dtype || !is_weight_dtype(*tensor.dtype->dtype))
    fail(ErrorCode::unsupported, tensor.name, " in ", path, ": the dtype is ", tensor.dtype->name,
         ", expected BF16, F16 or F32", remedy("save the model in one of these types"));
}

std::vector<std::int64_t> dims(const Shape& shape) { return {shape.begin(), shape.end()}; }

// One source for each (index, piece), checked.
std::vector<Source> find_sources(const Checkpoint& checkpoint, const WeightRequest& request) {
  const ops::Parameter& parameter = request.parameter;
  const bool any_piece = std::any_of(parameter.pieces.begin(), parameter.pieces.end(), [&](const WeightPiece& piece) {
    return checkpoint.find(name_of_repeat(piece.name, 0)).has_value();
  });
  std::vector<Source> sources;
  if (!any_piece && !parameter.stacked_name.empty() && checkpoint.find(parameter.stacked_name)) {
    const CheckpointTensor stacked = checkpoint.require(parameter.stacked_name);
    std::int64_t rows = 0;
    for (const WeightPiece& piece : parameter.pieces)
      rows = checked_add(rows, piece.shape[0], "rows of stacked weights");
    std::vector<std::int64_t> expected = dims(parameter.pieces.front().shape);
    expected.front() = rows;
    if (parameter.stacked()) expected.insert(expected.begin(), parameter.repeat);
    check_source(stacked, expected, request);
    for (std::int64_t index = 0, row = 0; index < parameter.repeat; ++index)
      for (const WeightPiece& piece : parameter.pieces) {
        sources.push_back({stacked, row});
        row += piece.shape[0];
      }
    return sources;
  }
  for (std::int64_t index = 0; index < parameter.repeat; ++index)
    for (const WeightPiece& piece : parameter.pieces) {
      const CheckpointTensor found = checkpoint.require(name_of_repeat(piece.name, index));
      check_source(found, dims(piece.shape), request);
      sources.push_back({found, 0});
    }
  return sources;
}

// Reads one tensor's elements as another type, through the caller's scratch memory.
struct Reader {
  const CheckpointTensor& from;
  DType to;
  std::span<std::byte> scratch;

  DType type() const { return *from.tensor->dtype->dtype; }
  std::int64_t source_size() const { return static_cast<std::int64_t>(size_of(type())); }
  std::int64_t target_size() const { return static_cast<std::int64_t>(size_of(to)); }

  // `count` consecutive elements of the tensor, from `first` on.
  void read_run(std::int64_t first, std::int64_t count, std::byte* out) const {
    if (type() == to) {
      read(first, {out, static_cast<std::size_t>(count * source_size())});
      return;
    }
    const std::int64_t step = static_cast<std::int64_t>(scratch.size()) / source_size();
    for (std::int64_t at = 0; at < count; at += step) {
      const std::int64_t n = std::min(step, count - at);
      read(first + at, scratch.first(static_cast<std::size_t>(n * source_size())));
      convert_elements(type(), scratch.data(), to, out + at * target_size(), n);
    }
  }

  // The segment's columns of `rows` rows, cut out of whole rows; `out_bytes` from a row to the next.
  void read_narrow(const WeightSegment& s, std::int64_t first_row, std::int64_t rows, std::byte* out,
                   std::int64_t out_bytes) const {
    const std::int64_t row_bytes = s.source_columns * source_size();
    const std::int64_t step = static_cast<std::int64_t>(scratch.size()) / row_bytes;
    for (std::int64_t row = 0; row < rows; row += step) {
      const std::int64_t n = std::min(step, rows - row);
      read((first_row + row) * s.source_columns, scratch.first(static_cast<std::size_t>(n * row_bytes)));
      for (std::int64_t r = 0; r < n; ++r)
        convert_elements(type(), scratch.data() + r * row_bytes + s.source_column * source_size(), to,
                         out + (row + r) * out_bytes, s.columns);
    }
  }

 private:
  void read(std::int64_t first, std::span<std::byte> into) const {
    from.file->read(*from.tensor, static_cast<std::uint64_t>(first * source_size()), into);
  }
};

std::int64_t row_bytes_of(const Source& source, std::int64_t columns) {
  return columns * static_cast<std::int64_t>(size_of(*source.where.tensor->dtype->dtype));
}

// What a thread needs to read from these sources.
std::size_t scratch_bytes(const WeightLayout& layout, const std::vector<Source>& sources, std::size_t pieces,
                          DType to) {
  std::int64_t bytes = 0;
  for (std::size_t first = 0; first < sources.size(); first += pieces)
    for (const WeightSegment& segment : layout.segments) {
      const Source& source = sources[first + segment.piece];
      const bool narrow =
          segment.columns != segment.source_columns && row_bytes_of(source, segment.columns) < kMinReadBytes;
      if (narrow) bytes = std::max({bytes, kReadBytes, row_bytes_of(source, segment.source_columns)});
      if (*source.where.tensor->dtype->dtype != to) bytes = std::max(bytes, kReadBytes);
    }
  return static_cast<std::size_t>(bytes);
}

}  // namespace

void load_parameter(const Checkpoint& checkpoint, const WeightRequest& request, const WeightPlace& destination,
                    Staging& staging) {
  const DType to = request.type.dtype;
  if (!is_weight_dtype(to)) fail(ErrorCode::unsupported, "weights as ", to_string(to), ", expected bf16, f16 or f32");
  const WeightLayout layout = weight_layout(request);
  const std::vector<Source> sources = find_sources(checkpoint, request);
  const std::size_t pieces = request.parameter.pieces.size();
  const auto produce = [&](const RowRange& range, std::byte* out, std::span<std::byte> scratch) {
    const WeightSegment& segment = range.segment;
    const Source& source = sources[static_cast<std::size_t>(range.index) * pieces + segment.piece];
    const Reader reader{source.where, to, scratch};
    const std::int64_t row = source.first_row + segment.source_row + range.first, columns = segment.columns;
    const std::int64_t out_bytes = range.stride * reader.target_size();
    if (columns == segment.source_columns && columns == range.stride) {
      reader.read_run(row * columns, range.rows * columns, out);
    } else if (columns != segment.source_columns && row_bytes_of(source, columns) < kMinReadBytes) {
      reader.read_narrow(segment, row, range.rows, out, out_bytes);
    } else {
      for (std::int64_t r = 0; r < range.rows; ++r)
        reader.read_run((row + r) * segment.source_columns + segment.source_column, columns, out + r * out_bytes);
    }
  };
  fill_weight(layout, {scratch_bytes(layout, sources, pieces, to), produce}, destination, staging);
}

std::uint64_t for_each_parameter(const Graph& graph, TensorParallelRank rank, WeightSink& sink,
                                 const std::function<void(const WeightRequest&, const WeightPlace&)>& fill) {
  std::uint64_t bytes = 0;
  for (const Node& node : graph.nodes()) {
    const auto* parameter = std::get_if<ops::Parameter>(&node.op);
    if (!parameter) continue;
    const TensorType& type = graph.type(node.results.front());
    with_context(node.name, [&] {
      const WeightRequest request{*parameter, type, rank};
      if (RowStore* rows = sink.row_store(node.name, type)) {
        fill(request, WeightPlace(*rows));
      } else {
        const std::span<std::byte> memory = sink.destination(node.name, type);
        CAJAL_CHECK(memory.size() == type.bytes(), node.name, ": ", memory.size(), " bytes for ", to_string(type));
        fill(request, memory.data());
      }
      sink.finished(node.name);
    });
    bytes += type.bytes();
  }
  return bytes;
}

std::uint64_t load_all(const Checkpoint& checkpoint, const Graph& graph, TensorParallelRank rank, WeightSink& sink,
                       Staging& staging) {
  return for_each_parameter(graph, rank, sink, [&](const WeightRequest& request, const WeightPlace& destination) {
    load_parameter(checkpoint, request, destination, staging);
  });
}

}  // namespace cajal
