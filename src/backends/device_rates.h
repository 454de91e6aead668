#pragma once
// What a device that is not the host does at best, measured by the backend itself.
#include "backends/backend.h"

namespace cajal {

struct DeviceRates {
  double read_bytes_per_s = 0;
  double f32_flops_per_s = 0, bf16_flops_per_s = 0;  // 0: not measured
};
// Takes some tenths of a second, and memory for as long. All zero for a backend without such probes; the CPU has its own,
// backends/cpu/probe.h.
DeviceRates measure_device_rates(Backend& backend);

}  // namespace cajal
