#pragma once
// What every communicator owes, whatever carries it: threads, processes, MPI. Runs in each rank and needs no test framework.
#include <string>

#include "distributed/communicator.h"

namespace cajal::test {

// The first law that is broken, with the numbers; empty where none is. Every rank of the group calls it with the same seed.
std::string first_broken_law(Communicator& group, unsigned seed);

}  // namespace cajal::test
