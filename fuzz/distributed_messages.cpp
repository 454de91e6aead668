// Any bytes as what another rank sends, in two pieces: reading ends in an Error or in frames whose messages, written again,
// are the same bytes.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "distributed/messages.h"

namespace {

std::string again(const cajal::Frame& f) {
  switch (f.type) {
    case cajal::FrameType::hello: return cajal::encode(cajal::decode_hello(f.payload));
    case cajal::FrameType::welcome: return cajal::encode(cajal::decode_welcome(f.payload));
    case cajal::FrameType::failed: return cajal::encode(cajal::decode_failed(f.payload));
    case cajal::FrameType::link: return cajal::encode(cajal::decode_link(f.payload));
    default: return f.payload;
  }
}

// A hello of another protocol is read as far as its number.
bool is_foreign(const cajal::Frame& f) {
  return f.type == cajal::FrameType::hello && cajal::decode_hello(f.payload).protocol != cajal::kRankProtocol;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::size_t cut = size > 0 ? data[0] % size : 0;
  cajal::FrameReader reader;
  try {
    for (const auto piece : {bytes.substr(0, cut), bytes.substr(cut)}) {
      reader.append(piece);
      while (const auto f = reader.next()) CAJAL_CHECK(is_foreign(*f) || again(*f) == f->payload);
    }
  } catch (const cajal::Error& e) {
    CAJAL_CHECK(e.code() == cajal::ErrorCode::data_loss, e.what());
  }
  return 0;
}
