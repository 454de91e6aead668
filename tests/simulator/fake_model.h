#pragma once
// A language model that is a hash: what it says of a text depends on every token before, and on nothing else.
#include <cstdint>
#include <span>

namespace cajal::simulator {

// How a scenario's model behaves.
struct ModelBehaviour {
  std::uint64_t seed = 0;
  std::int32_t vocab_size = 24;
  std::int32_t num_salt_tokens = 0;  // the last ids: they are never generated, see FakeExecutor
  std::int32_t eos_percent = 5;      // of the positions want to end
  std::int32_t peaked_percent = 30;  // of the positions are sure of the token
  std::int32_t nan_per_mille = 0;    // of the positions have a logit that is not finite
};

class FakeModel {
 public:
  static constexpr std::int32_t kEos = 0;

  explicit FakeModel(const ModelBehaviour& behaviour) : behaviour_(behaviour) {}

  const ModelBehaviour& behaviour() const { return behaviour_; }
  std::int32_t first_salt_token() const { return behaviour_.vocab_size - behaviour_.num_salt_tokens; }

  // The state of no text, and of a text with one more token. A state stands for keys and values as well as for logits.
  std::uint64_t root() const;
  std::uint64_t next(std::uint64_t state, std::int32_t token) const;
  // logits[vocab_size] of the token that follows.
  void logits(std::uint64_t state, std::span<float> into) const;

 private:
  ModelBehaviour behaviour_;
};

}  // namespace cajal::simulator
