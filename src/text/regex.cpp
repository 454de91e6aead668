#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <cctype>
#include <optional>

#include "base/error.h"
#include "text/unicode.h"

namespace cajal {
namespace {

constexpr std::uint32_t kMatchLimit = 10'000'000;  // backtracking steps of one match
constexpr std::uint32_t kHeapLimit_KiB = 256 * 1024;

template <class T, void (*release)(T*)>
struct Release {
  void operator()(T* p) const { release(p); }
};
using CompileContext =
    std::unique_ptr<pcre2_compile_context, Release<pcre2_compile_context, pcre2_compile_context_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Release<pcre2_match_context, pcre2_match_context_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Release<pcre2_match_data, pcre2_match_data_free>>;

template <class T>
T* allocated(T* p) {
  if (!p) fail(ErrorCode::out_of_memory, "no memory for a pattern");
  return p;
}

std::string message_of(int code) {
  PCRE2_UCHAR buffer[256] = {};
  pcre2_get_error_message(code, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

// The first construct that Oniguruma and PCRE2 both accept with different meanings.
std::optional<std::string> ambiguous_construct(std::string_view p) {
  bool in_class = false;
  for (std::size_t i = 0; i < p.size(); ++i) {
    const std::string_view rest = p.substr(i);
    if (rest[0] == '\\') {
      if (rest.size() > 1 && std::string_view("hHvVwWbByYOKuGQE").find(rest[1]) != std::string_view::npos)
        return std::string(rest.substr(0, 2));
      ++i;
      if (rest.size() > 2 && rest[2] == '{' && std::isalpha(static_cast<unsigned char>(rest[1])))  // \p{L}, \x{20}
        i += std::min(rest.find('}'), rest.size() - 1) - 1;
    } else if (in_class) {
      if (rest.starts_with("&&")) return "&& in a class";
      if (rest[0] == '[') return "a class inside a class";
      if (rest[0] == ']') in_class = false;
    } else if (rest[0] == '[') {
      in_class = true;
      if (rest.starts_with("[]") || rest.starts_with("[^]")) return "an empty class";
    } else if (rest.starts_with("(*")) {
      return "a verb (*";
    } else if (rest.starts_with("(?") &&
               rest.substr(2, rest.find_first_not_of("imsxn-", 2) - 2).find_first_of("msn") != std::string_view::npos) {
      return "the option m, s or n";
    } else if (rest.starts_with("{,") || rest.starts_with("}+")) {
      return std::string(rest.substr(0, 2));
    }
  }
  return std::nullopt;
}

}  // namespace

void Regex::Free::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }

Regex::Regex(std::string_view pattern) : pattern_(pattern) {
  if (const auto construct = ambiguous_construct(pattern))
    fail(ErrorCode::unsupported, "the pattern ", pattern, " has ", *construct, ", which is not supported");
  const CompileContext context(allocated(pcre2_compile_context_create(nullptr)));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE where = 0;
  const std::uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), options, &error, &where,
                            context.get()));
  if (!code_)
    fail(ErrorCode::unsupported, "the pattern ", pattern, " is not understood at byte ", where, ": ",
         message_of(error));
  pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);  // where there is no JIT the interpreter does it
}

void Regex::for_each_match(std::string_view text, const std::function<void(std::size_t, std::size_t)>& found) const {
  const MatchContext context(allocated(pcre2_match_context_create(nullptr)));
  pcre2_set_match_limit(context.get(), kMatchLimit);
  pcre2_set_heap_limit(context.get(), kHeapLimit_KiB);
  const MatchData data(allocated(pcre2_match_data_create_from_pattern(code_.get(), nullptr)));
  constexpr auto kNever = static_cast<std::size_t>(-1);
  std::size_t last_end = kNever;
  for (std::size_t at = 0; at <= text.size();) {
    const auto match = [&](std::uint32_t options) {
      return pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                         PCRE2_NO_UTF_CHECK | options, data.get(), context.get());
    };
    int result = match(0);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = match(PCRE2_NO_JIT);
    if (result == PCRE2_ERROR_NOMATCH) return;
    if (result < 0)
      fail(ErrorCode::unsupported, "the pattern ", pattern_, " fails at byte ", at,
           " of the text: ", message_of(result));
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(data.get());
    const std::size_t begin = bounds[0], end = bounds[1];
    if (begin == end && end == last_end) {
      if (at == text.size()) return;
      at += unicode::decode_valid(text, at).length;
      continue;
    }
    found(begin, end);
    at = last_end = end;
  }
}

}  // namespace cajal
