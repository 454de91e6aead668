#pragma once
// The ranks that a command runs its model on: those of the flags or of an export, as threads, or as the processes that mpirun,
// srun or torchrun started.
#include "cli/commands.h"

namespace cajal::cli {

// Runs the command, with a team of ranks if there are to be several. In a process that is another rank than 0 that rank's
// whole life instead: it prints nothing.
void run_on_ranks(const CommandInfo& command, CommandContext& context);

// Whether somebody has launched this process as another rank than 0: rank 0 says what there is to say.
bool is_other_rank(const Environment& environment);

}  // namespace cajal::cli
