#include "base/error.h"
#include "cli/commands.h"
namespace cajal::cli {
void run_generate(CommandContext&) { fail(ErrorCode::unsupported, "stub"); }
void run_score(CommandContext&) { fail(ErrorCode::unsupported, "stub"); }
void run_bench(CommandContext&) { fail(ErrorCode::unsupported, "stub"); }
void run_inspect(CommandContext&) { fail(ErrorCode::unsupported, "stub"); }
}  // namespace cajal::cli
