#pragma once
// What the hub says of a repository, and where the cache keeps it.
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "hub/http_client.h"
#include "hub/hub_settings.h"

namespace cajal {

struct Repository {
  std::string commit;
  std::vector<std::string> files;  // paths with '/', checked to stay inside a folder
};

struct RemoteFile {
  std::string path;
  std::string url;
  std::string etag;  // a checksum: 64 digits of SHA-256, 40 of Git's SHA-1; of other servers anything
  std::uint64_t size = 0;
};

// Error(not_found) for a repository, revision or file that is not there or not for this token, Error(unavailable) for a hub
// that does not answer as one.
Repository ask_repository(HttpClient& http, const HubSettings& hub, const std::string& name,
                          const std::string& revision);
RemoteFile ask_file(HttpClient& http, const HubSettings& hub, const std::string& name, const std::string& commit,
                    const std::string& path);

// Repeats what fails with Error(unavailable) up to four times, after longer and longer waits.
void with_retries(const std::function<void()>& body);

}  // namespace cajal
