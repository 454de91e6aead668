#include "cli/documentation.h"

#include <cstdio>
#include <vector>

#include "base/error.h"
#include "base/utf8.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/usage_error.h"

namespace cajal::cli {
namespace {

std::vector<const CommandInfo*> present_commands() {
  std::vector<const CommandInfo*> present;
  for (const CommandInfo& command : commands())
    if (command.run) present.push_back(&command);
  return present;
}

bool is_shown(const Flag& flag, const CommandInfo& command) { return (flag.commands & command.bit) != 0; }
// Flags that every command shares stand once in the manual.
bool is_common(const Flag& flag) { return flag.group == Group::engine || flag.group == Group::general; }

bool shown_anywhere(const Flag& flag) {
  for (const CommandInfo* command : present_commands())
    if (is_shown(flag, *command)) return true;
  return false;
}

std::string option(const Flag& flag) { return "--" + std::string(flag.name); }

enum class Completes { nothing, file, folder };
Completes completes(const Flag& flag) {
  if (flag.value == "FILE") return Completes::file;
  if (flag.value == "DIR" || flag.value == "MODEL") return Completes::folder;
  return Completes::nothing;
}

bool takes_model(const CommandInfo& command) { return command.usage.find("MODEL") != std::string_view::npos; }

// --- the manual page ---

// Text as roff has it: characters beyond ASCII by number, and nothing that could be taken for a request.
std::string roff(std::string_view text) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const auto character = decode_utf8(text, at);
    if (character.length > 1) {
      char escape[16];
      std::snprintf(escape, sizeof escape, "\\[u%04X]", static_cast<unsigned>(character.code_point));
      result += escape;
    } else if (text[at] == '\\') {
      result += "\\e";
    } else if (text[at] == '-') {
      result += "\\-";
    } else {
      if ((text[at] == '.' || text[at] == '\'') && (at == 0 || text[at - 1] == '\n')) result += "\\&";
      result += text[at];
    }
    at += character.length;
  }
  return result;
}

std::string entry(const Flag& flag) {
  std::string head;
  if (!flag.short_name.empty()) head += "\\fB" + roff(flag.short_name) + "\\fR, ";
  head += "\\fB" + roff(option(flag)) + "\\fR";
  if (!flag.is_switch()) head += " \\fI" + roff(flag.value) + "\\fR";
  return ".TP\n" + head + "\n" + roff(flag.help) + "\n";
}

std::string section_of(const CommandInfo& command) {
  std::string text = detail::join(".SS cajal ", command.name, "\n\\fBcajal ", command.name, "\\fR ",
                                  roff(command.usage), "\n.PP\n", roff(command.description), "\n");
  for (const Flag& flag : flags())
    if (is_shown(flag, command) && !is_common(flag)) text += entry(flag);
  return text;
}

std::string common_flags() {
  std::string text;
  for (const Flag& flag : flags()) {
    if (!is_common(flag) || !shown_anywhere(flag)) continue;
    text += entry(flag);
    std::string some;
    bool all = true;
    for (const CommandInfo* command : present_commands()) {
      if (is_shown(flag, *command)) some += (some.empty() ? "" : ", ") + std::string(command->name);
      all = all && is_shown(flag, *command);
    }
    if (!all) text += "Of: " + some + ".\n";
  }
  return text;
}

// --- completion ---

// In single quotes for a shell that has no escapes inside of them.
std::string quoted(std::string_view text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

std::string words_of(const CommandInfo& command) {
  std::string words;
  for (const Flag& flag : flags())
    if (is_shown(flag, command)) words += (words.empty() ? "" : " ") + option(flag);
  return words;
}

std::string command_words() {
  std::string words;
  for (const CommandInfo* command : present_commands()) words += std::string(command->name) + " ";
  return words + "help --help --version";
}

// The options that take a value of some kind, as a pattern of bash's case.
std::string pattern(Completes kind) {
  std::string result;
  for (const Flag& flag : flags()) {
    if (flag.is_switch() || completes(flag) != kind || !shown_anywhere(flag)) continue;
    result += (result.empty() ? "" : "|") + option(flag);
    if (!flag.short_name.empty()) result += "|" + std::string(flag.short_name);
  }
  return result;
}

std::string bash_completion() {
  std::string words, models;
  for (const CommandInfo* command : present_commands()) {
    words += detail::join("    ", quoted(command->name), ") words='", words_of(*command), "' ;;\n");
    if (takes_model(*command)) models += (models.empty() ? "" : "|") + quoted(command->name);
  }
  return detail::join(R"(# bash completion of cajal.
_cajal() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]} words=
  if [ "$command" = bench ] && [ "$COMP_CWORD" -gt 2 ] && [ "${COMP_WORDS[2]}" = serve ]; then command='bench serve'; fi
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    mapfile -t COMPREPLY < <(compgen -W ')",
                      command_words(), R"(' -- "$current")
    return
  fi
  case $previous in
    )",
                      pattern(Completes::file), R"() mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
    )",
                      pattern(Completes::folder), R"() mapfile -t COMPREPLY < <(compgen -d -- "$current"); return ;;
    )",
                      pattern(Completes::nothing), R"() return ;;
  esac
  case $command in
)",
                      words, "    help) words='", command_words(), R"(' ;;
  esac
  if [ "$command" = help ] || [[ $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  else
    case $command in
      )",
                      models, R"() mapfile -t COMPREPLY < <(compgen -d -- "$current") ;;
    esac
  fi
}
complete -o filenames -F _cajal cajal
)");
}

// What _arguments takes: brackets and colons have a meaning there.
std::string zsh_text(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') result += '\\';
    result += c;
  }
  return result;
}

