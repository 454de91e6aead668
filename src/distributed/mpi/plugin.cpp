#include "distributed/mpi/plugin.h"

#include <mpi.h>

#include <algorithm>
#include <vector>

namespace {

constexpr std::size_t kMostAtOnce = std::size_t{1} << 30;  // a count is an int

// Our own, so that nobody else's messages meet ours.
MPI_Comm comm = MPI_COMM_NULL;
std::vector<MPI_Request> requests;
char explanation[MPI_MAX_ERROR_STRING] = "";

int check(int code) {
  if (code == MPI_SUCCESS) return 0;
  int length = 0;
  MPI_Error_string(code, explanation, &length);
  return 1;
}

int start(int* rank, int* size) {
  int level = 0;
  if (check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &level)) != 0) return 1;
  if (check(MPI_Comm_dup(MPI_COMM_WORLD, &comm)) != 0) return 1;
  MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
  if (level < MPI_THREAD_SERIALIZED) {
    std::copy_n("MPI allows calls from its main thread only", 43, explanation);
    return 1;
  }
  return check(MPI_Comm_rank(comm, rank)) != 0 ? 1 : check(MPI_Comm_size(comm, size));
}

int broadcast_from_0(void* data, std::size_t bytes) {
  return check(MPI_Bcast(data, static_cast<int>(bytes), MPI_BYTE, 0, comm));
}

int post(const CajalMpiPiece* pieces, std::size_t n, int tag) {
  requests.clear();
  for (std::size_t i = 0; i < n; ++i) {
    const CajalMpiPiece& p = pieces[i];
    for (std::size_t at = 0; at < p.in_bytes; at += kMostAtOnce)
      if (check(MPI_Irecv(static_cast<char*>(p.in) + at, static_cast<int>(std::min(kMostAtOnce, p.in_bytes - at)),
                          MPI_BYTE, p.rank, tag, comm, &requests.emplace_back())) != 0)
        return 1;
  }
  for (std::size_t i = 0; i < n; ++i) {
    const CajalMpiPiece& p = pieces[i];
    for (std::size_t at = 0; at < p.out_bytes; at += kMostAtOnce)
      if (check(MPI_Isend(static_cast<const char*>(p.out) + at,
                          static_cast<int>(std::min(kMostAtOnce, p.out_bytes - at)), MPI_BYTE, p.rank, tag, comm,
                          &requests.emplace_back())) != 0)
        return 1;
  }
  return 0;
}

int done() {
  int flag = 0;
  if (check(MPI_Testall(static_cast<int>(requests.size()), requests.data(), &flag, MPI_STATUSES_IGNORE)) != 0)
    return -1;
  return flag;
}

int stop() {
  MPI_Comm_free(&comm);
  return check(MPI_Finalize());
}

const char* explain() { return explanation; }

}  // namespace

extern "C" __attribute__((visibility("default"))) const CajalMpi* cajal_mpi_1() {
  static constexpr CajalMpi kTable = {start, broadcast_from_0, post, done, stop, explain};
  return &kTable;
}
