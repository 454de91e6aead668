#pragma once
// How much time on cores the system grants this process: what containers and services are limited by.
#include <optional>
#include <string>

namespace cajal {

// Cores' worth of time that the process may use, the least of what its cgroup and those around it are allowed, of both
// versions of cgroups; may be a fraction. Nothing where there is no limit or nothing says so. Other roots than "" are for
// tests: what lies under it is read as if it were the whole file system.
std::optional<double> cpu_quota(const std::string& root = "");

}  // namespace cajal
