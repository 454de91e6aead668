#include "engine/generator.h"

#include <algorithm>
#include <limits>

namespace cajal {

Generator::Generator(const Model& model, const Tokenizer* tokenizer, LLMEngineOptions options)
    : engine_(
          model, tokenizer,
          [&] {
            options.max_num_waiting = std::numeric_limits<std::int64_t>::max();
            return options;
          }(),
          *this) {}

Generator::~Generator() = default;

void Generator::on_update(const SequenceUpdate& update) noexcept {
  try {
    const auto i = static_cast<std::size_t>(update.request);
    SequenceResult& result = results_[i];
    result.text += update.text;
    if (update.token) result.tokens.push_back(*update.token);
    if (update.finish_reason) {
      result.finish_reason = *update.finish_reason;
      over_[i] = true;
      if (*update.finish_reason == FinishReason::error && !failure_)
        failure_ = std::make_exception_ptr(Error(ErrorCode::unavailable, std::string(update.error)));
    }
    if (hooks_->on_progress) hooks_->on_progress({i, update.token, update.text, update.finish_reason});
  } catch (...) {
    if (!failure_) failure_ = std::current_exception();
  }
}

std::vector<SequenceResult> Generator::run(std::span<const SequenceRequest> requests, const OnToken& on_token) {
  if (!on_token) return run(requests, RunHooks{});
  bool wanted = true;
  RunHooks hooks;
  hooks.on_progress = [&](const SequenceProgress& p) {
    if (wanted && p.token) wanted = on_token(p.sequence, p.token->chosen.token_id, p.text);
  };
  hooks.is_wanted = [&](std::size_t) { return wanted; };
  return run(requests, hooks);
}

std::vector<SequenceResult> Generator::run(std::span<const SequenceRequest> requests, const RunHooks& hooks) {
  EngineCore& core = engine_.core();
  for (const auto& r : requests) {
    check_token_ids(r.prompt, runner().vocab_size(), engine_.max_model_len());
    check_sampling_params(r.sampling);
  }
  results_.assign(requests.size(), {});
  over_.assign(requests.size(), false);
  hooks_ = &hooks;
  failure_ = nullptr;
  for (std::size_t i = 0; i < requests.size(); ++i)
    if (const auto refusal = core.add({.id = i, .sequence = requests[i], .deadline = {}, .cache_salt = {}})) {
      core.abort_all();
      throw Error(refusal->code, refusal->message, refusal->remedy);
    }
  while (core.has_work()) {
    if (hooks.is_wanted)
      for (std::size_t i = 0; i < requests.size(); ++i)
        if (!over_[i] && !hooks.is_wanted(i)) core.abort(i);
    if (failure_) core.abort_all();
    core.step();
  }
  core.settle();
  hooks_ = nullptr;
  if (failure_) std::rethrow_exception(failure_);
  return std::move(results_);
}

}  // namespace cajal
