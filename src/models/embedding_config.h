#pragma once
// How an embedding model's folder says that a text becomes a vector: the files that sentence-transformers writes.
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"

namespace cajal {

// Which of a text's rows of last_hidden_state make its vector.
enum class PoolingMode {
  last_token,
  mean,       // of all rows
  cls_token,  // the first
};
const char* to_string(PoolingMode mode);

struct EmbeddingConfig {
  bool is_embedding_model = false;  // the folder has modules.json
  PoolingMode pooling = PoolingMode::last_token;
  bool normalize = true;                                     // to length one
  std::vector<std::pair<std::string, std::string>> prompts;  // what stands in front of a text, by name
  std::optional<std::string> default_prompt_name;            // of `prompts`
  std::optional<std::int64_t> max_seq_length;                // tokens of a text, fewer perhaps than the model takes

  // The text of a named prompt. Error(not_found) says which names there are.
  const std::string& prompt(std::string_view name) const;
};

// What Qwen3-Embedding's queries begin with.
std::string instruct_prompt(std::string_view task);

// Reads modules.json, the pooling module's config.json, sentence_bert_config.json and config_sentence_transformers.json of a
// folder, as far as they are there. Without
// modules.json: the last token, normalised, as Qwen3-Embedding's own examples do it. Error(unsupported) names a module or a
// pooling that would give other vectors, Error(data_loss) what makes no sense.
EmbeddingConfig load_embedding_config(const std::string& folder);

// One file each, parsed; `file` is what errors call it.
PoolingMode read_pooling_config(const Json& config, std::string_view file);
void read_sentence_bert_config(const Json& config, std::string_view file, EmbeddingConfig& into);
void read_sentence_transformers_config(const Json& config, std::string_view file, EmbeddingConfig& into);

}  // namespace cajal
