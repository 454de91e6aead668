#include "text/pre_tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "text/json_fields.h"

namespace cajal {
namespace {

using Behavior = PreTokenizer::Behavior;

// What ByteLevel cuts by when it is not told otherwise: GPT-2's pattern.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

struct Span {
  std::size_t begin, end;
  bool is_match;
};

// The text as matches and what lies between them. Empty spans are left out only where they come from no match.
template <class ForEachMatch>
std::vector<Span> spans_of(std::string_view text, const ForEachMatch& for_each_match) {
  std::vector<Span> spans;
  std::size_t done = 0;
  for_each_match([&](std::size_t begin, std::size_t end) {
    if (done != begin) spans.push_back({done, begin, false});
    spans.push_back({begin, end, true});
    done = end;
  });
  if (done != text.size()) spans.push_back({done, text.size(), false});
  return spans;
}

// Joins each span for which `joins(span, previous is_match)` holds to the one before it.
template <class Joins>
std::vector<Span> join(const std::vector<Span>& spans, const Joins& joins) {
  std::vector<Span> joined;
  bool previous = false;
  for (const Span& span : spans) {
    if (joins(span.is_match, previous) && !joined.empty()) {
      joined.back().begin = std::min(joined.back().begin, span.begin);
      joined.back().end = std::max(joined.back().end, span.end);
    } else {
      joined.push_back(span);
    }
    previous = span.is_match;
  }
  return joined;
}

std::vector<Span> arrange(std::vector<Span> spans, Behavior behavior) {
  const auto starts_match = [](bool is_match, bool previous) { return is_match && !previous; };
  switch (behavior) {
    case Behavior::isolated: return spans;
    case Behavior::removed: std::erase_if(spans, [](const Span& s) { return s.is_match; }); return spans;
    case Behavior::contiguous: return join(spans, [](bool is_match, bool previous) { return is_match == previous; });
    case Behavior::merged_with_previous: return join(spans, starts_match);
    case Behavior::merged_with_next:
      std::reverse(spans.begin(), spans.end());
      spans = join(spans, starts_match);
      std::reverse(spans.begin(), spans.end());
      return spans;
  }
  return spans;
}

Behavior behavior_of(const std::string& name) {
  static constexpr std::pair<std::string_view, Behavior> kNames[] = {
      {"Removed", Behavior::removed},
      {"Isolated", Behavior::isolated},
      {"MergedWithPrevious", Behavior::merged_with_previous},
      {"MergedWithNext", Behavior::merged_with_next},
      {"Contiguous", Behavior::contiguous}};
  for (const auto& [known, behavior] : kNames)
    if (known == name) return behavior;
  fail(ErrorCode::unsupported, "Split has behavior \"", name, "\", which is not known");
}

}  // namespace

PreTokenizer::PreTokenizer(const Json& config) {
  add(config, true);
  if (steps_.size() == 1)
    if (const Split* split = std::get_if<Split>(&steps_[0]))
      is_qwen_ = std::holds_alternative<QwenPattern>(split->pattern) && split->behavior == Behavior::isolated;
}

// `last`: nothing comes after, so that this has to end in the byte alphabet.
void PreTokenizer::add(const Json& config, bool last) {
  const std::string type = json_fields::type_of(config);
  if (type == "Sequence") {
    const Json::Array& parts = json_fields::array(config, "pretokenizers");
    if (last && parts.empty())
      fail(ErrorCode::unsupported, "pre_tokenizer is an empty Sequence, expected ByteLevel at its end");
    for (std::size_t i = 0; i < parts.size(); ++i) add(parts[i], last && i + 1 == parts.size());
    return;
  }
  if (type == "ByteLevel") {
    if (!last) fail(ErrorCode::unsupported, "ByteLevel is supported as the last pre_tokenizer only");
    if (json_fields::boolean(config, "add_prefix_space")) steps_.emplace_back(PrefixSpace{});
    if (json_fields::boolean_or(config, "use_regex", true)) steps_.emplace_back(Split{Regex(kGpt2Pattern)});
    return;
  }
  if (type != "Split")
    fail(ErrorCode::unsupported, "pre_tokenizer ", type, " is not supported (Sequence, Split and ByteLevel are)");
  if (last)
    fail(ErrorCode::unsupported,
         "the last pre_tokenizer is Split, expected ByteLevel: only byte-level BPE is supported");
  Split split;
  split.behavior = behavior_of(json_fields::string(config, "behavior"));
  split.invert = json_fields::boolean(config, "invert");
  const Json& pattern = json_fields::required(config, "pattern");
  if (pattern.find("String")) {
    split.pattern = json_fields::string(pattern, "String");
    if (std::get<std::string>(split.pattern).empty())
      fail(ErrorCode::unsupported, "Split by an empty string is not supported");
  } else {
    const std::string regex = json_fields::string(pattern, "Regex");
    if (regex == kQwenPattern)
      split.pattern = QwenPattern{};
    else
      split.pattern = Regex(regex);
  }
  steps_.emplace_back(std::move(split));
}

std::vector<std::string> PreTokenizer::apply(const Step& step, std::string_view text) {
  const Split* split = std::get_if<Split>(&step);
  if (!split) return {text.starts_with(' ') ? std::string(text) : ' ' + std::string(text)};
  std::vector<Span> spans = spans_of(text, [&](const std::function<void(std::size_t, std::size_t)>& found) {
    if (const auto* regex = std::get_if<Regex>(&split->pattern)) {
      regex->for_each_match(text, found);
    } else if (const auto* string = std::get_if<std::string>(&split->pattern)) {
      for (std::size_t at = text.find(*string); at != text.npos; at = text.find(*string, at + string->size()))
        found(at, at + string->size());
    } else {
      const QwenScanner scanner(text);
      for (std::size_t at = 0, end = 0; at < text.size(); at = end) found(at, end = scanner.next(at));
    }
  });
  if (split->invert)
    for (Span& span : spans) span.is_match = !span.is_match;
  std::vector<std::string> pieces;
  for (const Span& span : arrange(std::move(spans), split->behavior))
    if (span.begin != span.end) pieces.emplace_back(text.substr(span.begin, span.end - span.begin));
  return pieces;
}

std::vector<std::string> PreTokenizer::split_by_steps(std::string_view text) const {
  std::vector<std::string> pieces;
  if (!text.empty()) pieces.emplace_back(text);
  for (const Step& step : steps_) {
    std::vector<std::string> cut;
    for (const std::string& piece : pieces)
      for (std::string& part : apply(step, piece)) cut.push_back(std::move(part));
    pieces = std::move(cut);
  }
  return pieces;
}

}  // namespace cajal
