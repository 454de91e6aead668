#include "checkpoint/prepared_weights.h"

#include "base/checked.h"
#include "base/checksum.h"
#include "base/error.h"
#include "tensor/lossless.h"

namespace cajal {
namespace {

constexpr const char* kDamaged = "copy the export again, or export the model again";

// What the format shows of a stored tensor.
SafetensorsEntry entry_of(const PreparedTensor& tensor) {
  const TensorType& type = tensor.type;
  if (type.plain()) return {tensor.name, type.dtype, {type.shape.begin(), type.shape.end()}};
  const auto* packed = std::get_if<Packed>(&type.storage);
  const bool stacked = type.shape.rank() == 3;
  if (!packed || type.shape.rank() < 2 || type.shape.rank() > 3)
    return {tensor.name, DType::u8, {static_cast<std::int64_t>(type.bytes())}};
  SafetensorsEntry entry{tensor.name, type.dtype, {}};
  if (stacked) entry.shape.push_back(type.shape[0]);
  for (const std::int64_t d :
       {ceil_div<std::int64_t>(type.shape[-2], packed->rows), ceil_div<std::int64_t>(type.shape[-1], packed->group),
        std::int64_t{packed->rows}, std::int64_t{packed->group}})
    entry.shape.push_back(d);
  return entry;
}

std::uint64_t padding_after(std::uint64_t bytes) { return round_up(bytes, kWeightAlignment) - bytes; }

// The tensors, and between them what fills their last pages.
std::vector<SafetensorsEntry> entries_of(std::span<const PreparedTensor> tensors) {
  std::vector<SafetensorsEntry> entries;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    entries.push_back(entry_of(tensors[i]));
    if (const std::uint64_t padding = padding_after(tensors[i].type.bytes()))
      entries.push_back({detail::join("padding.", i), DType::u8, {static_cast<std::int64_t>(padding)}});
  }
  return entries;
}

}  // namespace

PreparedWeightsWriter::PreparedWeightsWriter(std::string path, std::vector<PreparedTensor> tensors)
    : tensors_(std::move(tensors)),
      writer_(std::move(path), entries_of(tensors_), {{"format", "cajal"}}, kWeightAlignment) {}

void PreparedWeightsWriter::append(std::span<const std::byte> bytes, ThreadPool& pool) {
  static constexpr std::byte kZeros[kWeightAlignment] = {};
  CAJAL_CHECK(next_ < tensors_.size() && bytes.size() == tensors_[next_].type.bytes());
  tensors_[next_++].checksum = checksum_of_pieces(bytes, pool);
  writer_.append(bytes);
  writer_.append(std::span(kZeros).first(padding_after(bytes.size())));
}

PreparedWeights::PreparedWeights(const std::string& path, std::vector<PreparedTensor> tensors)
    : tensors_(std::move(tensors)), file_(path) {
  const auto bytes = file_.bytes();
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const SafetensorsHeader header = SafetensorsHeader::parse(text, bytes.size(), path);
  for (const PreparedTensor& tensor : tensors_) {
    const SafetensorsTensor* found = header.find(tensor.name);
    if (!found) fail(ErrorCode::data_loss, path, ": holds no ", tensor.name, remedy(kDamaged));
    const std::uint64_t begin = header.data_begin() + found->begin;
    if (found->size != tensor.type.bytes())
      fail(ErrorCode::data_loss, path, ": ", tensor.name, " has ", found->size, " bytes, expected ",
           tensor.type.bytes(), " for ", to_string(tensor.type), remedy(kDamaged));
    if (begin % kWeightAlignment != 0)
      fail(ErrorCode::data_loss, path, ": ", tensor.name, " begins at byte ", begin, ", expected a multiple of ",
           kWeightAlignment, remedy(kDamaged));
    places_.push_back(bytes.subspan(begin, found->size));
  }
}

void PreparedWeights::verify(ThreadPool& pool) const {
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    if (const std::uint64_t found = checksum_of_pieces(places_[i], pool); found != tensors_[i].checksum)
      fail(ErrorCode::data_loss, file_.path(), ": ", tensors_[i].name, " has the checksum ", checksum_text(found),
           ", expected ", checksum_text(tensors_[i].checksum), ": the file was changed", remedy(kDamaged));
    if (tensors_[i].type.lossless() && !lossless_tiles_are_sound(tensors_[i].type, places_[i].data()))
      fail(ErrorCode::data_loss, file_.path(), ": ", tensors_[i].name,
           " has lists of escapes that do not end, or name no weight", remedy(kDamaged));
  }
}

}  // namespace cajal
