#pragma once
#include "backends/cuda/memory.h"
#include "backends/device_rates.h"

namespace cajal::cuda {

DeviceRates measure_rates(const Stream& stream, std::size_t free_bytes, int sm);

}  // namespace cajal::cuda
