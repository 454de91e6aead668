// cajal score: what a model thinks of a text.
#include "engine/scorer.h"

#include <cmath>
#include <optional>

#include "checkpoint/safetensors_writer.h"
#include "cli/session.h"
#include "cli/usage_error.h"

namespace cajal::cli {
namespace {

// What two models think of the same text.
struct Comparison {
  double perplexity = 0, mean_kl = 0, max_logprob_difference = 0, top_1_agreement = 0;
};

// Logits of one model, kept until another has its own.
class Comparer {
 public:
  Comparer(std::size_t positions, std::int64_t vocab_size) : vocab_size_(static_cast<std::size_t>(vocab_size)) {
    kept_.reserve(positions * vocab_size_);
  }

  void keep(std::span<const float> logits) { kept_.insert(kept_.end(), logits.begin(), logits.end()); }
  void compare(std::int64_t row, std::span<const float> logits) {
    const std::span<const float> ours =
        std::span(kept_).subspan(static_cast<std::size_t>(row) * vocab_size_, vocab_size_);
    const double our_sum = log_sum_exp(ours), their_sum = log_sum_exp(logits);
    double kl = 0;
    for (std::size_t i = 0; i < vocab_size_; ++i) {
      const double p = static_cast<double>(ours[i]) - our_sum, q = static_cast<double>(logits[i]) - their_sum;
      kl += std::exp(p) * (p - q);
    }
    sum_kl_ += kl;
    agreed_ += argmax(ours) == argmax(logits);
    ++rows_;
  }
  Comparison result(const Score& ours, const Score& theirs) const {
    Comparison c{theirs.perplexity(), sum_kl_ / rows_, 0, agreed_ / rows_};
    for (std::size_t i = 0; i < ours.logprobs.size(); ++i)
      c.max_logprob_difference = std::max(c.max_logprob_difference, std::abs(ours.logprobs[i] - theirs.logprobs[i]));
    return c;
  }

 private:
  std::size_t vocab_size_;
  std::vector<float> kept_;
  double sum_kl_ = 0, agreed_ = 0, rows_ = 0;
};

Json top_json(const std::vector<TokenLogprob>& top) {
  Json::Array list;
  for (const TokenLogprob& t : top) list.emplace_back(Json::Object{{"token_id", t.token_id}, {"logprob", t.logprob}});
  return list;
}

Json score_json(const Session& session, const std::vector<std::int32_t>& ids, const Score& score, bool with_top) {
  Json::Array logprobs{Json()}, top{Json()};
  for (std::size_t i = 0; i < score.logprobs.size(); ++i) {
    logprobs.emplace_back(score.logprobs[i]);
    top.push_back(i < score.top_logprobs.size() ? top_json(score.top_logprobs[i]) : Json(Json::Array{}));
  }
  Json result = Json::Object{{"model", session.name},
                             {"token_ids", to_json_list(ids)},
                             {"logprobs", std::move(logprobs)},
                             {"perplexity", score.perplexity()}};
  if (with_top) result.set("top_logprobs", std::move(top));
  return result;
}

Json comparison_json(const std::string& model, const Comparison& c) {
  return Json::Object{{"model", model},
                      {"perplexity", c.perplexity},
                      {"mean_kl", c.mean_kl},
                      {"max_logprob_difference", c.max_logprob_difference},
                      {"top_1_agreement", c.top_1_agreement}};
}

std::string plain(const Score& score, const std::string& against, const std::optional<Comparison>& c) {
  std::string text = to_json(score.perplexity()) + "\n";
  if (c)
    text += detail::join("against ", against, ": perplexity ", c->perplexity, ", mean KL divergence ", c->mean_kl,
                         ", largest difference of a log-probability ", c->max_logprob_difference,
                         ", likeliest token the same at ", 100 * c->top_1_agreement, " %\n");
  return text;
}

const std::string& other_model(const Options& o) { return o.score.against.empty() ? o.common.model : o.score.against; }

std::string other_name(const Options& o) {
  const std::string& kind = o.score.against_quantization;
  return other_model(o) + (kind.empty() || kind == "none" ? "" : " in " + kind);
}

Comparison compare(const Options& o, CommandContext& context, const std::vector<std::int32_t>& ids, const Score& ours,
                   Comparer& comparer, std::int64_t vocab_size) {
  CommonFlags flags = o.common;
  flags.quantization = o.score.against_quantization.empty() ? "none" : o.score.against_quantization;
  if (flags.quantization == "none") flags.quantization_overrides.clear();
  flags.kv_cache_dtype = "auto";
  const Session other = SessionBuilder(flags, other_model(o), context.environment, context.ranks).load();
  if (other.model->config().vocab_size != vocab_size)
    fail(ErrorCode::invalid_argument, "--against ", other_model(o), ": its vocabulary has ",
         other.model->config().vocab_size, " tokens, expected ", vocab_size, " as in ", o.common.model,
         remedy("compare models with the same tokenizer"));
  cajal::ScoreOptions options;
  options.on_logits = [&](std::int64_t row, std::span<const float> logits) {
    throw_if_interrupted();
    comparer.compare(row, logits);
  };
  return comparer.result(ours, score(*other.model, ids, other.max_model_len, options));
}

}  // namespace

void run_score(CommandContext& context) {
  const Options& o = context.options;
  SessionBuilder builder(o.common, o.common.model, context.environment, context.ranks);
  const std::vector<std::int32_t> ids = builder.prompt(o.prompt, o.chat, context.in);
  const Session session = std::move(builder).load();
  const std::int64_t vocab_size = session.model->config().vocab_size;
  const auto rows = static_cast<std::int64_t>(ids.size());

  std::optional<DeferInterrupts> defer;  // so that no half-written file stays behind
  std::optional<SafetensorsWriter> file;
  std::optional<Comparer> comparer;
  if (!o.score.dump_logits.empty()) defer.emplace();
  if (defer)
    file.emplace(o.score.dump_logits, std::vector<SafetensorsEntry>{{"logits", DType::f32, {rows, vocab_size}}});
  if (!o.score.against.empty() || !o.score.against_quantization.empty()) comparer.emplace(ids.size(), vocab_size);

  cajal::ScoreOptions options;
  options.num_top_logprobs = o.score.top_logprobs.value_or(0);
  options.on_logits = [&](std::int64_t, std::span<const float> logits) {
    throw_if_interrupted();
    if (file) file->append(std::as_bytes(logits));
    if (comparer) comparer->keep(logits);
  };
  const Score result = score(*session.model, ids, session.max_model_len, options);
  if (file) file->finish();
  std::optional<Comparison> comparison;
  if (comparer) comparison = compare(o, context, ids, result, *comparer, vocab_size);

  if (!o.json) return context.out.write(plain(result, other_name(o), comparison));
  Json json = score_json(session, ids, result, o.score.top_logprobs.has_value());
  if (comparison) json.set("against", comparison_json(other_name(o), *comparison));
  context.out.write(to_json(json) + "\n");
}

}  // namespace cajal::cli
