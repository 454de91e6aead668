#pragma once
// What a sequence must give, computed without cache, batch or schedule.
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/request.h"
#include "simulator/fake_model.h"

namespace cajal::simulator {

class Oracle {
 public:
  // Model and request must outlive this. Begins behind `output`, tokens that were generated before.
  Oracle(const FakeModel& model, const SequenceRequest& request, std::uint32_t sequence_index,
         std::int64_t max_model_len, std::span<const std::int32_t> output = {});

  // What comes next: a token, the end, or both at once. Not after the end.
  struct Next {
    std::optional<GeneratedToken> token;
    std::optional<FinishReason> finish_reason;
  };
  Next next();

 private:
  GeneratedToken choose();
  void constrain();

  const FakeModel& model_;
  const SequenceRequest& request_;
  std::uint32_t sequence_index_;
  std::int64_t max_model_len_, length_;
  std::int64_t num_generated_ = 0;
  std::uint64_t state_;
  LogitsProcessor processor_;
  std::vector<float> logits_, processed_;
};

}  // namespace cajal::simulator
