#pragma once
#include <memory>

#include "backends/backend.h"

namespace cajal::cpu {

// num_threads 0: as many as the cores that this process may use.
std::unique_ptr<Backend> make_cpu_backend(int num_threads);

}  // namespace cajal::cpu
