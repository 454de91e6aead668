#include "cli/options.h"

#include <algorithm>
#include <functional>

#include "base/file.h"
#include "cli/commands.h"
#include "cli/config_file.h"
#include "cli/flags.h"
#include "cli/usage_error.h"

namespace cajal::cli {
namespace {

// Where a flag was given: a smaller one wins.
enum class Source { command_line, environment, file, nowhere };

struct Setting {
  Source source = Source::nowhere;
  std::vector<Given> values;
};

class Reader {
 public:
  explicit Reader(const CommandInfo& command) : command_(command), settings_(flags().size()) {}

  void read_command_line(std::span<const std::string> arguments);
  void read_environment(const Environment& environment);
  void read_config_file();
  Options options();

 private:
  Setting& setting(const Flag& flag) { return settings_[static_cast<std::size_t>(&flag - flags().data())]; }
  void give(const Flag& flag, Source source, Given given);
  std::size_t read_flag(std::span<const std::string> arguments, std::size_t at);
  void read_positional(const std::string& argument);
  void read_config_entry(const std::string& key, const std::vector<std::string>& values, const std::string& where);
  void keep_one_of(OneOf set);
  bool is_flag(std::string_view argument) const;

  const CommandInfo& command_;
  std::vector<Setting> settings_;  // as flags()
  std::vector<std::string> notes_;
  std::string action_;  // of cache
};

// A source that comes later in the order of precedence adds nothing to what is there.
void Reader::give(const Flag& flag, Source source, Given given) {
  Setting& s = setting(flag);
  if (s.source < source) return;
  s.source = source;
  s.values.push_back(std::move(given));
}

bool Reader::is_flag(std::string_view argument) const {
  if (argument.starts_with("--"))
    return find_flag(normalized_name(argument.substr(0, argument.find('='))), command_.bit);
  return argument.starts_with("-") && find_short_flag(argument, command_.bit);
}

// Returns the position of the first argument that is not part of the flag.
std::size_t Reader::read_flag(std::span<const std::string> arguments, std::size_t at) {
  const std::string& argument = arguments[at];
  const std::size_t equals = argument.find('=');
  const std::string spelled = argument.substr(0, equals);
  const bool is_long = spelled.starts_with("--");
  const Flag* flag =
      is_long ? find_flag(normalized_name(spelled), command_.bit) : find_short_flag(spelled, command_.bit);
  if (!flag) refuse_unknown_flag(spelled, command_.bit);
  const std::string label = "--" + std::string(flag->name);
  if (equals != std::string::npos) {
    give(*flag, Source::command_line, {argument.substr(equals + 1), label});
    return at + 1;
  }
  if (flag->is_switch()) {
    give(*flag, Source::command_line, {"true", label});
    return at + 1;
  }
  if (at + 1 == arguments.size()) misuse(label, ": nothing follows, expected ", flag->value);
  if (is_flag(arguments[at + 1]))
    misuse(label, ": the flag ", arguments[at + 1], " follows, expected ", flag->value,
           remedy("write ", label, "=", arguments[at + 1], " if it is meant as the value"));
  give(*flag, Source::command_line, {arguments[at + 1], label});
  at += 2;
  for (; flag->several && at < arguments.size() && !arguments[at].starts_with('-'); ++at)
    give(*flag, Source::command_line, {arguments[at], label});
  return at;
}

void Reader::read_positional(const std::string& argument) {
  if (command_.bit == kCache && action_.empty()) {
    if (argument != "list" && argument != "clean") misuse("cajal cache ", argument, ": expected list or clean");
    action_ = argument;
    return;
  }
  const Flag* model = find_flag("model", command_.bit);
  const bool takes_model = command_.usage.find("MODEL") != std::string_view::npos;
  if (takes_model && argument.empty()) misuse("MODEL is empty, expected a folder or a name such as Qwen/Qwen3-0.6B");
  if (!takes_model || setting(*model).source == Source::command_line)
    misuse("unexpected argument '", argument, "'",
           takes_model ? remedy("only MODEL stands without a flag; put a text with spaces in quotes")
                       : remedy("cajal ", command_.name, " takes flags only"));
  give(*model, Source::command_line, {argument, "MODEL"});
}

void Reader::read_command_line(std::span<const std::string> arguments) {
  for (std::size_t at = 0; at < arguments.size();) {
    const std::string& argument = arguments[at];
    if (argument == "--") {
      for (++at; at < arguments.size(); ++at) read_positional(arguments[at]);
    } else if (argument.size() > 1 && argument.starts_with('-')) {
      at = read_flag(arguments, at);
    } else {
      read_positional(argument);
      ++at;
    }
  }
}

// Variables that are ours and no flags.
bool is_other_variable(std::string_view name) {
  return name == "CAJAL_CPU_ISA" || name == "CAJAL_HEAD_SKETCH" || name == "CAJAL_DEMO_MODEL" ||
         name == "CAJAL_CACHE_DIR";
}

void Reader::read_environment(const Environment& environment) {
  std::vector<std::string> names;
  for (const Flag& flag : flags()) {
    names.push_back(environment_name(flag));
    const auto found = environment.find(names.back());
    if (found == environment.end() || found->second.empty() || flag.name == "help") continue;
    if (flag.accepted_by(command_.bit)) give(flag, Source::environment, {found->second, names.back()});
  }
  const std::vector<std::string_view> known(names.begin(), names.end());
  for (auto it = environment.lower_bound("CAJAL_"); it != environment.end() && it->first.starts_with("CAJAL_"); ++it) {
    if (is_other_variable(it->first) || std::find(known.begin(), known.end(), it->first) != known.end()) continue;
    if (const std::string_view near = nearest(it->first, known, 2); !near.empty())
      notes_.push_back(
          detail::join("the environment variable ", it->first, " is no flag of cajal — did you mean ", near, "?"));
  }
}

void Reader::read_config_entry(const std::string& key, const std::vector<std::string>& values,
                               const std::string& where) {
  const std::string name = normalized_name(key);
  const Flag* flag = find_flag(name, command_.bit);
  if (name == "config" || name == "help") misuse(where, ": the key '", key, "' is for the command line only");
  if (!flag) {
    // One file may serve several commands.
    for (const Flag& other : flags())
      if (other.name == name) return;
    std::vector<std::string_view> names;
    for (const Flag& known : flags()) names.push_back(known.name);
    const std::string_view near = nearest(name, names, std::max<std::size_t>(3, name.size() / 2));
    misuse(where, ": no flag is called '", key, "'",
           near.empty() ? remedy("see 'cajal ", command_.name, " --help'") : remedy("did you mean ", near, "?"));
  }
  const std::string label = where + ": " + key;
  if (flag->repeatable) {
    for (const std::string& value : values) give(*flag, Source::file, {value, label});
  } else if (!values.empty()) {
    std::string joined = values[0];
    for (std::size_t i = 1; i < values.size(); ++i) joined += "," + values[i];
    give(*flag, Source::file, {joined, label});
  }
}

void Reader::read_config_file() {
  const Setting& config = setting(*find_flag("config", command_.bit));
  if (config.values.empty()) return;
  const std::string& path = config.values.back().text;
  std::string text;
  try {
    text = read_file(path, std::uint64_t{1} << 24);
  } catch (const Error& e) {
    misuse(config.values.back().label, ": ", e.message(), remedy("name a file that can be read"));
  }
  for (const ConfigEntry& entry : parse_config(text, path)) read_config_entry(entry.key, entry.values, entry.where);
}

// Of a set of flags that exclude each other the best source counts, and in it there may be only one.
void Reader::keep_one_of(OneOf set) {
  Source best = Source::nowhere;
  for (const Flag& flag : flags())
    if (flag.one_of == set) best = std::min(best, setting(flag).source);
  const Given* first = nullptr;
  for (const Flag& flag : flags()) {
    if (flag.one_of != set) continue;
    Setting& s = setting(flag);
    if (s.source != best) {
      s = {};
    } else if (!s.values.empty()) {
      if (first)
        misuse(first->label, " and ", s.values.back().label, " contradict each other", remedy("give one of them"));
      first = &s.values.back();
    }
  }
}

Options Reader::options() {
  keep_one_of(OneOf::prompt);
  keep_one_of(OneOf::text_prompt);
  keep_one_of(OneOf::thinking);
  keep_one_of(OneOf::drafter);
  keep_one_of(OneOf::prefix_caching);
  keep_one_of(OneOf::output_form);
  keep_one_of(OneOf::on_device_sampling);
  keep_one_of(OneOf::output_logits);
  keep_one_of(OneOf::structure);
  Options options;
  for (const Flag& flag : flags()) {
    const std::vector<Given>& values = setting(flag).values;
    if (!flag.set || values.empty()) continue;
    const Source source = setting(flag).source;
    options.sources[std::string(flag.name)] = source == Source::command_line  ? "command line"
                                              : source == Source::environment ? "environment"
                                                                              : values.back().label;
    if (flag.repeatable) {
      for (const Given& value : values) flag.set(options, value);
    } else {
      flag.set(options, values.back());  // as everywhere, the last one counts
    }
  }
  options.action = action_;
  if (options.generate.logprobs && !options.json) notes_.push_back("--logprobs shows only with --json");
  if (options.score.top_logprobs && !options.json) notes_.push_back("--top-logprobs shows only with --json");
  options.notes.insert(options.notes.end(), notes_.begin(), notes_.end());
  return options;
}

}  // namespace

Options read_options(std::string_view command, std::span<const std::string> arguments, const Environment& environment) {
  const CommandInfo* info = find_command(command);
  CAJAL_CHECK(info, command);
  for (const std::string& argument : arguments) {
    if (argument == "--") break;
    if (argument == "--help" || argument == "-h") {
      Options options;
      options.help = true;
      return options;
    }
  }
  Reader reader(*info);
  reader.read_command_line(arguments);
  reader.read_environment(environment);
  reader.read_config_file();
  return reader.options();
}

}  // namespace cajal::cli
