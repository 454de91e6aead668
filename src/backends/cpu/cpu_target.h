#pragma once
// CPUs by their instruction sets.
#include <cstdint>
#include <memory>
#include <string_view>

#include "backends/target.h"

namespace cajal::cpu {

bool is_cpu_target(std::string_view name);
// The instruction sets of "cpu-avx2"; of "cpu" those of this machine.
std::uint32_t isa_of_target(std::string_view name);
std::unique_ptr<Target> make_cpu_target(std::uint32_t isa);

}  // namespace cajal::cpu
