#include "base/cpu_quota.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace cajal {
namespace {

// A file system's root with what the kernel would show there.
class CpuQuota : public testing::Test {
 protected:
  CpuQuota() {
    std::string pattern = (std::filesystem::temp_directory_path() / "cajal-quota-XXXXXX").string();
    root_ = mkdtemp(pattern.data());
  }
  ~CpuQuota() override { std::filesystem::remove_all(root_); }

  void write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  std::string root_;
};

constexpr const char* kVersion2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

TEST_F(CpuQuota, WithoutCgroupsOrQuotasThereIsNoLimit) {
  EXPECT_EQ(cpu_quota(root_), std::nullopt);
  write("/proc/self/mountinfo", kVersion2);
  write("/proc/self/cgroup", "0::/user.slice\n");
  write("/sys/fs/cgroup/user.slice/cpu.max", "max 100000\n");
  EXPECT_EQ(cpu_quota(root_), std::nullopt);
}

TEST_F(CpuQuota, TheLeastOfAGroupAndThoseAroundItHolds) {
  write("/proc/self/mountinfo", kVersion2);
  write("/proc/self/cgroup", "0::/system.slice/cajal.service\n");
  write("/sys/fs/cgroup/system.slice/cajal.service/cpu.max", "350000 100000\n");
  EXPECT_EQ(cpu_quota(root_), 3.5);
  write("/sys/fs/cgroup/system.slice/cpu.max", "30000 20000\n");
  EXPECT_EQ(cpu_quota(root_), 1.5);
  write("/sys/fs/cgroup/cpu.max", "400000 100000\n");
  EXPECT_EQ(cpu_quota(root_), 1.5);
}

TEST_F(CpuQuota, AContainersOwnGroupLiesAtTheMountPoint) {
  // With the host's name of it, as Docker mounts version 1 ...
  write("/proc/self/mountinfo",
        "41 40 0:37 /docker/0a1b /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
        "42 40 0:38 /docker/0a1b /sys/fs/cgroup/cpu,cpuacct ro,nosuid master:19 - cgroup cgroup rw,cpu,cpuacct\n");
  write("/proc/self/cgroup", "5:memory:/docker/0a1b\n4:cpu,cpuacct:/docker/0a1b\n0::/docker/0a1b\n");
  write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cpu_quota(root_), std::nullopt);
  write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "250000\n");
  EXPECT_EQ(cpu_quota(root_), 2.5);
  // ... or with none that can be reached from there.
  write("/proc/self/cgroup", "4:cpu,cpuacct:/../../elsewhere\n");
  EXPECT_EQ(cpu_quota(root_), 2.5);
}

TEST_F(CpuQuota, ThisMachineHasAPositiveOneOrNone) { EXPECT_GT(cpu_quota().value_or(1), 0); }

}  // namespace
}  // namespace cajal
