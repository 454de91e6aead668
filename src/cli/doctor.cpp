// cajal doctor: what cajal finds on this machine.
#include "engine/doctor.h"

#include <iomanip>
#include <sstream>

#include "cli/commands.h"
#include "cli/model_path.h"

namespace cajal::cli {
namespace {

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

Json cuda_json(const CudaReport& c) {
  Json::Array devices;
  for (const CudaReport::Device& d : c.devices)
    devices.emplace_back(Json::Object{
        {"name", d.name}, {"capability", d.capability}, {"memory_bytes", d.memory_bytes}, {"kernels", d.kernels}});
  return Json::Object{{"built", c.built},
                      {"architectures", c.architectures},
                      {"runtime", c.runtime},
                      {"driver", c.driver},
                      {"devices", std::move(devices)}};
}

Json nodes_json(const std::vector<NumaNode>& nodes) {
  Json::Array list;
  for (const NumaNode& node : nodes)
    list.emplace_back(Json::Object{{"node", node.id}, {"cores", to_cpu_list(node.cores)}});
  return list;
}

Json as_json(const DoctorReport& r, const std::string& cache) {
  return Json::Object{
      {"version", r.version},
      {"compiler", r.compiler},
      {"build_type", r.build_type},
      {"system", r.system},
      {"cpu", Json::Object{{"model", r.cpu_model},
                           {"cores_present", r.cores_present},
                           {"cores_available", r.cores_available},
                           {"numa_nodes", nodes_json(r.numa_nodes)},
                           {"isa_found", r.isa_found},
                           {"isa_used", r.isa_used}}},
      {"memory", Json::Object{{"total_bytes", r.memory_total_bytes},
                              {"available_bytes", r.memory_available_bytes},
                              {"transparent_huge_pages", r.transparent_huge_pages},
                              {"huge_pages_total", r.huge_pages_total},
                              {"huge_page_bytes", r.huge_page_bytes}}},
      {"cgroup", Json::Object{{"cpus", or_null(r.cgroup_cpus)},
                              {"memory_limit_bytes", or_null(r.cgroup_memory_limit_bytes)},
                              {"memory_used_bytes", or_null(r.cgroup_memory_used_bytes)}}},
      {"cuda", cuda_json(r.cuda)},
      {"device", r.device},
      {"device_reason", r.device_reason},
      {"hub_cache", cache},
  };
}

std::string nodes_text(const std::vector<NumaNode>& nodes) {
  if (nodes.size() < 2) return "1: ranks are bound to no cores";
  std::string text = detail::join(nodes.size(), ": ");
  for (const NumaNode& node : nodes)
    text += detail::join(text.back() == ' ' ? "" : "; ", "node ", node.id, " has cores ", to_cpu_list(node.cores));
  return text + "; ranks are bound to nodes";
}

std::string gib(std::uint64_t bytes) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(1) << static_cast<double>(bytes) / (1u << 30) << " GiB";
  return out.str();
}

std::string unknown_if_empty(const std::string& text) { return text.empty() ? "unknown" : text; }

std::string limits(const DoctorReport& r) {
  std::string text;
  if (r.cgroup_cpus) text += detail::join("CPU time of ", *r.cgroup_cpus, " cores");
  if (r.cgroup_memory_limit_bytes)
    text += detail::join(text.empty() ? "" : ", ", "memory of ", gib(*r.cgroup_memory_limit_bytes), ", ",
                         gib(r.cgroup_memory_used_bytes.value_or(0)), " used");
  return text.empty() ? "none" : text;
}

std::string cuda_text(const CudaReport& c) {
  if (!c.built) return "not in this build (CUDA=1 puts it in)";
  return detail::join("runtime ", c.runtime, " linked in, no libraries loaded; kernels for ", c.architectures, "; ",
                      c.driver.empty() ? "no driver" : detail::join("driver for CUDA ", c.driver));
}

std::string as_text(const DoctorReport& r, const std::string& cache) {
  std::ostringstream out;
  const auto line = [&](const char* name, const auto&... parts) {
    out << std::left << std::setw(15) << name;
    ((out << parts), ...);
    out << '\n';
  };
  line("cajal", r.version, ", built by ", r.compiler, ", ", r.build_type);
  line("system", unknown_if_empty(r.system));
  line("processor", unknown_if_empty(r.cpu_model));
  line("cores", r.cores_available, " available of ", r.cores_present);
  line("NUMA nodes", nodes_text(r.numa_nodes));
  line("instructions", unknown_if_empty(r.isa_found));
  line("kernels for", r.isa_used, " and below");
  line("memory", gib(r.memory_available_bytes), " available of ", gib(r.memory_total_bytes));
  line("huge pages", "transparent: ", unknown_if_empty(r.transparent_huge_pages), "; reserved: ", r.huge_pages_total);
  line("cgroup limits", limits(r));
  line("CUDA", cuda_text(r.cuda));
  for (const CudaReport::Device& d : r.cuda.devices)
    line("", d.name, ", ", gib(d.memory_bytes), ", compute capability ", d.capability, ", kernels: ", d.kernels);
  line("device", r.device, ": ", r.device_reason);
  line("hub cache", cache);
  return out.str();
}

}  // namespace

void run_doctor(CommandContext& context) {
  const DoctorReport report = doctor();
  const std::string cache = hub_cache_folder(context.environment);
  context.out.write(context.options.json ? to_json(as_json(report, cache), 2) + "\n" : as_text(report, cache));
}

}  // namespace cajal::cli
