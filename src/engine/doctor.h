#pragma once
// What this machine offers and what cajal makes of it: the facts of a bug report.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "backends/cuda_report.h"
#include "engine/ranks/placement.h"

namespace cajal {

struct DoctorReport {
  std::string version, compiler, build_type;
  std::string system;  // "Linux 6.1.0 x86_64"
  std::string cpu_model;
  int cores_present = 0, cores_available = 0;  // in the machine; for this process
  std::vector<NumaNode> numa_nodes;            // of which this process may use cores: ranks are bound to them
  std::optional<double> cgroup_cpus;           // a quota, in cores
  std::string isa_found;                       // "avx avx2 fma": what the processor says of itself
  std::string isa_used;                        // "avx512_bf16": the highest that kernels use, after CAJAL_CPU_ISA
  std::uint64_t memory_total_bytes = 0, memory_available_bytes = 0;
  std::optional<std::uint64_t> cgroup_memory_limit_bytes, cgroup_memory_used_bytes;
  std::string transparent_huge_pages;  // "always", "madvise", "never", or "" where there are none
  std::uint64_t huge_pages_total = 0, huge_page_bytes = 0;
  CudaReport cuda;
  std::string device, device_reason;  // "cpu", and why it
};

// Reads what the system says of itself; what it does not say stays empty. Throws Error only if CAJAL_CPU_ISA is wrong.
DoctorReport doctor();

}  // namespace cajal
