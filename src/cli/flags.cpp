#include "cli/flags.h"

#include <algorithm>
#include <cctype>
#include <numeric>
#include <utility>

#include "cli/commands.h"
#include "cli/flag_tables.h"
#include "cli/usage_error.h"

namespace cajal::cli {
namespace {

std::vector<Flag> joined_tables() {
  std::vector<Flag> all;
  for (const auto& table : {request_flags(), tool_flags(), serving_flags(), load_flags(), engine_flags()})
    all.insert(all.end(), table.begin(), table.end());
  return all;
}

// What other programs call these flags.
constexpr std::pair<std::string_view, std::string_view> kForeignNames[] = {
    {"max-tokens", "max-new-tokens"},
    {"max-length", "max-new-tokens"},
    {"n-predict", "max-new-tokens"},
    {"temp", "temperature"},
    {"top-n-sigma", "min-p"},
    {"tp", "tensor-parallel-size"},
    {"tp-size", "tensor-parallel-size"},
    {"ep", "expert-parallel-size"},
    {"ep-size", "expert-parallel-size"},
    {"ctx-size", "max-model-len"},
    {"context-length", "max-model-len"},
    {"max-seq-len", "max-model-len"},
    {"model-path", "model"},
    {"model-id", "model"},
    {"n", "num-return-sequences"},
    {"best-of", "num-return-sequences"},
    {"repeat-penalty", "repetition-penalty"},
    {"file", "prompt-file"},
    {"num-threads", "threads"},
    {"t", "threads"},
    {"repetitions", "repeats"},
    {"stop-strings", "stop"},
    {"verbose", "log-level"},
    {"input-len", "random-input-len"},
    {"output-len", "random-output-len"},
    {"concurrency", "max-concurrency"},
};

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replace = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replace, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

std::string commands_with(const Flag& flag) {
  std::string list;
  for (const CommandInfo& command : commands())
    if (flag.commands & command.bit) list += (list.empty() ? "cajal " : ", cajal ") + std::string(command.name);
  return list;
}

std::string suggestion(std::string_view name, std::uint32_t command) {
  std::vector<std::string_view> names;
  for (const Flag& flag : flags())
    if (flag.accepted_by(command)) names.push_back(flag.name);
  for (const auto& [foreign, ours] : kForeignNames)
    if (find_flag(ours, command)) names.push_back(foreign);
  const std::string_view near = nearest(name, names, std::max<std::size_t>(3, name.size() / 2));
  for (const auto& [foreign, ours] : kForeignNames)
    if (foreign == near && !find_flag(near, command)) return std::string(ours);
  return std::string(near);
}

}  // namespace

std::span<const Flag> flags() {
  static const std::vector<Flag> all = joined_tables();
  return all;
}

// What loads and runs a model is common: every command takes it, so that one set of flags fits all.
bool Flag::accepted_by(std::uint32_t command) const {
  const bool common = group == Group::engine && set != nullptr;
  return common || (commands & command) != 0;
}

std::string normalized_name(std::string_view name) {
  name.remove_prefix(std::min(name.find_first_not_of('-'), name.size()));
  std::string result(name);
  std::replace(result.begin(), result.end(), '_', '-');
  return result;
}

const Flag* find_flag(std::string_view normalized, std::uint32_t command) {
  const auto all = flags();
  const auto found = std::find_if(
      all.begin(), all.end(), [&](const Flag& flag) { return flag.name == normalized && flag.accepted_by(command); });
  return found == all.end() ? nullptr : &*found;
}

const Flag* find_short_flag(std::string_view name, std::uint32_t command) {
  const auto all = flags();
  const auto found = std::find_if(all.begin(), all.end(), [&](const Flag& flag) {
    return !flag.short_name.empty() && flag.short_name == name && flag.accepted_by(command);
  });
  return found == all.end() ? nullptr : &*found;
}

std::string environment_name(const Flag& flag) {
  std::string name = "CAJAL_" + std::string(flag.name);
  for (char& c : name) c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

std::string_view nearest(std::string_view name, std::span<const std::string_view> names, std::size_t at_most) {
  std::string_view best;
  std::size_t best_distance = at_most + 1;
  for (const std::string_view candidate : names) {
    // The beginning of a name is as near as one slip.
    const bool begins = name.size() >= 3 && candidate.starts_with(name);
    const std::size_t distance = begins ? 1 : edit_distance(name, candidate);
    if (distance < best_distance && distance < candidate.size()) best = candidate, best_distance = distance;
  }
  return best;
}

void refuse_unknown_flag(std::string_view spelled, std::uint32_t command) {
  const bool is_short = spelled.starts_with('-') && !spelled.starts_with("--");
  const std::string name = normalized_name(spelled);
  const std::string own = detail::join("cajal ", command_of(command).name);
  for (const Flag& flag : flags())
    if (is_short ? flag.short_name == spelled : flag.name == name)
      misuse(spelled, " is a flag of ", commands_with(flag), ", not of ", own,
             remedy("leave it out, or see '", own, " --help'"));
  const std::string near = suggestion(name, command);
  misuse(spelled, " is no flag of ", own,
         near.empty() ? remedy("see '", own, " --help'") : remedy("did you mean --", near, "?"));
}

}  // namespace cajal::cli
