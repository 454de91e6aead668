#include "cli/ranks.h"

#include <chrono>
#include <csignal>
#include <filesystem>

#include "base/checksum.h"
#include "base/error.h"
#include "base/log.h"
#include "cli/flags.h"
#include "cli/model_path.h"
#include "distributed/rendezvous.h"
#include "engine/export/export_folder.h"
#include "engine/ranks/model_fingerprint.h"
#include "engine/ranks/rank_team.h"

namespace cajal::cli {
namespace {

constexpr std::uint32_t kRunModels = kGenerate | kChat | kScore | kEmbed | kRerank | kBench | kServe;

// Degrees, device and target. An export says them itself; of a model that is not there the command says so.
RankTeamOptions team_options(const CommonFlags& flags, const std::string& folder) {
  RankTeamOptions options;
  options.device = flags.device;
  options.backend.num_threads = flags.threads.value_or(0);
  options.degrees = agreed_degrees(folder, flags.tensor_parallel_size, flags.expert_parallel_size);
  if (is_export(folder)) options.backend.target = read_manifest(folder).target;
  return options;
}

cajal::Environment variables(const Environment& environment) { return {environment.begin(), environment.end()}; }

// Those that were launched, if their number is more than one.
std::optional<Rendezvous> launched_ranks(const Environment& environment, const ParallelDegrees& degrees) {
  std::optional<Rendezvous> found = find_rendezvous(variables(environment));
  if (!found || found->world_size == 1) return std::nullopt;
  // Inside an allocation of several tasks a program may well run by itself.
  if (degrees.world() == 1 && found->launcher == Launcher::slurm) return std::nullopt;
  if (found->world_size != degrees.world())
    fail(ErrorCode::invalid_argument, name_of(found->launcher), " launched ", found->world_size,
         " ranks, and --tensor-parallel-size ", degrees.tensor, " x --expert-parallel-size ", degrees.expert, " are ",
         degrees.world(), remedy("launch as many ranks as the two make, or change them"));
  return found;
}

// How long rank 0 of a server has to tell its clients that a rank is lost.
constexpr auto kServersLastWords = std::chrono::seconds(4);

std::unique_ptr<RankProcess> join(const Rendezvous& rendezvous, const CommandContext& context,
                                  const ParallelDegrees& degrees, const std::string& folder, bool serves) {
  JoinOptions options = join_options(variables(context.environment));
  if (serves && rendezvous.rank == 0) options.exit_grace = kServersLastWords;
  options.facts.emplace_back("tensor-parallel-size", std::to_string(degrees.tensor));
  options.facts.emplace_back("expert-parallel-size", std::to_string(degrees.expert));
  options.facts.emplace_back("model", detail::join(std::filesystem::path(folder).filename().string(), " of checksum ",
                                                   checksum_text(model_fingerprint(folder))));
  return RankProcess::join(rendezvous, options);
}

// A server's ranks hear of its end from rank 0, which drains it first; who launched them signals all of them at once.
void leave_signals_to_rank_0() {
  std::signal(SIGTERM, SIG_IGN);
  std::signal(SIGINT, SIG_IGN);
}

}  // namespace

bool is_other_rank(const Environment& environment) {
  try {
    const auto found = find_rendezvous(variables(environment));
    return found && found->rank > 0;
  } catch (const Error&) {
    return false;
  }
}

void run_on_ranks(const CommandInfo& command, CommandContext& context) {
  const CommonFlags& flags = context.options.common;
  const bool serves = command.bit == kServe;
  if ((command.bit & kRunModels) == 0 || (serves && context.options.serve.print_config)) return command.run(context);
  const std::string folder = resolve_model(flags.model, context.environment, flags.download);
  const RankTeamOptions options = team_options(flags, folder);
  const auto rendezvous = launched_ranks(context.environment, options.degrees);
  if (options.degrees.world() == 1) return command.run(context);
  if (rendezvous && rendezvous->rank > 0) set_log_level(LogLevel::error);
  check_rank_device(options.device, options.backend.target);
  std::unique_ptr<RankProcess> process;
  if (rendezvous) process = join(*rendezvous, context, options.degrees, folder, serves);
  if (process && process->rank() > 0) {
    if (serves) leave_signals_to_rank_0();
    return follow_rank_0(options, std::move(process));
  }
  const auto team =
      process ? std::make_unique<RankTeam>(options, std::move(process)) : std::make_unique<RankTeam>(options);
  context.ranks = team.get();
  const BoundToCores bound(team->cores());
  command.run(context);
}

}  // namespace cajal::cli
