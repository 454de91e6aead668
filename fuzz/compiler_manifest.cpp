// Any bytes as cajal_export.json: reading ends in a manifest or an Error, and a manifest is written as text that reads back
// to the same. The checksum is put right first: without that nothing else would ever be reached.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/checksum.h"
#include "base/error.h"
#include "compiler/manifest.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string text(reinterpret_cast<const char*>(data), size);
  const std::string key = "\"checksum_of_this_file\": \"";
  if (const auto at = text.find(key); at != std::string::npos && at + key.size() + 16 <= text.size()) {
    text.replace(at + key.size(), 16, std::string(16, '0'));
    text.replace(at + key.size(), 16, cajal::checksum_text(cajal::checksum(text)));
  }
  try {
    const cajal::Manifest manifest = cajal::parse_manifest(text, "input");
    CAJAL_CHECK(cajal::parse_manifest(cajal::to_json_text(manifest), "written") == manifest, text);
  } catch (const cajal::Error& e) {
    CAJAL_CHECK(!e.message().empty());
  }
  return 0;
}
