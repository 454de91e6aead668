#pragma once
#include <memory>

#include "backends/backend.h"

namespace cajal::cpu {

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options);

}  // namespace cajal::cpu
