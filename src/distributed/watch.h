#pragma once
// Whether the other ranks live. A thread in every process sends heartbeats: of rank 0 to all, of the others to rank 0. Who
// closes its connection without a farewell has died, of whom nothing is heard has stalled; rank 0 tells all others, and the
// region that the ranks wait in fails, so that whoever waits throws. A process that does not end then by itself is ended.
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "distributed/join.h"

namespace cajal {

class Watch {
 public:
  // `controls` by rank, as join_ranks leaves them.
  Watch(std::vector<Socket> controls, std::shared_ptr<SharedRegion> region, const JoinOptions& options);
  // Says farewell, or why not, and no longer watches.
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  struct Line {
    Socket socket;
    FrameReader reader;
    std::string unsent;
    Clock::time_point heard;
    bool left = false;  // said farewell
  };

  void run();
  void wait() const;
  void forgive_own_absence();
  void read(int rank);
  void look_for_stalls();
  void send_heartbeats();
  void tell_of_failure();
  void end_where_due();
  void failed(int rank, const std::string& why);
  void send(Line& line, std::string_view bytes);

  const JoinOptions options_;
  const std::chrono::milliseconds tick_;
  std::vector<Line> lines_;
  std::shared_ptr<SharedRegion> region_;
  Clock::time_point now_, last_beat_, failed_at_;
  bool told_ = false;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace cajal
