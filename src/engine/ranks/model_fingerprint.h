#pragma once
#include <cstdint>
#include <string>

namespace cajal {

// A checksum by which ranks notice that they have loaded different models, without reading their weights: of this build, of
// config.json, and of the sizes and some bytes of the files with weights; of an export its manifest, which has checksums of
// all the rest. What is not there counts as nothing: loading says so.
std::uint64_t model_fingerprint(const std::string& folder);

}  // namespace cajal
