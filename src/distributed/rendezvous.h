#pragma once
// Which rank of how many this process is, and where it meets the others: told by whoever launched it, in environment
// variables. Open MPI's mpirun, Slurm's srun, torchrun (or anybody who sets RANK and WORLD_SIZE), PMI and Kubernetes'
// LeaderWorkerSet are understood.
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace cajal {

using Environment = std::map<std::string, std::string, std::less<>>;
Environment process_environment();

enum class Launcher { open_mpi, torchrun, pmi, slurm, leader_worker_set };
std::string_view name_of(Launcher launcher);

struct Rendezvous {
  Launcher launcher = Launcher::torchrun;
  int rank = 0;
  int world_size = 1;
  int local_rank = -1;  // among the ranks of this machine; -1 where the launcher does not say
  // Where rank 0 listens. Without an address all ranks are on one machine and meet under the name of their job.
  std::string leader_address;
  int port = 0;
  std::string job;
};

// Nothing where this process was launched by itself. Error(invalid_argument) names the variables that are missing or
// contradict each other, with what they are. The innermost launcher counts: mpirun or torchrun inside an allocation of Slurm.
std::optional<Rendezvous> find_rendezvous(const Environment& environment);

// The first host of a list as Slurm writes it: "gpu[07-09,12],login" -> "gpu07".
std::string first_host(std::string_view nodelist);

}  // namespace cajal
