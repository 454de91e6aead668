#pragma once
// Messages between ranks through Open MPI, whose library is loaded where it is needed. Its calls never block here: a rank
// that waits asks again and again, and hears in between who died.
#include <memory>
#include <string>

#include "distributed/exchange.h"
#include "distributed/mpi/plugin.h"

namespace cajal {

class MpiLibrary {
 public:
  // Finds and loads libcajal_mpi.so: at CAJAL_MPI_PLUGIN, beside this program or library, in ../lib from there, or where the
  // system looks. Error(not_found) says where it was looked for, and what there is instead.
  MpiLibrary();
  MpiLibrary(const MpiLibrary&) = delete;
  MpiLibrary& operator=(const MpiLibrary&) = delete;

  // Starts MPI. Error(unavailable) where it does not start, or sees another place for this rank than `rank` of `size`.
  void start(int rank, int size);
  // Rank 0's text, on all ranks.
  std::string broadcast_from_0(const std::string& text);
  void stop();  // all ranks together; never after a failure
  const CajalMpi& functions() const { return *functions_; }
  [[noreturn]] void fail_with(const char* doing) const;

 private:
  const CajalMpi* functions_ = nullptr;
};

std::shared_ptr<Carrier> make_mpi_carrier(std::shared_ptr<MpiLibrary> library, std::shared_ptr<SharedRegion> region);

}  // namespace cajal
