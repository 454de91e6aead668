#include "engine/ranks/model_fingerprint.h"

#include <algorithm>
#include <array>
#include <set>
#include <vector>

#include "base/checksum.h"
#include "base/file.h"
#include "checkpoint/checkpoint.h"
#include "compiler/manifest.h"

namespace cajal {
namespace {

constexpr std::uint64_t kSamples = 16;
constexpr std::size_t kSampleBytes = 4096;

std::uint64_t sample(const std::string& path) {
  const File file(path);
  std::vector<std::uint64_t> sums{file.size()};
  std::array<std::byte, kSampleBytes> bytes;
  for (std::uint64_t i = 0; i < kSamples; ++i) {
    const std::uint64_t offset = file.size() / kSamples * i;
    const auto piece =
        std::span(bytes).first(static_cast<std::size_t>(std::min<std::uint64_t>(kSampleBytes, file.size() - offset)));
    file.read(offset, piece);
    sums.push_back(checksum(piece));
  }
  return checksum(std::as_bytes(std::span(sums)));
}

std::uint64_t text_checksum(const std::string& path) { return file_exists(path) ? checksum(read_file(path)) : 0; }

}  // namespace

std::uint64_t model_fingerprint(const std::string& folder) {
  const std::string index = folder + "/model.safetensors.index.json";
  std::vector<std::uint64_t> sums{checksum(std::string_view(CAJAL_VERSION)), text_checksum(folder + "/config.json"),
                                  text_checksum(folder + "/" + kManifestFile), text_checksum(index)};
  std::set<std::string> files{"model.safetensors"};
  if (file_exists(index))
    for (const auto& [tensor, file] : parse_checkpoint_index(read_file(index), index)) files.insert(file);
  for (const std::string& file : files)
    if (const std::string path = folder + "/" + file; file_exists(path)) sums.push_back(sample(path));
  return checksum(std::as_bytes(std::span(sums)));
}

}  // namespace cajal
