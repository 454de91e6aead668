#pragma once
// What libcajal_mpi.so gives to the program, which itself knows no MPI: a table of C functions behind one name. Built where
// Open MPI's headers are, loaded where ranks need it.
#include <cstddef>
#include <cstdint>

extern "C" {

struct CajalMpiPiece {
  int rank;
  const void* out;
  std::size_t out_bytes;
  void* in;
  std::size_t in_bytes;
};

// All return 0, or leave a text that explain() gives. One thread at a time.
struct CajalMpi {
  int (*start)(int* rank, int* size);
  int (*broadcast_from_0)(void* data, std::size_t bytes);  // blocks; for the start
  // Posts the pieces' sends and receives; then done() says with 1 that all are through, with 0 that they are not yet, with
  // -1 that something failed. Only one exchange at a time.
  int (*post)(const CajalMpiPiece* pieces, std::size_t n, int tag);
  int (*done)();
  int (*stop)();
  const char* (*explain)();
};

using CajalMpiEntry = const CajalMpi* (*)();  // of cajal_mpi_1
}
