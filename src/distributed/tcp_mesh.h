#pragma once
// A connection between every two ranks, for data.
#include <memory>
#include <vector>

#include "distributed/exchange.h"
#include "distributed/join.h"

namespace cajal {

// Connects to every lower rank and waits for every higher one, until the deadline; whoever does not come, or what the region
// tells of meanwhile, is named in an Error(unavailable). Connections that cannot show the job's token are turned away.
std::shared_ptr<Carrier> make_tcp_mesh(int rank, const Welcome& welcome, const Socket& listener,
                                       std::shared_ptr<SharedRegion> region, Deadline deadline);

}  // namespace cajal
