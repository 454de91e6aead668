#include "checkpoint/safetensors_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <set>

#include "base/checked.h"
#include "base/error.h"
#include "base/json.h"
#include "base/utf8.h"
#include "checkpoint/safetensors.h"

namespace cajal {
namespace {

[[noreturn]] void fail_errno(const std::string& path) {
  const int code = errno;
  fail(
      ErrorCode::unavailable, path, ": cannot write: ", std::strerror(code),
      remedy(code == ENOSPC ? "make room on that disk, or write to another" : "choose a place that can be written to"));
}

// The length and the JSON, padded with spaces so that the data begins at a multiple of `alignment`: readers that map the
// file then find aligned elements. Hugging Face's writer does so with 8 bytes.
std::string header_of(std::span<const SafetensorsEntry> tensors, const SafetensorsMetadata& metadata,
                      std::uint64_t alignment, std::uint64_t& data_bytes) {
  Json::Object root;
  if (!metadata.empty()) {
    Json::Object texts;
    for (const auto& [key, text] : metadata) texts.emplace_back(key, Json(text));
    root.emplace_back("__metadata__", Json(std::move(texts)));
  }
  data_bytes = 0;
  std::set<std::string_view> names;
  for (const SafetensorsEntry& tensor : tensors) {
    const std::string what = detail::join("tensor ", tensor.name);
    if (tensor.name.empty() || tensor.name == "__metadata__" || tensor.name.size() > kMaxTensorNameBytes ||
        !is_valid_utf8(tensor.name) || tensor.shape.size() > kMaxSafetensorsRank || !names.insert(tensor.name).second)
      fail(ErrorCode::invalid_argument, what, ": safetensors has no place for this name or shape");
    auto bytes = static_cast<std::uint64_t>(size_of(tensor.dtype));
    Json::Array shape;
    for (const std::int64_t d : tensor.shape) {
      bytes = checked_mul(bytes, checked_cast<std::uint64_t>(d, what), what);
      shape.emplace_back(d);
    }
    const std::uint64_t end = checked_add(data_bytes, bytes, what);
    Json::Object entry;
    entry.emplace_back("dtype", Json(safetensors_dtype(tensor.dtype).name));
    entry.emplace_back("shape", Json(std::move(shape)));
    entry.emplace_back("data_offsets", Json(Json::Array{Json(data_bytes), Json(end)}));
    root.emplace_back(tensor.name, Json(std::move(entry)));
    data_bytes = end;
  }
  std::string json = root.empty() ? "{}" : to_json(Json(std::move(root)));
  json.resize(round_up<std::size_t>(json.size() + 8, alignment) - 8, ' ');
  if (json.size() > kMaxSafetensorsHeaderBytes)
    fail(ErrorCode::invalid_argument, "a safetensors header of ", json.size(), " bytes, expected at most ",
         kMaxSafetensorsHeaderBytes);
  std::string header(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) header[i] = static_cast<char>(json.size() >> 8 * i & 0xff);
  return header + json;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(std::string path, std::span<const SafetensorsEntry> tensors,
                                     const SafetensorsMetadata& metadata, std::uint64_t data_alignment)
    : path_(std::move(path)), temporary_(path_ + ".partial") {
  const std::string header = header_of(tensors, metadata, data_alignment, data_bytes_);
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd_ < 0) fail_errno(temporary_);
  try {
    write(std::as_bytes(std::span(header)));
  } catch (...) {  // no destructor runs for what was never constructed
    ::close(fd_);
    ::unlink(temporary_.c_str());
    throw;
  }
}

SafetensorsWriter::~SafetensorsWriter() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void SafetensorsWriter::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd_, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail_errno(temporary_);
    bytes = bytes.subspan(static_cast<std::size_t>(put));
  }
}

void SafetensorsWriter::append(std::span<const std::byte> bytes) {
  CAJAL_CHECK(fd_ >= 0 && bytes.size() <= data_bytes_ - appended_, path_, ": more bytes than the header announced");
  write(bytes);
  appended_ += bytes.size();
}

void SafetensorsWriter::finish() {
  CAJAL_CHECK(appended_ == data_bytes_, path_, ": ", appended_, " bytes of ", data_bytes_);
  const int fd = std::exchange(fd_, -1);
  if (::close(fd) != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int code = errno;
    ::unlink(temporary_.c_str());
    errno = code;
    fail_errno(path_);
  }
}

void write_safetensors(const std::string& path, std::span<const SafetensorsContent> tensors,
                       const SafetensorsMetadata& metadata) {
  std::vector<SafetensorsEntry> entries;
  for (const SafetensorsContent& tensor : tensors) entries.push_back(tensor.entry);
  SafetensorsWriter writer(path, entries, metadata);
  for (const SafetensorsContent& tensor : tensors) writer.append(tensor.bytes);
  writer.finish();
}

}  // namespace cajal
