#pragma once
// What the commands that run a model have in common: the device, the model, its tokenizer and the prompt.
#include <cstdint>
#include <iosfwd>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/commands.h"
#include "engine/model.h"
#include "engine/ranks/rank_team.h"
#include "text/tokenizer.h"

namespace cajal::cli {

// The device that the flags name, taken for `target` if that is not empty.
std::unique_ptr<Backend> open_device(const CommonFlags& flags, const std::string& target = {});
LoadFormat wanted_load_format(const CommonFlags& flags);
std::optional<DType> wanted_dtype(const CommonFlags& flags);
QuantizationRecipe wanted_quantization(const CommonFlags& flags);
KvCacheDType wanted_kv_cache_dtype(const CommonFlags& flags);
std::string_view flag_word(DType dtype);  // "bfloat16", as --dtype has it

// A model that is loaded, and its device.
struct Session {
  std::string name, folder;              // as the user calls it; where it lies
  std::unique_ptr<Backend> own_backend;  // null where ranks have theirs
  Backend* backend = nullptr;
  std::unique_ptr<Model> model;
  std::optional<Tokenizer> tokenizer;  // absent if the folder has none
  std::int64_t max_model_len = 0;      // what the flags, the export or the configuration allow
  std::optional<NeuronConfig> limits;  // of an export
};

// What fails early goes first: the flags, the configuration and the prompt, then the weights.
class SessionBuilder {
 public:
  // `ranks`: those that the model is to run on, null for one device; they must outlive the session.
  SessionBuilder(const CommonFlags& flags, const std::string& model, const Environment& environment,
                 RankTeam* ranks = nullptr);

  const std::optional<Tokenizer>& tokenizer() const { return session_.tokenizer; }
  const std::string& folder() const { return session_.folder; }
  // The prompt that the flags give, as ids that the vocabulary has and no more of them than the model takes. UsageError
  // if no flag gives one, Error if it is a text and the folder has no tokenizer, or no chat template and `chat` wants
  // one.
  std::vector<std::int32_t> prompt(const PromptFlags& flags, const ChatFlags& chat, std::istream& in) const;
  std::int64_t max_model_len() const { return session_.max_model_len; }
  const Qwen3Config& config() const { return config_; }
  // With what its graphs will be asked for.
  // A text as ids, in the chat template if `chat` wants it.
  std::vector<std::int32_t> encode(const std::string& text, const ChatFlags& chat) const;
  // A conversation in the model's chat template.
  std::vector<std::int32_t> encode(Json::Array messages, std::optional<bool> enable_thinking) const;
  Session load(const Qwen3Outputs& outputs = {}) &&;

 private:
  const CommonFlags& flags_;
  std::string cache_;  // cajal's own, if it is wanted
  RankTeam* ranks_;
  Session session_;
  Qwen3Config config_;
};

// Key-value bytes of one token in all layers, on a rank.
std::int64_t kv_bytes_per_token(const Model& model);

Json to_json_list(const std::vector<std::int32_t>& ids);

}  // namespace cajal::cli
