#pragma once
// The flags of every subcommand, in one table: what reads the command line, the environment and configuration files,
// suggests names and prints help all look here.
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/options.h"

namespace cajal::cli {

enum Subcommand : std::uint32_t {
  kGenerate = 1u << 0,
  kChat = 1u << 1,
  kScore = 1u << 2,
  kEmbed = 1u << 3,
  kTokenize = 1u << 4,
  kDetokenize = 1u << 5,
  kRender = 1u << 6,
  kExport = 1u << 7,
  kServe = 1u << 8,
  kBench = 1u << 9,
  kInspect = 1u << 10,
  kDoctor = 1u << 11,
  kPull = 1u << 12,
  kCache = 1u << 13,
  kRerank = 1u << 14,
  kBenchServe = 1u << 15,
};
inline constexpr std::uint32_t kModelCommands =
    kGenerate | kChat | kScore | kEmbed | kRerank | kExport | kServe | kBench | kInspect;
inline constexpr std::uint32_t kEveryCommand = (1u << 16) - 1;

// One value of a flag and where it stood: "--top-p", "CAJAL_TOP_P", "run.yaml: top_p".
struct Given {
  std::string text;
  std::string label;
};

enum class Group { prompt, texts, chat, sampling, speculation, load, output, exports, bench, serving, engine, general };

// Of the flags of one set at most one may be given.
enum class OneOf {
  none,
  prompt,
  text_prompt,
  thinking,
  drafter,
  prefix_caching,
  output_form,
  on_device_sampling,
  output_logits,
  structure
};

struct Flag {
  std::string_view name;        // "max-new-tokens"
  std::string_view short_name;  // "-tp", or empty
  std::string_view value;       // what help calls the value; empty: a switch
  std::uint32_t commands;       // whose help shows it
  Group group;
  std::string_view help;
  void (*set)(Options&, const Given&);  // null: only commands of later versions have it
  OneOf one_of = OneOf::none;
  bool repeatable = false;
  bool several = false;  // further values may follow the first, as in --goodput ttft:100 tpot:50; repeatable, too

  bool is_switch() const { return value.empty(); }
  bool accepted_by(std::uint32_t command) const;
};

std::span<const Flag> flags();

// "--Max_New" and "max-new" are one name: dashes in front are dropped, "_" becomes "-".
std::string normalized_name(std::string_view name);
const Flag* find_flag(std::string_view normalized, std::uint32_t command);  // one that `command` accepts, or null
const Flag* find_short_flag(std::string_view name, std::uint32_t command);
std::string environment_name(const Flag& flag);  // "CAJAL_MAX_NEW_TOKENS"

// Refuses a name that `command` does not know, and says whose it is or which one is near. `spelled` is how the user
// wrote it.
[[noreturn]] void refuse_unknown_flag(std::string_view spelled, std::uint32_t command);
// The nearest of `names`, or "" if even that takes more than `at_most` slips.
std::string_view nearest(std::string_view name, std::span<const std::string_view> names, std::size_t at_most = 3);

}  // namespace cajal::cli
