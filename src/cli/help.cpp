#include "cli/help.h"

#include <algorithm>

#include "base/error.h"
#include "base/utf8.h"
#include "cli/flags.h"

namespace cajal::cli {
namespace {

constexpr std::size_t kWidth = 80;
constexpr std::size_t kColumn = 28;  // where descriptions begin

std::size_t columns(std::string_view text) {
  std::size_t count = 0;
  for (std::size_t at = 0; at < text.size(); at += decode_utf8(text, at).length) ++count;
  return count;
}

std::string entry(std::string head, std::string_view help) {
  head = "  " + head;
  const std::size_t used = columns(head);
  head += used + 2 > kColumn ? "\n" + std::string(kColumn, ' ') : std::string(kColumn - used, ' ');
  return head + wrapped(help, kWidth, kColumn, kColumn) + "\n";
}

std::string heading(Group group) {
  switch (group) {
    case Group::prompt: return "Prompt (one of them)";
    case Group::texts: return "Texts";
    case Group::chat: return "Chat";
    case Group::speculation: return "Speculation (changes the time that an answer takes, and nothing else)";
    case Group::sampling: return "Generation (what is not given comes from generation_config.json)";
    case Group::load: return "What is asked of the server";
    case Group::output: return "Output";
    case Group::exports: return "What it is made for";
    case Group::bench: return "What to measure (lists as in 128,512)";
    case Group::serving: return "Serving";
    case Group::engine: return "Model and machine";
    case Group::general: return "General";
  }
  return {};
}

std::string flag_entry(const Flag& flag) {
  std::string head = flag.short_name.empty() ? "--" : std::string(flag.short_name) + ", --";
  head += flag.name;
  if (!flag.is_switch()) head += " " + std::string(flag.value);
  return entry(std::move(head), flag.help);
}

std::string paragraph(std::string_view text) { return "\n" + wrapped(text, kWidth, 0, 0) + "\n"; }

constexpr std::string_view kFlagNotes =
    "In the names of flags - and _ are alike. Every flag is also an environment variable (--top-p is CAJAL_TOP_P) and "
    "a "
    "key of the file of --config; the command line wins over the environment, that over the file, and that over the "
    "model's generation_config.json.";

}  // namespace

std::string wrapped(std::string_view text, std::size_t width, std::size_t indent, std::size_t first) {
  std::string result;
  std::size_t used = first;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    const std::string_view word = text.substr(at, end - at);
    if (!result.empty() && used + 1 + columns(word) > width) {
      result += "\n" + std::string(indent, ' ');
      used = indent;
    } else if (!result.empty()) {
      result += ' ';
      ++used;
    }
    result += word;
    used += columns(word);
    at = end + 1;
  }
  return result;
}

std::string version_line() { return "cajal " CAJAL_VERSION "\n"; }

std::string overview() {
  std::string text =
      "cajal runs Qwen3 and Qwen3-MoE language models.\n\nUsage: cajal COMMAND [MODEL] [flags]\n\nCommands:\n";
  for (const CommandInfo& command : commands())
    if (command.run) text += entry(std::string(command.name), command.summary);
  text += paragraph(
      "MODEL is a folder as Hugging Face has it, or a name such as Qwen/Qwen3-0.6B that is in the Hugging Face cache "
      "on this machine. Without it the small demo model is taken, where cajal finds one.");
  text += paragraph("'cajal COMMAND --help' shows the flags of a command, 'cajal --version' the version.");
  std::string later;
  for (const CommandInfo& command : commands())
    if (!command.run) later += (later.empty() ? "" : ", ") + std::string(command.name);
  return later.empty() ? text : text + paragraph("Not in this version yet: " + later + ".");
}

std::string help_of(const CommandInfo& command) {
  const std::string head = detail::join("Usage: cajal ", command.name, " ");
  std::string text =
      head + wrapped(command.usage, kWidth, head.size(), head.size()) + "\n" + paragraph(command.description);
  for (const Group group :
       {Group::prompt, Group::texts, Group::chat, Group::sampling, Group::speculation, Group::load, Group::output,
        Group::exports, Group::bench, Group::serving, Group::engine, Group::general}) {
    std::string section;
    for (const Flag& flag : flags())
      if (flag.group == group && (flag.commands & command.bit)) section += flag_entry(flag);
    if (!section.empty()) text += "\n" + heading(group) + ":\n" + section;
  }
  return text + paragraph(kFlagNotes);
}

}  // namespace cajal::cli
