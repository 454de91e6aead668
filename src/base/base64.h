#pragma once
// RFC 4648's base64, with padding.
#include <cstddef>
#include <span>
#include <string>

namespace cajal {

std::string to_base64(std::span<const std::byte> bytes);

}  // namespace cajal
