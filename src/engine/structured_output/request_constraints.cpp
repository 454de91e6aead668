#include "engine/structured_output/request_constraints.h"

#include "base/error.h"

namespace cajal {

RequestConstraints::RequestConstraints(const Tokenizer* tokenizer, std::int64_t vocab_size,
                                       std::span<const std::int32_t> eos_token_ids)
    : tokenizer_(tokenizer), vocab_size_(vocab_size), eos_token_ids_(eos_token_ids.begin(), eos_token_ids.end()) {}

std::shared_ptr<const CompiledGrammar> RequestConstraints::compile(const StructuredOutputs& what) {
  GrammarCompiler* compiler = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (!compiler_) compiler_ = std::make_unique<GrammarCompiler>(*tokenizer_, vocab_size_, eos_token_ids_);
    compiler = compiler_.get();
  }
  return compiler->compile(what);
}

TokenConstraints RequestConstraints::make(const ConstraintWishes& wishes) {
  TokenConstraints constraints;
  constraints.min_tokens = wishes.min_tokens;
  constraints.logit_bias = wishes.logit_bias;
  if (wishes.structured_outputs) {
    with_context("structured_outputs", [&] {
      if (!tokenizer_)
        fail(ErrorCode::not_found, "a structure is one of text, and the model has no tokenizer.json",
             remedy("put the tokenizer's files there"));
      if (eos_token_ids_.empty() || wishes.ignore_eos)
        fail(ErrorCode::invalid_argument, "what has a structure ends with an ending token, and ",
             wishes.ignore_eos ? "ignore_eos lets none end it" : "the model names none");
      constraints.grammar = compile(*wishes.structured_outputs);
    });
  }
  constraints.thinking_token_budget = wishes.thinking_token_budget;
  constraints.may_think = wishes.may_think;
  if (!tokenizer_ || (!constraints.grammar && !wishes.thinking_token_budget)) return constraints;
  const std::lock_guard lock(mutex_);
  if (!looked_for_thinking_) thinking_ = thinking_tokens(*tokenizer_);
  looked_for_thinking_ = true;
  constraints.thinking = thinking_;
  return constraints;
}

void RequestConstraints::begin_after(TokenConstraints& constraints, std::span<const std::int32_t> prompt) const {
  if (constraints.thinking) constraints.in_thought = ends_in_thought(*constraints.thinking, prompt);
}

}  // namespace cajal
