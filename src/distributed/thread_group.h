#pragma once
// Ranks as threads of one process.
#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "distributed/communicator.h"

namespace cajal {

struct ThreadGroupOptions {
  // How long a rank waits for another that has not come: then the other is named. 0: for ever, as ranks that wait for work must.
  std::chrono::milliseconds timeout{0};
  int cores = 0;  // that the ranks may use; 0: this process's
};

// The r-th communicator is rank r's; each goes to one thread. One that is destroyed while others wait for its rank ends their
// calls with Error(unavailable), as abandon() does, which can say why.
std::vector<std::unique_ptr<Communicator>> make_thread_group(int size, const ThreadGroupOptions& options = {});

// Runs `body` once a rank, each in a thread of its own, and returns when all have ended. What one throws, the others hear of
// in their next call; the first that was thrown is thrown here, with the rank's number before it.
void run_thread_group(int size, const std::function<void(Communicator&)>& body, const ThreadGroupOptions& options = {});

}  // namespace cajal
