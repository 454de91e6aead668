#pragma once
// A download as its user sees it.
#include <string>

#include "cli/streams.h"
#include "hub/download.h"

namespace cajal::cli {

// On a terminal one line that keeps up; in a pipe nothing. Ctrl-C ends the download and keeps what has come.
class DownloadDisplay {
 public:
  explicit DownloadDisplay(std::string name);
  ~DownloadDisplay();
  DownloadDisplay(const DownloadDisplay&) = delete;
  DownloadDisplay& operator=(const DownloadDisplay&) = delete;
  void show(const DownloadProgress& progress) const;  // throws Interrupted

 private:
  DeferInterrupts defer_;
  std::string name_;
  bool terminal_;
};

}  // namespace cajal::cli
