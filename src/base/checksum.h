#pragma once
// A checksum of bytes that finds what disks, networks and editors do to files: every change within one 8-byte word changes
// it, others leave it with a chance of 2^-64. It is no protection against somebody who wants to deceive.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/thread_pool.h"

namespace cajal {

std::uint64_t checksum(std::span<const std::byte> bytes);
// Another function, of pieces that several threads take: for bytes by the gigabyte. Does not depend on how many there are.
std::uint64_t checksum_of_pieces(std::span<const std::byte> bytes, ThreadPool& pool);

inline std::uint64_t checksum(std::string_view text) { return checksum(std::as_bytes(std::span(text))); }

std::string checksum_text(std::uint64_t sum);                     // 16 hexadecimal digits
bool parse_checksum(std::string_view text, std::uint64_t& into);  // exactly those, in lower case

}  // namespace cajal
