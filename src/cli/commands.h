#pragma once
// The subcommands: one row a command, one file a command.
#include <cstdint>
#include <iosfwd>
#include <span>
#include <string_view>

#include "cli/options.h"
#include "cli/streams.h"

namespace cajal {
class RankTeam;
}

namespace cajal::cli {

struct CommandContext {
  const Options& options;
  const Environment& environment;
  std::istream& in;
  Output& out;
  RankTeam* ranks = nullptr;  // that models run on; null: on one device
};

struct CommandInfo {
  std::string_view name;
  std::uint32_t bit;
  std::string_view usage;        // after the name
  std::string_view summary;      // one line
  std::string_view description;  // paragraphs of its help
  void (*run)(CommandContext&);  // null: not in this version
};

std::span<const CommandInfo> commands();
const CommandInfo* find_command(std::string_view name);
const CommandInfo& command_of(std::uint32_t bit);

void run_generate(CommandContext& context);
void run_chat(CommandContext& context);
void run_score(CommandContext& context);
void run_embed(CommandContext& context);
void run_serve(CommandContext& context);
void run_rerank(CommandContext& context);
void run_tokenize(CommandContext& context);
void run_detokenize(CommandContext& context);
void run_render(CommandContext& context);
void run_export(CommandContext& context);
void run_cache(CommandContext& context);
void run_pull(CommandContext& context);
void run_bench(CommandContext& context);
void run_bench_serve(CommandContext& context);
void run_inspect(CommandContext& context);
void run_doctor(CommandContext& context);

}  // namespace cajal::cli
