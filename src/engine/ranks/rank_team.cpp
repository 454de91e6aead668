#include "engine/ranks/rank_team.h"

#include <span>

#include "backends/target.h"
#include "base/checksum.h"
#include "base/error.h"
#include "base/log.h"
#include "base/thread_pool.h"
#include "distributed/join.h"
#include "engine/export/export_folder.h"
#include "engine/ranks/rank_follower.h"

namespace cajal {
namespace {

// Its threads start here, and so are bound as the caller is.
std::unique_ptr<Backend> rank_backend(const RankTeamOptions& options, const RankPlacement& placement,
                                      const RankGroups& groups) {
  BackendOptions own = options.backend;
  own.num_threads = placement.num_threads;
  own.ranks = &groups;
  own.ranks_here = placement.ranks_here;
  return make_backend("cpu", own);
}

void follow(const RankTeamOptions& options, const RankPlacement& placement, RankGroups& groups) {
  const BoundToCores bound(placement.cores);
  const auto backend = rank_backend(options, placement, groups);
  RankFollower(*groups.world, *backend).run();
}

// Launchers bind ranks to cores or leave all of them to each. In the second case the machine's cores are shared out here.
RankPlacement placement_of(const RankTeamOptions& options, const RankProcess& process, Communicator& world) {
  const std::vector<int> allowed = allowed_cores();
  const RankHome own{checksum(host_identity()), checksum(to_cpu_list(allowed))};
  std::vector<RankHome> homes(static_cast<std::size_t>(world.size()));
  world.all_gather(std::as_bytes(std::span(&own, 1)), std::as_writable_bytes(std::span(homes)));
  const bool bound = bound_by_launcher(homes, own);
  if (bound && options.backend.num_threads == 0)
    return {.num_threads = available_cores(), .ranks_here = process.local_size()};
  const int threads = options.backend.num_threads > 0 ? options.backend.num_threads : available_cores();
  return place_rank(process.local_rank(), process.local_size(), threads,
                    bound ? usable_nodes({}, allowed) : usable_nodes());
}

}  // namespace

void check_rank_device(const std::string& device, const std::string& target) {
  std::string_view kind = device;
  if (device == "auto") kind = !target.empty() ? device_of_target(target) : why_no_cuda().empty() ? "cuda" : "cpu";
  if (kind != "cpu")
    fail(ErrorCode::unsupported, "device ", kind, ": a model runs on one GPU; several ranks are CPUs in this version",
         remedy("use --device cpu, or leave --tensor-parallel-size and --expert-parallel-size out"));
}

ParallelDegrees agreed_degrees(const std::string& folder, std::optional<int> tensor, std::optional<int> expert) {
  if (!is_export(folder)) return {tensor.value_or(1), expert.value_or(1)};
  const NeuronConfig exported = ExportFolder(folder).neuron_config();
  const auto agree = [&](const char* name, std::optional<int> wanted, std::int64_t made_for) {
    if (wanted && *wanted != made_for)
      fail(ErrorCode::invalid_argument, name, " is ", *wanted, ", and ", folder, " was exported for ", made_for,
           remedy("leave it out, or export the model again with it"));
    return static_cast<int>(made_for);
  };
  return {agree("tensor-parallel-size", tensor, exported.tp_degree),
          agree("expert-parallel-size", expert, exported.ep_degree)};
}

RankTeam::RankTeam(const RankTeamOptions& options) : degrees_(options.degrees) {
  check_rank_device(options.device, options.backend.target);
  groups_ = make_thread_rank_groups(degrees_);
  const auto nodes = usable_nodes();
  const int threads = options.backend.num_threads > 0 ? options.backend.num_threads : available_cores();
  try {
    start_threads(options, threads, nodes);
    lead(options, place_rank(0, degrees_.world(), threads, nodes));
  } catch (const std::exception& e) {
    groups_[0].world->abandon(detail::join("failed: ", e.what()));
    stop();
    throw;
  }
}

void RankTeam::start_threads(const RankTeamOptions& options, int num_threads, const std::vector<NumaNode>& nodes) {
  for (int r = 1; r < degrees_.world(); ++r)
    threads_.emplace_back([this, options, r, placement = place_rank(r, degrees_.world(), num_threads, nodes)] {
      const QuietThread quiet;  // rank 0 says it already
      RankGroups& groups = groups_[static_cast<std::size_t>(r)];
      try {
        follow(options, placement, groups);
      } catch (const std::exception& e) {
        groups.world->abandon(detail::join("failed: ", e.what()));
      }
    });
}

RankTeam::RankTeam(const RankTeamOptions& options, std::unique_ptr<RankProcess> process)
    : degrees_(options.degrees), process_(std::move(process)) {
  check_rank_device(options.device, options.backend.target);
  groups_.push_back(make_rank_groups(process_->take_world(), degrees_));
  lead(options, placement_of(options, *process_, *groups_[0].world));
}

void RankTeam::lead(const RankTeamOptions& options, const RankPlacement& placement) {
  const BoundToCores bound(placement.cores);
  cores_ = placement.cores;
  backend_ = rank_backend(options, placement, groups_[0]);
  leader_ = std::make_unique<RankLeader>(*groups_[0].world);
  const std::string where = to_string(placement);
  log_debug(description(), where.empty() ? "" : ", rank 0 on " + where);
}

std::string RankTeam::description() const {
  return detail::join(degrees_.world(), process_ ? " processes" : " threads", " as ranks, each ",
                      backend_->description());
}

RankTeam::~RankTeam() { stop(); }

void RankTeam::stop() noexcept {
  leader_.reset();
  for (auto& thread : threads_) thread.join();
}

void follow_rank_0(const RankTeamOptions& options, std::unique_ptr<RankProcess> process) {
  RankGroups groups = make_rank_groups(process->take_world(), options.degrees);
  try {
    follow(options, placement_of(options, *process, *groups.world), groups);
  } catch (const std::exception& e) {
    groups.world->abandon(detail::join("failed: ", e.what()));
    throw;
  }
}

}  // namespace cajal
