#pragma once
// Ranks as processes of a test: forked, watched, killed by number, and waited for with a limit.
#include <sys/types.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "distributed/join.h"
#include "distributed/rank_process.h"

namespace cajal::test {

class ForkedRanks {
 public:
  struct Ended {
    int exit_code = 0;   // of a signal: 128 + its number
    std::string output;  // stdout and stderr
  };

  // Runs `body(rank)` in a process each; what it throws is printed and makes exit code 1.
  ForkedRanks(int size, const std::function<void(int)>& body);
  ~ForkedRanks();  // kills whoever is left
  ForkedRanks(const ForkedRanks&) = delete;
  ForkedRanks& operator=(const ForkedRanks&) = delete;

  void signal(int rank, int number) const;
  Ended wait_for(int rank, std::chrono::milliseconds limit = std::chrono::seconds(100));
  // By rank. Whoever has not ended by then is killed, and says so in its output.
  std::vector<Ended> wait(std::chrono::milliseconds limit = std::chrono::seconds(100));

 private:
  std::vector<pid_t> processes_;
  std::vector<int> outputs_;
};

// Ranks that meet under a name that no other job has, with times that let a test end soon.
std::string new_job();
Rendezvous rendezvous_at(const std::string& job, int rank, int size);
JoinOptions quick_options(const std::string& transport = "auto");

}  // namespace cajal::test
