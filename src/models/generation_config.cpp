#include "models/generation_config.h"

#include <limits>

#include "base/error.h"
#include "base/file.h"
#include "models/config_reader.h"

namespace cajal {
namespace {

constexpr const char* kRemedy =
    "remove the key from the file; sampling can be set on the command line or in the request";

// Settings that we do not have, with the number that makes each do nothing. Null, and false, are always nothing.
struct Setting {
  const char* key;
  double neutral;
  enum { at_most, at_least, exactly } is_neutral;  // values on the neutral side do nothing either
};
constexpr Setting kNumbers[] = {
    {"num_beams", 1, Setting::at_most},
    {"num_beam_groups", 1, Setting::at_most},
    {"num_return_sequences", 1, Setting::at_most},
    {"penalty_alpha", 0, Setting::at_most},
    {"diversity_penalty", 0, Setting::exactly},
    {"no_repeat_ngram_size", 0, Setting::at_most},
    {"encoder_no_repeat_ngram_size", 0, Setting::at_most},
    {"encoder_repetition_penalty", 1, Setting::exactly},
    {"typical_p", 1, Setting::at_least},
    {"epsilon_cutoff", 0, Setting::at_most},
    {"eta_cutoff", 0, Setting::at_most},
    {"guidance_scale", 1, Setting::exactly},
    {"min_length", 0, Setting::at_most},
    {"min_new_tokens", 0, Setting::at_most},
};
// Settings of which any value does something, other than null, false, 0, "" and empty lists and objects.
constexpr const char* kAnything[] = {
    "sequence_bias",
    "bad_words_ids",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "forced_decoder_ids",
    "suppress_tokens",
    "begin_suppress_tokens",
    "exponential_decay_length_penalty",
    "watermarking_config",
    "constraints",
    "force_words_ids",
    "stop_strings",
    "dola_layers",
    "token_healing",
    "top_h",
    "max_time",
    "custom_generate",
};

void refuse_unsupported(const ConfigReader& r) {
  for (const Setting& setting : kNumbers) {
    const Json* value = r.find(setting.key);
    if (!value || *value == Json(false)) continue;
    const double number =
        r.to_number(setting.key, *value, std::numeric_limits<double>::lowest(), std::numeric_limits<double>::max());
    const bool neutral = number == setting.neutral ||
                         (setting.is_neutral == Setting::at_most && number < setting.neutral) ||
                         (setting.is_neutral == Setting::at_least && number > setting.neutral);
    if (!neutral) r.fail_unsupported(setting.key, "which is not supported", kRemedy);
  }
  for (const char* key : kAnything) {
    // A token id may be 0, and that forces one.
    const bool is_id = std::string_view(key).starts_with("forced_") && r.find(key) && r.find(key)->is_number();
    if (is_id || r.truthy(key)) r.fail_unsupported(key, "which is not supported", kRemedy);
  }
  // A cache that is rounded to few bits gives other results than one that is not; the other kinds do not matter here.
  const Json* cache = r.find("cache_implementation");
  if (cache && *cache == Json("quantized"))
    r.fail_unsupported("cache_implementation", "which is not supported", kRemedy);
}

template <class T>
void read(const ConfigReader& r, const char* key, std::optional<T>& into, ConfigReader::Range<T> range = {}) {
  if (!r.find(key)) return;
  T value{};
  r.required(key, value, range);
  into = value;
}

void read_token_id(const ConfigReader& r, const char* key, std::optional<std::int32_t>& into) {
  std::vector<std::int32_t> ids;
  r.optional_token_ids(key, ids);
  if (ids.size() > 1) r.fail_value(key, *r.find(key), "one integer");
  if (!ids.empty()) into = ids.front();
}

}  // namespace

GenerationConfig read_generation_config(const Json& config, std::string_view file) {
  constexpr std::int64_t kMostTokens = std::numeric_limits<std::int32_t>::max();
  const ConfigReader r(config, std::string(file));
  GenerationConfig g;
  read(r, "do_sample", g.do_sample);
  read(r, "temperature", g.temperature, {0, 1e6});
  read(r, "top_k", g.top_k, {-1, kMostTokens});
  if (g.top_k == -1) g.top_k = 0;
  read(r, "top_p", g.top_p, {0, 1});
  read(r, "min_p", g.min_p, {0, 1});
  read(r, "repetition_penalty", g.repetition_penalty, {1e-6, 1e6});
  read(r, "max_new_tokens", g.max_new_tokens, {1, kMostTokens});
  read(r, "max_length", g.max_length, {1, kMostTokens});
  r.optional_token_ids("eos_token_id", g.eos_token_id);
  read_token_id(r, "bos_token_id", g.bos_token_id);
  read_token_id(r, "pad_token_id", g.pad_token_id);
  refuse_unsupported(r);
  return g;
}

GenerationConfig load_generation_config(const std::string& folder) {
  const std::string path = folder + "/generation_config.json";
  if (!file_exists(path)) return {};
  return read_generation_config(parse_json(read_file(path, std::uint64_t{1} << 26), path), path);
}

}  // namespace cajal
