#include "base/cpu_quota.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string_view>
#include <vector>

namespace cajal {
namespace {

struct Mount {
  bool unified = false;     // version 2
  std::string root, point;  // which group of the hierarchy shows at the mount point, and where that is
};

bool lists(std::string_view words, std::string_view word) {
  for (std::size_t begin = 0; begin <= words.size();) {
    const std::size_t end = std::min(words.find(',', begin), words.size());
    if (words.substr(begin, end - begin) == word) return true;
    begin = end + 1;
  }
  return false;
}

// A line of mountinfo: number, parent, device, root, mount point, options, more of them up to a "-", then the type of the
// file system, its source and its own options, which are the controllers in version 1.
std::vector<Mount> cgroup_mounts(const std::string& root) {
  std::vector<Mount> mounts;
  std::ifstream file(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    Mount mount;
    std::string word, type, source, options;
    words >> word >> word >> word >> mount.root >> mount.point;
    while (words >> word && word != "-") {
    }
    words >> type >> source >> options;
    mount.unified = type == "cgroup2";
    if (mount.unified || (type == "cgroup" && lists(options, "cpu"))) mounts.push_back(mount);
  }
  return mounts;
}

// The process's group in the hierarchy of version 2, or in that of version 1 which has the controller of CPU time.
std::optional<std::string> group_of_process(const std::string& root, bool unified) {
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string_view controllers = std::string_view(line).substr(first + 1, second - first - 1);
    if (unified ? line.starts_with("0::") : lists(controllers, "cpu")) return line.substr(second + 1);
  }
  return std::nullopt;
}

// Of one group: in version 2 a file "quota period" with "max" for none, in version 1 two files with -1 for none.
std::optional<double> quota_of(const std::string& folder, bool unified) {
  double quota = -1, period = 0;
  if (unified) {
    std::ifstream(folder + "/cpu.max") >> quota >> period;  // "max" is no number and leaves both as they cannot be
  } else {
    std::ifstream(folder + "/cpu.cfs_quota_us") >> quota;
    std::ifstream(folder + "/cpu.cfs_period_us") >> period;
  }
  if (quota <= 0 || period <= 0) return std::nullopt;
  return quota / period;
}

}  // namespace

std::optional<double> cpu_quota(const std::string& root) {
  std::optional<double> least;
  for (const Mount& mount : cgroup_mounts(root)) {
    std::string group = group_of_process(root, mount.unified).value_or("");
    // A container sees its own group at the mount point, whatever the name that the host has for it.
    const std::string shown = mount.root == "/" ? "" : mount.root;
    group = group.starts_with(shown) && group.find("/..") == std::string::npos ? group.substr(shown.size()) : "";
    while (group.ends_with('/')) group.pop_back();
    for (;;) {
      const std::optional<double> quota = quota_of(root + mount.point + group, mount.unified);
      if (quota) least = std::min(least.value_or(*quota), *quota);
      if (group.empty()) break;
      group.resize(group.rfind('/') == std::string::npos ? 0 : group.rfind('/'));
    }
  }
  return least;
}

}  // namespace cajal
