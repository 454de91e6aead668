#include "engine/doctor.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <string_view>

#include "backends/backend.h"
#include "backends/cpu/isa.h"
#include "base/error.h"
#include "base/thread_pool.h"

namespace cajal {
namespace {

// Files of /proc and /sys say they are empty, so they are read to their end.
std::string read_text(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_of("0123456789"), text.size()));
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} ? std::optional(value) : std::nullopt;
}

// What follows "key" and a colon in a file of lines such as "MemTotal:  16 kB".
std::string_view field(std::string_view text, std::string_view key) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    at = end + 1;
    const std::size_t colon = line.find(':');
    if (!line.starts_with(key) || colon == std::string_view::npos) continue;
    const std::string_view name = line.substr(0, line.find_last_not_of(" \t", colon - 1) + 1);
    if (name != key) continue;
    const std::string_view value = line.substr(colon + 1);
    return value.substr(std::min(value.find_first_not_of(" \t"), value.size()));
  }
  return {};
}

std::uint64_t kib_field(std::string_view text, std::string_view key) {
  return parse_number(field(text, key)).value_or(0) * 1024;
}

std::string system_name() {
  utsname name{};
  if (uname(&name) != 0) return {};
  return detail::join(name.sysname, " ", name.release, " ", name.machine);
}

// The word in brackets of "always [madvise] never".
std::string chosen_word(std::string_view text) {
  const std::size_t open = text.find('['), close = text.find(']');
  return open == std::string_view::npos || close < open ? "" : std::string(text.substr(open + 1, close - open - 1));
}

void read_memory(DoctorReport& report) {
  const std::string memory = read_text("/proc/meminfo");
  report.memory_total_bytes = kib_field(memory, "MemTotal");
  report.memory_available_bytes = kib_field(memory, "MemAvailable");
  report.huge_pages_total = parse_number(field(memory, "HugePages_Total")).value_or(0);
  report.huge_page_bytes = kib_field(memory, "Hugepagesize");
  report.transparent_huge_pages = chosen_word(read_text("/sys/kernel/mm/transparent_hugepage/enabled"));
}

// The folder of this process's group, in version 2 of control groups; the root if it cannot be seen from inside a container.
std::string cgroup_folder() {
  std::string root = "/sys/fs/cgroup";
  const std::string groups = read_text("/proc/self/cgroup");
  if (groups.starts_with("0::")) {
    std::string folder = root + groups.substr(3, groups.find('\n') - 3);
    if (std::ifstream(folder + "/cgroup.controllers")) return folder;
  }
  return root;
}

void read_limits(DoctorReport& report) {
  const std::string folder = cgroup_folder();
  const std::string quota = read_text(folder + "/cpu.max");  // "200000 100000" or "max 100000"
  const auto micros = quota.starts_with("max") ? std::nullopt : parse_number(quota);
  const auto period = parse_number(std::string_view(quota).substr(std::min(quota.find(' '), quota.size())));
  if (micros && period && *period > 0) report.cgroup_cpus = static_cast<double>(*micros) / static_cast<double>(*period);
  report.cgroup_memory_limit_bytes = parse_number(read_text(folder + "/memory.max"));
  if (report.cgroup_memory_limit_bytes)
    report.cgroup_memory_used_bytes = parse_number(read_text(folder + "/memory.current"));
}

// Those of the processor's flags that kernels could use.
std::string instruction_sets(std::string_view flags) {
  constexpr std::string_view kKnown[] = {"avx",         "avx2",        "fma",      "f16c",     "avx_vnni",
                                         "avx512f",     "avx512bw",    "avx512vl", "avx512dq", "avx512_vnni",
                                         "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8"};
  const std::string padded = detail::join(' ', flags.substr(0, flags.find('\n')), ' ');
  std::string found;
  for (const std::string_view name : kKnown)
    if (padded.find(detail::join(' ', name, ' ')) != std::string::npos)
      found += (found.empty() ? "" : " ") + std::string(name);
  return found;
}

std::string compiler_name() {
#if defined(__clang__)
  return "clang " __clang_version__;
#elif defined(__GNUC__)
  return "GCC " __VERSION__;
#else
  return "unknown";
#endif
}

}  // namespace

DoctorReport doctor() {
  DoctorReport report;
  report.version = CAJAL_VERSION;
  report.compiler = compiler_name();
#if defined(NDEBUG)
  report.build_type = "release";
#else
  report.build_type = "with assertions";
#endif
  report.system = system_name();
  const std::string cpu = read_text("/proc/cpuinfo");
  report.cpu_model = std::string(field(cpu, "model name"));
  report.cores_present = static_cast<int>(sysconf(_SC_NPROCESSORS_CONF));
  report.cores_available = available_cores();
  report.numa_nodes = usable_nodes();
  report.isa_found = instruction_sets(field(cpu, "flags"));
  report.isa_used = cpu::isa_name(cpu::detect_isa());
  read_memory(report);
  read_limits(report);
  report.cuda = cuda_report();
  const std::string no_cuda = why_no_cuda();
  report.device = no_cuda.empty() ? "cuda" : "cpu";
  report.device_reason = no_cuda.empty() ? make_backend("cuda")->description() : no_cuda;
  return report;
}

}  // namespace cajal
