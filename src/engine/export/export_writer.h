#pragma once
// The folder that an export is written to.
#include <string>
#include <string_view>
#include <vector>

#include "compiler/manifest.h"

namespace cajal {

class ExportWriter {
 public:
  // Makes a folder beside `output`. Error(invalid_argument) if `output` is there and not empty.
  explicit ExportWriter(std::string output);
  ~ExportWriter();  // removes it, unless finish() was called
  ExportWriter(const ExportWriter&) = delete;
  ExportWriter& operator=(const ExportWriter&) = delete;

  std::string path(const std::string& name) const { return temporary_ + "/" + name; }
  // Error(unavailable) if the disk has no room for so much more.
  void need_room(std::uint64_t bytes) const;
  void write(const std::string& name, std::string_view text);  // a file that the manifest names
  // A file of the source's folder, if it is there, under the same name; the manifest does not name it.
  void copy_if_there(const std::string& from_folder, const std::string& name) const;
  const std::vector<ExportedFile>& files() const { return files_; }
  // The folder under its own name.
  void finish();

 private:
  std::string output_, temporary_;
  std::vector<ExportedFile> files_;
};

}  // namespace cajal
