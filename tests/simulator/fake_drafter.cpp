#include "simulator/fake_drafter.h"

#include "base/error.h"
#include "engine/request.h"
#include "simulator/allocation_faults.h"
#include "simulator/oracle.h"

namespace cajal::simulator {

void FakeDrafter::propose(std::span<const DraftContext> contexts, std::span<Draft> drafts) {
  const AllocationFaults::Pause pause;
  if (contexts.size() != drafts.size()) error_ = "the drafter was given as many contexts as drafts";
  for (std::size_t i = 0; i < contexts.size(); ++i) {
    const DraftContext& context = contexts[i];
    check_context(context);
    if (!error_.empty()) return;
    drafts[i].clear();
    if (random_.chance(behaviour_.nonsense_percent))
      talk_nonsense(context, drafts[i]);
    else
      guess(context, drafts[i]);
    known_[context.sequence] = {context.tokens.size(), drafts[i].tokens};
  }
  if (random_.chance(behaviour_.throw_percent)) fail(ErrorCode::unavailable, "simulated: no guess");
}

void FakeDrafter::check_context(const DraftContext& context) {
  const auto say = [&](const char* what) { error_ = "the drafter was given " + std::string(what); };
  if (context.max_tokens < 0 || context.max_tokens > behaviour_.max_draft_tokens)
    say("a wrong number of tokens to guess");
  if (context.prompt_length <= 0 || static_cast<std::size_t>(context.prompt_length) > context.tokens.size())
    return say("a prompt longer than all tokens");
  // Who is always right, and hears how tokens are chosen, was right.
  const bool always_right = behaviour_.right_percent == 100 && behaviour_.nonsense_percent == 0;
  const Guess& last = known_[context.sequence];
  for (std::size_t i = 0; i < last.tokens.size() && last.length + i < context.tokens.size() && always_right; ++i)
    if (context.tokens[last.length + i] != last.tokens[i]) say("other tokens than its context had said");
}

// What the model will say, up to the first guess that is to be wrong.
void FakeDrafter::guess(const DraftContext& context, Draft& draft) {
  const std::int64_t wanted = context.max_tokens ? random_.between(0, context.max_tokens) : 0;
  if (wanted == 0) return;
  SequenceRequest request;
  const auto prompt = context.tokens.first(static_cast<std::size_t>(context.prompt_length));
  request.prompt.assign(prompt.begin(), prompt.end());
  request.sampling = *context.sampling;
  request.max_new_tokens = std::int64_t{1} << 40;
  Oracle oracle(model_, request, context.sequence_index, std::int64_t{1} << 40, context.tokens.subspan(prompt.size()));
  while (static_cast<std::int64_t>(draft.tokens.size()) < wanted) {
    const Oracle::Next next = oracle.next();
    if (!next.token) return;
    const bool right = random_.chance(behaviour_.right_percent);
    const auto other = static_cast<std::int32_t>(random_.below(model_.first_salt_token()));
    draft.tokens.push_back(right ? next.token->chosen.token_id : other);
  }
}

void FakeDrafter::talk_nonsense(const DraftContext& context, Draft& draft) {
  const std::int64_t kind = random_.below(4);
  const std::int64_t count = kind == 0 ? context.max_tokens + 1 + random_.below(5) : context.max_tokens;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto token = static_cast<std::int32_t>(random_.below(model_.first_salt_token()));
    draft.tokens.push_back(kind == 1 ? random_.pick({-1, -token - 1, model_.behaviour().vocab_size, 1 << 30}) : token);
    if (kind == 2) draft.parents.push_back(static_cast<std::int32_t>(i / 2) - 1);
    if (kind == 3 && random_.chance(50)) draft.parents.push_back(static_cast<std::int32_t>(random_.between(-3, 40)));
  }
}

}  // namespace cajal::simulator
