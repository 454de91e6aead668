#pragma once
// How ranks find each other at the start: rank 0 listens, the others connect and say who they are, and when all are there
// and agree, rank 0 tells everybody who they all are. Whoever is missing, speaks for another's rank or has another model is
// named, on every rank, and nobody starts.
#include <chrono>
#include <string>
#include <vector>

#include "distributed/messages.h"
#include "distributed/rendezvous.h"
#include "distributed/shared_region.h"
#include "distributed/socket.h"

namespace cajal {

struct JoinOptions {
  Facts facts;  // what must be the same on all ranks: refused with both values where it is not
  std::chrono::milliseconds start_timeout{60'000};  // until all ranks must be there
  // Which way data goes: "shared" memory, "tcp", "mpi", or "auto": shared memory where all ranks are on one machine, else
  // MPI where mpirun launched them, else TCP.
  std::string transport = "auto";

  // Once all are there.
  std::chrono::milliseconds heartbeat{500};
  std::chrono::milliseconds stall_timeout{4'000};  // a rank of which nothing is heard for so long has stalled
  std::chrono::milliseconds exit_grace{500};  // from a rank's failure to the end of this process, if it has not ended
  bool end_process = true;  // with exit code 1, after a failure or when whoever launched this process is gone
};

struct Joined {
  std::vector<Socket> controls;  // by rank: of rank 0 to all others, of others to rank 0
  Welcome welcome;
  Socket data_listener;                  // where "tcp" expects connections of higher ranks
  std::shared_ptr<SharedRegion> region;  // of all ranks where the transport is "shared", else of this process alone
};

// Where rank 0 listens, as the variables say it.
Endpoint endpoint_of(const Rendezvous& rendezvous);
// Blocks until all ranks are there. `listener`: rank 0's, where it had to listen before the others knew where.
Joined join_ranks(const Rendezvous& rendezvous, const JoinOptions& options, const Endpoint& leader,
                  Socket listener = {});

// Ranks with the same text see each other's memory: one machine, one user, one view of its processes and networks.
std::string host_identity();
// Of the program or library that holds this function, as the linker noted it; "unknown" where it did not.
std::string build_id();

}  // namespace cajal
