#pragma once
// A folder of a test's own, gone when the test is over.
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"

namespace cajal {

class Folder {
 public:
  Folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "cajal-export-XXXXXX").string();
    CAJAL_CHECK(::mkdtemp(pattern.data()));
    path_ = pattern;
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) names.push_back(entry.path().filename());
    return names;
  }

 private:
  std::string path_;
};

}  // namespace cajal
