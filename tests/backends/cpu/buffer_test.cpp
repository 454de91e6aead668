// Buffers of the CPU, of which those of a few megabytes share mappings.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "backends/cpu/cpu_backend.h"

namespace cajal::cpu {
namespace {

bool all_are(Buffer& buffer, std::byte value) {
  const auto view = buffer.host_view();
  return std::all_of(view.begin(), view.end(), [value](std::byte b) { return b == value; });
}

TEST(CpuBuffer, IsZeroAndItsOwnWhateverBecomesOfOthers) {
  const auto backend = make_cpu_backend({.num_threads = 1});
  std::vector<std::unique_ptr<Buffer>> buffers;
  const std::size_t sizes[] = {1, 4096, 65536, 70001, 3 << 20, (16 << 20) + 1, 16 << 20, 16 << 20, 16 << 20, 16 << 20};
  for (int round = 0; round < 3; ++round) {
    for (const std::size_t bytes : sizes) {
      auto buffer = backend->allocate(bytes);
      EXPECT_EQ(buffer->bytes(), bytes);
      EXPECT_TRUE(all_are(*buffer, std::byte{0})) << bytes;
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer->host_view().data()) % 64, 0);
      std::ranges::fill(buffer->host_view(), static_cast<std::byte>(buffers.size() + 1));
      buffers.push_back(std::move(buffer));
    }
    // Every second one goes; the others keep what they hold.
    for (std::size_t i = round % 2; i < buffers.size(); i += 2) buffers[i].reset();
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      if (!buffers[i]) continue;
      EXPECT_TRUE(all_are(*buffers[i], static_cast<std::byte>(i + 1))) << i;
    }
  }
}

}  // namespace
}  // namespace cajal::cpu
