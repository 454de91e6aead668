#pragma once
#include <memory>

#include "backends/backend.h"
#include "base/thread_pool.h"

namespace cajal::cpu {

// num_threads 0: as many as the cores that this process may use.
std::unique_ptr<Backend> make_cpu_backend(int num_threads);

// The pool of a CPU backend, for what is done on its threads outside of steps (loading, probes).
ThreadPool& thread_pool_of(Backend& cpu_backend);

}  // namespace cajal::cpu
