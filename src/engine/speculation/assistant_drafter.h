#pragma once
// Guesses by a smaller model, Hugging Face's assistant model. It chooses as the model itself would: with the request's
// parameters, penalties and random numbers, of its own logits. So what both find likely it guesses right, sampled or not.
#include <cstdint>
#include <iterator>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/model_runner.h"
#include "engine/scheduling/kv_cache_manager.h"
#include "engine/speculation/drafter.h"

namespace cajal {

class Tokenizer;

// Throws Error(invalid_argument) naming the first id that is another token, or a token in one tokenizer alone.
void check_same_tokens(const Tokenizer& target, const Tokenizer& assistant);

struct AssistantOptions {
  std::int64_t num_assistant_tokens = 5;  // guesses, at most
  std::int64_t max_num_seqs = 64;         // that run side by side; more go one group after another
  std::int64_t prefill_chunk_size = 512;  // rows of one sequence in one step, at most
  std::int64_t max_model_len = 0;         // longer sequences get no guesses; 0: what its configuration allows
  std::int64_t max_num_kv_blocks = 0;     // of its pool; 0: what max_num_seqs sequences of max_model_len need
};

// Its cache keeps what the sequences had in common with the guesses of the step before; the rest is overwritten. Where the
// pool is too small for all, the sequence that was drafted longest ago gives its blocks back and is computed anew when it
// comes again; when all the others are in the same call, whoever finds no room gets no guesses. Whatever it throws, it has
// forgotten all sequences then, and may be called again.
class AssistantDrafter final : public Drafter {
 public:
  // Takes the memory of its KV pool. The model must outlive it. Throws Error(invalid_argument) if the vocabulary has not
  // the size of the target's, or naming the option that is out of range.
  AssistantDrafter(const Model& assistant, std::int64_t target_vocab_size, const AssistantOptions& options);
  ~AssistantDrafter() override;

  const char* name() const override { return "assistant"; }
  std::int64_t max_draft_tokens() const override { return options_.num_assistant_tokens; }
  void propose(std::span<const DraftContext> contexts, std::span<Draft> drafts) override;
  void forget(std::uint64_t sequence) noexcept override;

  ModelRunner& runner() { return runner_; }
  const KVCacheManager& kv_cache() const { return kv_; }
  std::int64_t num_computed_tokens() const { return num_computed_tokens_; }  // rows of all steps so far

 private:
  // What the cache holds of a sequence: keys and values of these tokens, from its first on.
  struct Cached {
    std::vector<std::int32_t> tokens;
    std::int64_t prompt_length = 0;
    std::uint64_t last_call = 0;
    std::int64_t length() const { return std::ssize(tokens); }
  };
  struct Drafting;
  void draft_group(std::span<const DraftContext> contexts, std::span<Draft> drafts);
  bool begin(const DraftContext& context, Draft& draft);
  Cached& find_cached(const DraftContext& context);
  bool make_room(std::uint64_t sequence, std::int64_t first_written, std::int64_t num_tokens);
  bool compose_step();
  void take_guesses();
  void forget_all() noexcept;

  AssistantOptions options_;
  ModelRunner runner_;
  KVCacheManager kv_;
  bool rope_depends_on_length_;
  std::unordered_map<std::uint64_t, Cached> cached_;  // by sequence; each has blocks
  std::uint64_t calls_ = 0;
  std::int64_t num_computed_tokens_ = 0;

  std::vector<Drafting> group_;
  std::vector<Drafting*> in_step_;  // by seq_index
  StepInput step_;
  std::vector<float> logits_;
};

}  // namespace cajal
