#include "engine/demo_model.h"

#include <dlfcn.h>
#include <link.h>

#include <filesystem>

#include "base/file.h"

namespace cajal {
namespace {

namespace fs = std::filesystem;

// The file that holds this very function: libcajal.so, or a program that it is linked into. Empty if nobody knows.
fs::path file_of_this_code() {
  Dl_info info{};
  link_map* map = nullptr;
  std::error_code failed;
  const bool known = dladdr1(reinterpret_cast<const void*>(&file_of_this_code), &info,  //
                             reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP) != 0;
  // The program itself has no name here, and what it calls itself need not be its path.
  const bool is_program = !known || !map || !map->l_name || !*map->l_name;
  const fs::path file = is_program ? fs::read_symlink("/proc/self/exe", failed) : fs::canonical(map->l_name, failed);
  return failed ? fs::path() : file;
}

}  // namespace

std::string find_demo_model(const std::map<std::string, std::string>& environment) {
  const auto is_model = [](const fs::path& folder) { return file_exists((folder / "config.json").string()); };
  if (const auto named = environment.find("CAJAL_DEMO_MODEL"); named != environment.end() && !named->second.empty())
    return is_model(named->second) ? named->second : std::string();
  // PREFIX/bin, PREFIX/lib, PREFIX/lib/x86_64-linux-gnu; CLONE/build/release.
  fs::path above = file_of_this_code().parent_path();
  for (int level = 0; level < 3 && above.has_relative_path(); ++level, above = above.parent_path())
    for (const char* place : {"share/cajal/demo-model", "share/demo-model"})
      if (fs::path folder = above.parent_path() / place; is_model(folder)) return folder.string();
  return {};
}

}  // namespace cajal
