#include "cli/run.h"

#include <new>
#include <ostream>

#include "base/error.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/documentation.h"
#include "cli/flags.h"
#include "cli/help.h"
#include "cli/ranks.h"
#include "cli/usage_error.h"

namespace cajal::cli {
namespace {

[[noreturn]] void not_yet(const CommandInfo& command) {
  misuse("cajal ", command.name, " is not in this version of cajal yet", remedy("see 'cajal --help' for what is"));
}

const CommandInfo& command_named(const std::string& name) {
  if (const CommandInfo* command = find_command(name)) return *command;
  std::vector<std::string_view> names;
  for (const CommandInfo& command : commands()) names.push_back(command.name);
  const std::string_view near = nearest(name, names);
  misuse("'", name, "' is no command of cajal",
         near.empty() ? remedy("see 'cajal --help'") : remedy("did you mean 'cajal ", near, "'?"));
}

// How many of the first words name a command: "bench serve" is one by itself.
std::size_t words_of_command(std::span<const std::string> words) {
  return words.size() >= 2 && find_command(words[0] + " " + words[1]) ? 2 : 1;
}

void help(std::span<const std::string> topics, Output& out) {
  if (topics.empty()) return out.write(overview());
  // For packages, and so not in the overview.
  if (topics[0] == "--man" && topics.size() == 1) return out.write(man_page());
  if (topics[0] == "--completion" && topics.size() == 2) return out.write(completion(topics[1]));
  const std::size_t num_words = words_of_command(topics);
  if (topics.size() > num_words) misuse("help takes one command, not ", topics.size(), remedy("see 'cajal --help'"));
  const CommandInfo& command = command_named(num_words == 2 ? topics[0] + " " + topics[1] : topics[0]);
  if (!command.run) not_yet(command);
  out.write(help_of(command));
}

void run_command(const CommandInfo& command, CommandContext context) {
  set_log_level(context.options.common.log_level);
  set_log_json(context.options.common.log_json);
  for (const std::string& note : context.options.notes) log_warning(note);
  run_on_ranks(command, context);
}

void dispatch(std::span<const std::string> arguments, const Environment& environment, std::istream& in, Output& out) {
  if (arguments.empty()) misuse("no command is given", remedy("see 'cajal --help'"));
  const std::string& first = arguments[0];
  const std::span<const std::string> rest = arguments.subspan(1);
  if (first == "--version" || first == "-V" || first == "version") return out.write(version_line());
  if (first == "--help" || first == "-h" || first == "help")
    return help(first == "help" ? rest : rest.subspan(rest.size()), out);
  if (first.starts_with('-'))
    misuse(first, ": a command goes first, as in 'cajal generate ", first, "'", remedy("see 'cajal --help'"));
  const std::size_t num_words = words_of_command(arguments);
  const CommandInfo& command = command_named(num_words == 2 ? first + " " + arguments[1] : first);
  const std::span<const std::string> flags = arguments.subspan(num_words);
  if (!command.run) not_yet(command);
  const Options options = read_options(command.name, flags, environment);
  if (options.help) return out.write(help_of(command));
  run_command(command, {options, environment, in, out});
}

// What to do, for errors that do not say it themselves.
std::string general_remedy(const Error& e, std::span<const std::string> arguments) {
  const bool known = !arguments.empty() && find_command(arguments[0]);
  if (dynamic_cast<const UsageError*>(&e))
    return detail::join("see 'cajal ", known ? arguments[0] + " " : "", "--help'");
  switch (e.code()) {
    case ErrorCode::invalid_argument: return "correct it and try again";
    case ErrorCode::not_found: return "check the path and what the folder holds";
    case ErrorCode::unsupported: return "this version of cajal cannot do it; use another model or leave it out";
    case ErrorCode::out_of_memory: return "lower --max-model-len, or free some memory";
    case ErrorCode::data_loss: return "check the data; copy or download it again if it is damaged";
    case ErrorCode::unavailable: return "check permissions and free space, then try again";
  }
  return "";
}

// One line, whatever a message quotes from files and flags.
std::string one_line(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return text;
}

int exit_code(const Error& e) { return dynamic_cast<const UsageError*>(&e) ? kMisused : kFailed; }

int report(std::ostream& err, const Error& e, std::span<const std::string> arguments) {
  const std::string remedy = e.remedy().empty() ? general_remedy(e, arguments) : e.remedy();
  err << "cajal: error: " << one_line(e.message()) << " — " << one_line(remedy) << '\n' << std::flush;
  return exit_code(e);
}

}  // namespace

int run(std::span<const std::string> arguments, const Environment& environment, std::istream& in, std::ostream& out,
        std::ostream& err) {
  Output output(out);
  try {
    dispatch(arguments, environment, in, output);
    return kDone;
  } catch (const ClosedPipe&) {
    return kDone;
  } catch (const Interrupted&) {
    return kInterruptedByUser;
  } catch (const Error& e) {
    if (is_other_rank(environment)) return exit_code(e);
    return report(err, e, arguments);
  } catch (const std::bad_alloc&) {
    return report(err, Error(ErrorCode::out_of_memory, "there is not enough memory"), arguments);
  } catch (const std::exception& e) {
    return report(err, Error(ErrorCode::unavailable, e.what()), arguments);
  }
}

}  // namespace cajal::cli
