// A rank that mpirun or a script starts, to see whether its group obeys every law: rank_program [SECONDS [VICTIM SIGNAL]].
// For SECONDS it goes on with collectives; rank VICTIM gets the signal half a second after the start.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "base/error.h"
#include "distributed/communicator_laws.h"
#include "distributed/rank_process.h"

namespace {

using Clock = std::chrono::steady_clock;

void go_on(cajal::Communicator& world, Clock::duration time, int victim, int signal) {
  std::vector<float> x(4096, 1.0F);
  const auto start = Clock::now();
  for (bool ends = false; !ends;) {
    if (victim == world.rank() && Clock::now() - start > std::chrono::milliseconds(500)) std::raise(signal);
    world.all_reduce(x);
    ends = Clock::now() - start > time;
    world.broadcast(std::as_writable_bytes(std::span(&ends, 1)), 0);
  }
}

void run(int argc, char** argv) {
  const auto environment = cajal::process_environment();
  const auto rendezvous = cajal::find_rendezvous(environment);
  if (!rendezvous) cajal::fail(cajal::ErrorCode::invalid_argument, "this process was launched by itself");
  const auto process = cajal::RankProcess::join(*rendezvous, cajal::join_options(environment));
  const auto world = process->take_world();
  const auto broken = cajal::test::first_broken_law(*world, 5);
  if (!broken.empty()) cajal::fail(cajal::ErrorCode::unavailable, broken);
  if (argc > 1)
    go_on(*world, std::chrono::seconds(std::atoi(argv[1])), argc > 3 ? std::atoi(argv[2]) : -1,
          argc > 3 ? std::atoi(argv[3]) : 0);
  std::printf("rank %d of %d (%d of %d here) obeys every law over %s\n", process->rank(), process->size(),
              process->local_rank(), process->local_size(), process->transport().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc, argv);
    return 0;
  } catch (const cajal::Error& e) {
    std::fprintf(stderr, "rank_program: error: %s\n", e.what());
    return 1;
  }
}
