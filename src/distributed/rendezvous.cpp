#include "distributed/rendezvous.h"

#include <unistd.h>

#include <charconv>
#include <cstdint>
#include <limits>
#include <vector>

#include "base/error.h"

namespace cajal {
namespace {

constexpr int kDefaultPort = 29500;  // torch.distributed's

// Variables that say the same thing for different launchers.
struct Names {
  Launcher launcher;
  const char* rank;
  const char* size;
  const char* local_rank;
  const char* local_size;
};
// From the innermost: whoever stands earlier may have been started by whoever stands later.
constexpr Names kNames[] = {
    {Launcher::open_mpi, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE"},
    {Launcher::pmi, "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
    {Launcher::torchrun, "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"},
    {Launcher::leader_worker_set, "LWS_WORKER_INDEX", "LWS_GROUP_SIZE", nullptr, nullptr},
    {Launcher::slurm, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", nullptr},
    {Launcher::slurm, "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", nullptr},
};

class Reader {
 public:
  explicit Reader(const Environment& environment) : environment_(environment) {}

  const std::string* find(const char* name) const {
    const auto found = name == nullptr ? environment_.end() : environment_.find(name);
    return found == environment_.end() || found->second.empty() ? nullptr : &found->second;
  }
  bool is(const char* name, std::string_view value) const { return find(name) != nullptr && *find(name) == value; }

  std::optional<int> number(const char* name, int least, int most = std::numeric_limits<int>::max()) const {
    const std::string* text = find(name);
    if (text == nullptr) return std::nullopt;
    int value = 0;
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
    if (error != std::errc() || end != text->data() + text->size() || value < least || value > most)
      fail(ErrorCode::invalid_argument, "environment: ", name, " is '", *text, "', expected a whole number from ",
           least, most == std::numeric_limits<int>::max() ? "" : detail::join(" to ", most), launched_by_itself(name));
    return value;
  }
  static Remedy launched_by_itself(const char* name) {
    return remedy("unset ", name, " if this process is meant to run by itself");
  }

 private:
  const Environment& environment_;
};

struct Candidate {
  const Names* names;
  int rank, size;
};

std::optional<Candidate> read_candidate(const Reader& env, const Names& names) {
  const bool has_rank = env.find(names.rank) != nullptr, has_size = env.find(names.size) != nullptr;
  if (!has_rank && !has_size) return std::nullopt;
  // Slurm tells the size of an allocation to every process in it, and everything of a rank to the script itself.
  if (names.launcher == Launcher::slurm) {
    if (!has_rank || (env.is("ENVIRONMENT", "BATCH") && env.find("SLURM_STEP_ID") == nullptr)) return std::nullopt;
    if (!has_size && std::string_view(names.size) != "SLURM_NTASKS") return std::nullopt;
  }
  const char* missing = !has_rank ? names.rank : !has_size ? names.size : nullptr;
  if (missing != nullptr) {
    const char* there = has_rank ? names.rank : names.size;
    fail(ErrorCode::invalid_argument, "environment: ", there, " is ", *env.find(there), ", but ", missing,
         " is not set", remedy("set ", missing, ", or unset ", there, " if this process is meant to run by itself"));
  }
  const int size = *env.number(names.size, 1), rank = *env.number(names.rank, 0);
  if (rank >= size)
    fail(ErrorCode::invalid_argument, "environment: ", names.rank, " is ", rank, ", but ", names.size, " is ", size,
         remedy("ranks count from 0 to ", size - 1));
  return Candidate{&names, rank, size};
}

// The one that counts, after those that must agree with it do.
std::optional<Candidate> choose(const Reader& env) {
  // torchrun starts its processes itself, whoever started it on each machine.
  if (env.find("TORCHELASTIC_RUN_ID") != nullptr) return read_candidate(env, kNames[2]);
  std::optional<Candidate> chosen;
  for (const Names& names : kNames) {
    if (chosen && names.launcher == Launcher::slurm) break;
    const auto other = read_candidate(env, names);
    if (!other) continue;
    if (!chosen) {
      chosen = other;
    } else if (chosen->rank != other->rank || chosen->size != other->size) {
      fail(ErrorCode::invalid_argument, "environment: ", chosen->names->rank, " and ", chosen->names->size,
           " say rank ", chosen->rank, " of ", chosen->size, ", ", other->names->rank, " and ", other->names->size,
           " say rank ", other->rank, " of ", other->size, remedy("unset those that are left over from elsewhere"));
    }
  }
  return chosen;
}

void read_address(const Reader& env, const Candidate& chosen, Rendezvous& r) {
  if (const auto* address = env.find("MASTER_ADDR")) {
    r.leader_address = *address;
    return;
  }
  const auto local_size = env.number(chosen.names->local_size, 1);
  if (const auto* job = env.find("PMIX_NAMESPACE"); job != nullptr && local_size && *local_size == r.world_size) {
    r.job = *job;
  } else if (const auto* leader = env.find("LWS_LEADER_ADDRESS")) {
    r.leader_address = *leader;
  } else if (r.launcher == Launcher::slurm || r.launcher == Launcher::pmi) {
    for (const char* name : {"SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"})
      if (const auto* nodes = env.find(name); nodes != nullptr && r.leader_address.empty())
        r.leader_address = first_host(*nodes);
    const bool one_node = env.is("SLURM_STEP_NUM_NODES", "1") || env.is("SLURM_NNODES", "1");
    if (one_node && !r.leader_address.empty()) r.leader_address = "127.0.0.1";
  }
}

void read_port(const Reader& env, Rendezvous& r) {
  if (const auto port = env.number("MASTER_PORT", 1, 65534)) {
    // Where torchrun's agent itself listens at its port, the next one is ours.
    r.port = env.is("TORCHELASTIC_USE_AGENT_STORE", "True") ? *port + 1 : *port;
  } else if (r.launcher == Launcher::slurm && env.find("SLURM_JOB_ID") != nullptr) {
    const int job = *env.number("SLURM_JOB_ID", 0);
    const int step = env.number("SLURM_STEP_ID", 0).value_or(0);
    r.port = 16384 + static_cast<int>((std::int64_t{job} * 16 + step) % 16384);  // jobs that share a machine differ
  } else {
    r.port = kDefaultPort;
  }
}

[[noreturn]] void fail_without(const char* missing, const Candidate& chosen) {
  fail(ErrorCode::invalid_argument, "environment: ", chosen.names->rank, " is ", chosen.rank, " of ",
       chosen.names->size, " ", chosen.size, ", but ", missing, " is not set, and nothing else says where rank 0 is",
       remedy("set MASTER_ADDR to the host of rank 0, and MASTER_PORT to a port that is free there"));
}

}  // namespace

Environment process_environment() {
  Environment result;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    if (const auto equals = text.find('='); equals != std::string_view::npos)
      result.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return result;
}

std::string_view name_of(Launcher launcher) {
  switch (launcher) {
    case Launcher::open_mpi: return "Open MPI";
    case Launcher::torchrun: return "torchrun";
    case Launcher::pmi: return "PMI";
    case Launcher::slurm: return "Slurm";
    case Launcher::leader_worker_set: return "LeaderWorkerSet";
  }
  return "?";
}

std::optional<Rendezvous> find_rendezvous(const Environment& environment) {
  const Reader env(environment);
  const auto chosen = choose(env);
  if (!chosen) return std::nullopt;
  Rendezvous r;
  r.launcher = chosen->names->launcher;
  r.rank = chosen->rank;
  r.world_size = chosen->size;
  r.local_rank = env.number(chosen->names->local_rank, 0).value_or(-1);
  const auto local_size = env.number(chosen->names->local_size, 1);
  if (local_size && r.local_rank >= *local_size)
    fail(ErrorCode::invalid_argument, "environment: ", chosen->names->local_rank, " is ", r.local_rank, ", but ",
         chosen->names->local_size, " is ", *local_size);
  if (r.world_size == 1) return r;
  read_address(env, *chosen, r);
  read_port(env, r);
  // Open MPI's own library can tell where rank 0 is; for anybody else it must be said.
  if (r.leader_address.empty() && r.job.empty() && r.launcher != Launcher::open_mpi)
    fail_without(r.launcher == Launcher::leader_worker_set ? "LWS_LEADER_ADDRESS"
                 : r.launcher == Launcher::slurm           ? "SLURM_JOB_NODELIST"
                                                           : "MASTER_ADDR",
                 *chosen);
  if (r.launcher == Launcher::torchrun && env.find("MASTER_PORT") == nullptr) fail_without("MASTER_PORT", *chosen);
  return r;
}

std::string first_host(std::string_view nodelist) {
  const auto bracket = nodelist.find('['), comma = nodelist.find(',');
  if (bracket == std::string_view::npos || comma < bracket) return std::string(nodelist.substr(0, comma));
  const auto close = nodelist.find(']', bracket);
  const auto inside = nodelist.substr(bracket + 1, close == std::string_view::npos ? close : close - bracket - 1);
  std::string host(nodelist.substr(0, bracket));
  host += inside.substr(0, inside.find_first_of(",-"));
  if (close == std::string_view::npos) return host;
  // Whatever follows the brackets, a second pair included, up to the next host.
  const auto rest = nodelist.substr(close + 1);
  return rest.empty() || rest.front() == ',' ? host : host + first_host(rest);
}

}  // namespace cajal
