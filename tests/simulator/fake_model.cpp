#include "simulator/fake_model.h"

#include <cstddef>
#include <limits>

#include "simulator/random.h"

namespace cajal::simulator {

std::uint64_t FakeModel::root() const { return mix(behaviour_.seed ^ 0x726f6f74u); }

std::uint64_t FakeModel::next(std::uint64_t state, std::int32_t token) const {
  return mix(state * 0x2545f4914f6cdd1du + static_cast<std::uint32_t>(token));
}

void FakeModel::logits(std::uint64_t state, std::span<float> into) const {
  // Few different values, so that equal logits, where the rule for ties decides, are common.
  std::uint64_t bits = 0;
  for (std::size_t i = 0; i < into.size(); ++i) {
    bits = i % 8 == 0 ? mix(state + i) : bits >> 8;
    into[i] = static_cast<float>(bits & 0xff) / 32.0f - 4.0f;
  }
  // One draw, of independent parts, decides what kind of position this is.
  const std::uint64_t kind = mix(state ^ 0x6b696e64u);
  const auto part = [&](int shift, std::int64_t of) {
    return static_cast<std::int64_t>((kind >> shift) & 0xffff) % of;
  };
  const bool ends = part(0, 100) < behaviour_.eos_percent;
  into[FakeModel::kEos] = ends ? 9.0f : -3.0f;
  if (!ends && part(16, 100) < behaviour_.peaked_percent)
    into[static_cast<std::size_t>(1 + part(32, first_salt_token() - 1))] = 20.0f;
  for (auto i = static_cast<std::size_t>(first_salt_token()); i < into.size(); ++i) into[i] = -1e9f;
  if (part(48, 1000) < behaviour_.nan_per_mille)
    into[static_cast<std::size_t>(part(32, behaviour_.vocab_size))] =
        kind & 1 ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity();
}

}  // namespace cajal::simulator
