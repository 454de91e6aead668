#pragma once
// One sequence after another that begin alike, as the turns of a chat do: what was computed for one is kept for the next.
#include <cstdint>
#include <span>
#include <vector>

#include "engine/generator.h"
#include "engine/model_runner.h"
#include "engine/scheduling/kv_cache_manager.h"
#include "text/tokenizer.h"

namespace cajal {

struct ConversationOptions {
  std::int64_t max_model_len = 0;         // of prompt and answer; 0: what the model's configuration allows
  std::int64_t prefill_chunk_size = 512;  // rows of one step, at most
};

// Keys and values of tokens stay in the cache from call to call, and a prompt is computed from the first token that
// differs. The answers are those of a Generator, bit for bit. Not for several threads at once.
class Conversation {
 public:
  // Takes the memory of a sequence of max_model_len. `tokenizer` may be null: no text then. Both must outlive this.
  Conversation(const Model& model, const Tokenizer* tokenizer, const ConversationOptions& options);

  // Goes on from the whole conversation so far, request.prompt. Sequence 0 is what hooks hear of. An answer that is cut
  // short, by hooks.is_wanted or by an exception from hooks.on_progress, leaves what was computed for the next call.
  SequenceResult generate(const SequenceRequest& request, const RunHooks& hooks = {});

  // How many tokens of the last prompt were not computed again.
  std::int64_t num_reused() const { return num_reused_; }
  std::int64_t max_model_len() const { return runner_.limits().max_model_len; }

 private:
  void keep_common_prefix(std::span<const std::int32_t> prompt);
  void compute(std::span<const std::int32_t> ids, std::int64_t prompt_length);

  const Tokenizer* tokenizer_;
  std::int64_t chunk_size_;
  bool reusable_;  // whether a token's key depends on the tokens up to it alone
  ModelRunner runner_;
  KVCacheManager kv_;
  std::vector<std::int32_t> cached_;  // tokens whose keys and values are in the cache
  std::int64_t num_reused_ = 0;
  StepInput step_;
  std::vector<float> logits_, processed_;
};

}  // namespace cajal