std::string zsh_argument(const Flag& flag) {
  std::string text = (flag.repeatable ? "*" : "") + option(flag) + "[" + zsh_text(flag.help) + "]";
  if (!flag.is_switch()) {
    const Completes kind = completes(flag);
    text += ":" + zsh_text(flag.value) + ":" +
            (kind == Completes::file     ? "_files"
             : kind == Completes::folder ? "_files -/"
                                         : " ");
  }
  return quoted(text);
}

std::string zsh_completion() {
  std::string names, cases;
  for (const CommandInfo* command : present_commands()) {
    names += "    " + quoted(detail::join(command->name, ":", command->summary)) + "\n";
    cases += detail::join("    ", quoted(command->name), ") _arguments");
    for (const Flag& flag : flags())
      if (is_shown(flag, *command)) cases += " \\\n      " + zsh_argument(flag);
    if (takes_model(*command)) cases += " \\\n      '::MODEL:_files -/'";
    cases += " ;;\n";
  }
  return detail::join(
      "#compdef cajal\n# zsh completion of cajal.\n_cajal() {\n  local -a commands=(\n", names,
      "    'help:Show the flags of a command.'\n  )\n"
      "  if (( CURRENT == 2 )); then\n    _describe command commands\n    return\n  fi\n"
      "  shift words\n  (( CURRENT-- ))\n"
      "  [[ $words[1] = bench && $words[2] = serve ]] && { shift words; (( CURRENT-- )); words[1]='bench serve' }\n"
      "  case $words[1] in\n",
      cases, "    help) _describe command commands ;;\n  esac\n}\n_cajal \"$@\"\n");
}

std::string fish_text(std::string_view text) {
  std::string result = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') result += '\\';
    result += c;
  }
  return result + "'";
}

std::string fish_completion() {
  std::string text = "# fish completion of cajal.\ncomplete -c cajal -f\n";
  for (const CommandInfo* command : present_commands()) {
    const std::string name(command->name);
    const std::size_t space = name.find(' ');
    const std::string first = name.substr(0, space);
    std::string seen = "__fish_seen_subcommand_from " + first;
    if (space == std::string::npos)
      text += detail::join("complete -c cajal -n __fish_use_subcommand -a ", name, " -d ", fish_text(command->summary),
                           "\n");
    else
      seen += "; and __fish_seen_subcommand_from " + name.substr(space + 1);
    const std::string in = detail::join("complete -c cajal -n '", seen, "'");
    if (takes_model(*command)) text += in + " -a '(__fish_complete_directories)'\n";
    for (const Flag& flag : flags()) {
      if (!is_shown(flag, *command)) continue;
      text += detail::join(in, " -l ", flag.name);
      if (!flag.is_switch()) text += completes(flag) == Completes::nothing ? " -x" : " -r -F";
      text += " -d " + fish_text(flag.help) + "\n";
    }
  }
  return text + "complete -c cajal -n __fish_use_subcommand -a help -d 'Show the flags of a command.'\n";
}

}  // namespace

std::string man_page() {
  std::string text =
      ".TH CAJAL 1 \"\" \"cajal " CAJAL_VERSION
      "\" \"User Commands\"\n"
      ".SH NAME\ncajal \\- run Qwen3 and Qwen3\\-MoE language models\n"
      ".SH SYNOPSIS\n\\fBcajal\\fR \\fICOMMAND\\fR [\\fIMODEL\\fR] [\\fIflags\\fR]\n.br\n"
      "\\fBcajal help\\fR [\\fICOMMAND\\fR]\n.br\n\\fBcajal \\-\\-version\\fR\n"
      ".SH DESCRIPTION\n\\fIMODEL\\fR is a folder as Hugging Face has it, or a name such as Qwen/Qwen3\\-0.6B that is "
      "in "
      "the Hugging Face cache on this machine. Results go to standard output, everything else to standard error.\n"
      ".SH COMMANDS\n";
  for (const CommandInfo* command : present_commands()) text += section_of(*command);
  text += ".SH COMMON FLAGS\n" + common_flags();
  text +=
      ".PP\nIn the names of flags \\- and _ are alike.\n"
      ".SH ENVIRONMENT\nEvery flag is also a variable: \\fB\\-\\-top\\-p\\fR is \\fBCAJAL_TOP_P\\fR. The command line "
      "wins "
      "over the environment, that over the file of \\fB\\-\\-config\\fR, and that over the model's "
      "generation_config.json.\n"
      ".TP\n\\fBCAJAL_CPU_ISA\\fR\nThe highest instruction set that kernels may use.\n"
      ".TP\n\\fBCAJAL_HEAD_SKETCH\\fR\noff: all logits are computed for every token, and no memory is taken for a "
      "sketch of the head.\n"
      ".TP\n\\fBHF_HUB_CACHE\\fR, \\fBHF_HOME\\fR, \\fBXDG_CACHE_HOME\\fR\nWhere the Hugging Face cache lies.\n"
      ".SH EXIT STATUS\n.TP\n0\nDone.\n.TP\n1\nFailed: bad data, a missing file, not enough memory.\n"
      ".TP\n2\nMisused: a flag or a command that makes no sense.\n.TP\n130\nInterrupted.\n"
      ".SH EXAMPLES\n.nf\ncajal generate Qwen/Qwen3\\-0.6B \\-\\-prompt \"Once upon a time\"\n"
      "cajal score Qwen/Qwen3\\-0.6B \\-\\-prompt\\-file story.txt\ncajal tokenize Qwen/Qwen3\\-0.6B < "
      "story.txt\n.fi\n";
  return text;
}

std::string completion(std::string_view shell) {
  if (shell == "bash") return bash_completion();
  if (shell == "zsh") return zsh_completion();
  if (shell == "fish") return fish_completion();
  misuse("help --completion is '", shell, "', expected bash, zsh or fish");
}

}  // namespace cajal::cli
