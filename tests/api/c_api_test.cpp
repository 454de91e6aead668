#include "cajal/c_api.h"

#include <gmock/gmock.h>

#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "api/api_fixture.h"

namespace cajal::testing {
namespace {

using ::testing::HasSubstr;

std::string to_text(cajal_string text) { return {text.data, text.size}; }
cajal_string to_c(std::string_view text) { return {text.data(), text.size()}; }  // which must outlive it

// Holds a call to its promises: a failure gives an error object with its code and a message, a success none.
class Outcome {
 public:
  cajal_error** error() { return &error_; }
  ~Outcome() { cajal_error_free(error_); }
  std::string message() const { return to_text(cajal_error_message(error_)); }

 private:
  cajal_error* error_ = nullptr;
};

template <class Call>
std::string failure(Call&& call, cajal_code expected = CAJAL_INVALID_ARGUMENT) {
  Outcome outcome;
  const cajal_code code = call(outcome.error());
  EXPECT_EQ(code, expected);
  EXPECT_EQ(cajal_error_code(*outcome.error()), code);
  EXPECT_EQ(call(static_cast<cajal_error**>(nullptr)), code) << "without an error object";
  return outcome.message();
}

template <class Call>
void succeed(Call&& call) {
  Outcome outcome;
  EXPECT_EQ(call(outcome.error()), CAJAL_OK) << outcome.message();
  EXPECT_EQ(*outcome.error(), nullptr);
}

class CApi : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = new TextModel;
    const EngineConfig from = model_->config();
    cajal_engine_config config;
    succeed([&](auto e) { return cajal_engine_config_init(&config, sizeof config, e); });
    EXPECT_EQ(to_text(config.device), "auto");
    EXPECT_EQ(config.max_num_seqs, 16);
    config.model = to_c(from.model);
    config.load_format = to_c(from.load_format);
    config.threads = 1;
    succeed([&](auto e) { return cajal_engine_open(&config, &engine_, e); });
    reference_ = new Engine(from);
  }
  static void TearDownTestSuite() {
    cajal_engine_close(engine_);
    delete reference_;
    delete model_;
  }
  static TextModel* model_;
  static Engine* reference_;
  static cajal_engine* engine_;
};
TextModel* CApi::model_ = nullptr;
Engine* CApi::reference_ = nullptr;
cajal_engine* CApi::engine_ = nullptr;

TEST_F(CApi, SaysItsVersion) {
  EXPECT_EQ(cajal_api_version(), CAJAL_API_VERSION);
  EXPECT_STREQ(cajal_version(), version());
}

TEST_F(CApi, CodesAreThoseOfCpp) {
  EXPECT_EQ(static_cast<int>(ErrorCode::invalid_argument), CAJAL_INVALID_ARGUMENT);
  EXPECT_EQ(static_cast<int>(ErrorCode::cancelled), CAJAL_CANCELLED);
  EXPECT_EQ(static_cast<int>(FinishReason::stop), CAJAL_FINISH_STOP);
  EXPECT_EQ(static_cast<int>(FinishReason::error), CAJAL_FINISH_ERROR);
  EXPECT_EQ(static_cast<int>(FinishReason::timeout), CAJAL_FINISH_TIMEOUT);
}

TEST_F(CApi, InfoIsThatOfCpp) {
  cajal_model_info info;
  info.struct_size = sizeof info;
  succeed([&](auto e) { return cajal_engine_info(engine_, &info, e); });
  const ModelInfo& expected = reference_->info();
  EXPECT_EQ(to_text(info.model_type), expected.model_type);
  EXPECT_EQ(info.num_parameters, expected.num_parameters);
  EXPECT_EQ(info.has_tokenizer, 1);
  ASSERT_EQ(info.num_eos_token_ids, 1u);
  EXPECT_EQ(info.eos_token_ids[0], expected.eos_token_ids[0]);
  EXPECT_EQ(info.pad_token_id, -1);
}

TEST_F(CApi, OlderProgramsGetWhatTheyKnowOf) {
  // The struct as a header would have it that ends before num_eos_token_ids.
  cajal_model_info info;
  std::memset(&info, 0x7f, sizeof info);
  info.struct_size = offsetof(cajal_model_info, num_eos_token_ids);
  succeed([&](auto e) { return cajal_engine_info(engine_, &info, e); });
  EXPECT_EQ(info.vocab_size, 151936);
  EXPECT_EQ(info.num_eos_token_ids, 0x7f7f7f7f7f7f7f7fu) << "beyond what the program knows of";
  cajal_sampling_params params;
  std::memset(&params, 0x7f, sizeof params);
  constexpr std::size_t kKnown = offsetof(cajal_sampling_params, stop);
  succeed([&](auto e) { return cajal_sampling_params_init(&params, kKnown, e); });
  params.max_tokens = 1;
  const cajal_prompt prompt{to_c("x"), nullptr, 0};
  cajal_results* results = nullptr;
  succeed([&](auto e) { return cajal_generate(engine_, &prompt, 1, &params, nullptr, nullptr, nullptr, &results, e); });
  cajal_results_free(results);
}

TEST_F(CApi, TokenizesThereAndBack) {
  const std::string text = "null" + std::string(1, '\0') + " and 神经";
  cajal_tokens* tokens = nullptr;
  succeed([&](auto e) { return cajal_tokenize(engine_, to_c(text), &tokens, e); });
  const std::vector<std::int32_t> ids(cajal_tokens_data(tokens), cajal_tokens_data(tokens) + cajal_tokens_size(tokens));
  EXPECT_EQ(ids, reference_->tokenize(text));
  cajal_tokens_free(tokens);
  cajal_text* back = nullptr;
  succeed([&](auto e) { return cajal_detokenize(engine_, ids.data(), ids.size(), 0, &back, e); });
  EXPECT_EQ(to_text(cajal_text_view(back)), text);
  cajal_text_free(back);
}

TEST_F(CApi, FillsInTheChatTemplate) {
  const char* const variables = R"({"messages":[{"role":"user","content":"Hi"}],"add_generation_prompt":true})";
  cajal_text* text = nullptr;
  cajal_tokens* tokens = nullptr;
  succeed([&](auto e) { return cajal_apply_chat_template(engine_, to_c(variables), &text, &tokens, e); });
  const ChatPrompt expected = reference_->apply_chat_template(std::string_view(variables));
  EXPECT_EQ(to_text(cajal_text_view(text)), expected.text);
  EXPECT_EQ(cajal_tokens_size(tokens), expected.token_ids.size());
  cajal_text_free(text);
  cajal_tokens_free(tokens);
  succeed([&](auto e) { return cajal_apply_chat_template(engine_, to_c(variables), nullptr, nullptr, e); });
  failure([&](auto e) { return cajal_apply_chat_template(nullptr, to_c(variables), nullptr, nullptr, e); });
  failure([&](auto e) { return cajal_apply_chat_template(engine_, to_c("[]"), nullptr, nullptr, e); });
}

struct Streamed {
  std::string text;
  std::vector<std::int32_t> ids;
  std::vector<double> logprobs;
  cajal_finish_reason finish_reason = CAJAL_FINISH_NONE;
  cajal_cancellation* cancel_at_third = nullptr;
};

void listen(void* user_data, const cajal_delta* delta) {
  auto& into = *static_cast<Streamed*>(user_data);
  EXPECT_EQ(delta->struct_size, sizeof *delta);
  into.text += to_text(delta->text);
  into.ids.insert(into.ids.end(), delta->token_ids, delta->token_ids + delta->num_token_ids);
  if (delta->logprobs)
    into.logprobs.insert(into.logprobs.end(), delta->logprobs, delta->logprobs + delta->num_token_ids);
  into.finish_reason = delta->finish_reason;
  if (into.cancel_at_third && into.ids.size() == 3) cajal_cancel(into.cancel_at_third);
}

TEST_F(CApi, GeneratesWhatCppGenerates) {
  cajal_sampling_params params;
  succeed([&](auto e) { return cajal_sampling_params_init(&params, sizeof params, e); });
  params.max_tokens = 12;
  params.temperature = 0.8;
  params.top_k = 50;
  params.seed = 5;
  params.has_seed = 1;
  params.logprobs = 2;
  const std::string stop = "never said, surely";
  const cajal_string stops[] = {to_c(stop)};
  params.stop = stops;
  params.num_stop = 1;
  const cajal_prompt prompt{to_c("Once upon a time"), nullptr, 0};
  Streamed streamed;
  cajal_results* results = nullptr;
  succeed(
      [&](auto e) { return cajal_generate(engine_, &prompt, 1, &params, listen, &streamed, nullptr, &results, e); });
  EXPECT_EQ(cajal_results_num_prompts(results), 1u);
  EXPECT_EQ(cajal_results_num_sequences(results), 1u);
  EXPECT_EQ(cajal_results_seed(results), 5u);
  cajal_completion completion;
  completion.struct_size = sizeof completion;
  succeed([&](auto e) { return cajal_results_get(results, 0, 0, &completion, e); });
  const GenerationResult expected = reference_->generate(
      "Once upon a time", {.max_tokens = 12, .temperature = 0.8, .top_k = 50, .seed = 5, .logprobs = 2});
  const Completion& wanted = expected.completions[0];
  ASSERT_EQ(completion.num_token_ids, wanted.token_ids.size());
  EXPECT_EQ(completion.num_top_logprobs, 2u);
  for (std::size_t i = 0; i < wanted.token_ids.size(); ++i) {
    EXPECT_EQ(completion.token_ids[i], wanted.token_ids[i]);
    EXPECT_EQ(completion.logprobs[i], wanted.logprobs[i].chosen.logprob);
    EXPECT_EQ(completion.top_logprobs[i * 2 + 1].token_id, wanted.logprobs[i].top[1].token_id);
  }
  EXPECT_EQ(to_text(completion.text), wanted.text);
  EXPECT_EQ(streamed.text, wanted.text);
  EXPECT_EQ(streamed.ids, wanted.token_ids);
  EXPECT_EQ(streamed.logprobs.size(), wanted.token_ids.size());
  EXPECT_EQ(streamed.finish_reason, completion.finish_reason);
  const std::int32_t* ids = nullptr;
  std::size_t size = 0;
  succeed([&](auto e) { return cajal_results_prompt_token_ids(results, 0, &ids, &size, e); });
  EXPECT_EQ(std::vector<std::int32_t>(ids, ids + size), expected.prompt_token_ids);
  failure([&](auto e) { return cajal_results_get(results, 1, 0, &completion, e); });
  failure([&](auto e) { return cajal_results_get(results, 0, 1, &completion, e); });
  failure([&](auto e) { return cajal_results_prompt_token_ids(results, 1, &ids, &size, e); });
  cajal_results_free(results);
}

TEST_F(CApi, CancelsFromACallback) {
  cajal_sampling_params params;
  cajal_sampling_params_init(&params, sizeof params, nullptr);
  params.max_tokens = 4000;
  params.ignore_eos = 1;
  cajal_cancellation* cancellation = nullptr;
  succeed([&](auto e) { return cajal_cancellation_new(&cancellation, e); });
  Streamed streamed;
  streamed.cancel_at_third = cancellation;
  const std::array<std::int32_t, 3> ids{1, 2, 3};
  const cajal_prompt prompt{{}, ids.data(), ids.size()};
  cajal_results* results = nullptr;
  succeed([&](auto e) {
    return cajal_generate(engine_, &prompt, 1, &params, listen, &streamed, cancellation, &results, e);
  });
  EXPECT_EQ(streamed.ids.size(), 3u);
  EXPECT_EQ(streamed.finish_reason, CAJAL_FINISH_ABORTED);
  cajal_results_free(results);
  cajal_score_result* score = nullptr;
  failure([&](auto e) { return cajal_score(engine_, &prompt, 0, cancellation, &score, e); }, CAJAL_CANCELLED);
  cajal_cancellation_free(cancellation);
}

TEST_F(CApi, TellsWhatAnAnswerCost) {
  const std::vector<std::int32_t> ids(130, 17);
  const cajal_prompt prompt{{}, ids.data(), ids.size()};
  cajal_sampling_params params;
  cajal_sampling_params_init(&params, sizeof params, nullptr);
  EXPECT_EQ(params.timeout_ms, CAJAL_UNSET_INTEGER);
  EXPECT_EQ(params.priority, 0);
  params.max_tokens = 2;
  params.ignore_eos = 1;
  params.priority = -1;
  const auto run = [&] {
    cajal_results* results = nullptr;
    cajal_completion c;
    c.struct_size = sizeof c;
    succeed(
        [&](auto e) { return cajal_generate(engine_, &prompt, 1, &params, nullptr, nullptr, nullptr, &results, e); });
    succeed([&](auto e) { return cajal_results_get(results, 0, 0, &c, e); });
    cajal_results_free(results);
    return c;  // of which its numbers live on
  };
  const std::string salt = "tenant";
  params.cache_salt = to_c(salt);
  const cajal_completion first = run();
  EXPECT_EQ(first.cached_tokens, 0);
  EXPECT_GE(first.queue_seconds, 0);
  EXPECT_GT(first.ttft_seconds, first.queue_seconds);
  EXPECT_GT(first.e2e_seconds, first.ttft_seconds);
  EXPECT_EQ(run().cached_tokens, 128);
  params.cache_salt = {};
  EXPECT_EQ(run().cached_tokens, 0);
  params.timeout_ms = 0;
  const cajal_completion none = run();
  EXPECT_EQ(none.finish_reason, CAJAL_FINISH_TIMEOUT);
  EXPECT_TRUE(std::isnan(none.ttft_seconds));
  EXPECT_EQ(none.queue_seconds, none.e2e_seconds);
  params.priority = std::int64_t{1} << 40;
  cajal_results* results = nullptr;
  EXPECT_THAT(failure([&](auto e) {
                return cajal_generate(engine_, &prompt, 1, &params, nullptr, nullptr, nullptr, &results, e);
              }),
              HasSubstr("priority is 1099511627776"));
}

TEST_F(CApi, AProgramOfAnOlderHeaderIsToldNothingOfCosts) {
  const cajal_prompt prompt{to_c("x"), nullptr, 0};
  cajal_results* results = nullptr;
  succeed([&](auto e) { return cajal_generate(engine_, &prompt, 1, nullptr, nullptr, nullptr, nullptr, &results, e); });
  cajal_completion completion;
  std::memset(&completion, 0x7f, sizeof completion);
  completion.struct_size = offsetof(cajal_completion, cached_tokens);
  succeed([&](auto e) { return cajal_results_get(results, 0, 0, &completion, e); });
  EXPECT_GT(completion.num_token_ids, 0u);
  EXPECT_EQ(completion.cached_tokens, 0x7f7f7f7f7f7f7f7f);
  cajal_results_free(results);
}

TEST_F(CApi, GivesMetricsAndGuessesAsItIsTold) {
  const std::string model = golden_folder();
  cajal_engine_config config;
  cajal_engine_config_init(&config, sizeof config, nullptr);
  EXPECT_EQ(config.enable_prefix_caching, 1);
  EXPECT_EQ(config.num_assistant_tokens, 5);
  config.model = to_c(model);
  config.threads = 1;
  config.assistant_model = to_c(model);
  config.num_assistant_tokens = 2;
  config.enable_prefix_caching = 0;
  cajal_engine* engine = nullptr;
  succeed([&](auto e) { return cajal_engine_open(&config, &engine, e); });
  cajal_text* text = nullptr;
  succeed([&](auto e) { return cajal_metrics_text(engine, &text, e); });
  const std::string metrics = to_text(cajal_text_view(text));
  EXPECT_THAT(metrics, HasSubstr("vllm:spec_decode_num_accepted_tokens_per_pos_total{engine=\"0\",model_name=\"" +
                                 model + "\",position=\"1\"} 0"));
  EXPECT_THAT(metrics, HasSubstr("enable_prefix_caching=\"False\""));
  cajal_text_free(text);
  cajal_engine_close(engine);
  failure([&](auto e) { return cajal_metrics_text(nullptr, &text, e); });
  config.prompt_lookup_num_tokens = 3;
  EXPECT_THAT(failure([&](auto e) { return cajal_engine_open(&config, &engine, e); }),
              HasSubstr("prompt_lookup_num_tokens"));
}

TEST_F(CApi, RoundsWeightsAsItIsTold) {
  const std::string model = golden_folder();
  cajal_engine_config config;
  cajal_engine_config_init(&config, sizeof config, nullptr);
  EXPECT_EQ(to_text(config.quantization), "none");
  EXPECT_EQ(config.quantization_group_size, 32);
  EXPECT_EQ(to_text(config.kv_cache_dtype), "auto");
  config.model = to_c(model);
  config.threads = 1;
  config.device = to_c("cpu");
  const auto weight_bytes = [&] {
    cajal_engine* engine = nullptr;
    succeed([&](auto e) { return cajal_engine_open(&config, &engine, e); });
    cajal_model_info info;
    info.struct_size = sizeof info;
    succeed([&](auto e) { return cajal_engine_info(engine, &info, e); });
    cajal_engine_close(engine);
    return info.weight_bytes;
  };
  const std::uint64_t whole = weight_bytes();
  config.quantization = to_c("int8");
  const std::uint64_t rounded = weight_bytes();
  EXPECT_LT(rounded, whole * 2 / 3);
  config.quantization_overrides = to_c("embed_tokens=none");
  EXPECT_GT(weight_bytes(), rounded);
  cajal_engine* engine = nullptr;
  config.quantization_group_size = -5;
  EXPECT_THAT(failure([&](auto e) { return cajal_engine_open(&config, &engine, e); }), HasSubstr("expected 32 or 128"));
  config.quantization_group_size = 32;
  config.quantization = to_c("int3");
  EXPECT_THAT(failure([&](auto e) { return cajal_engine_open(&config, &engine, e); }), HasSubstr("'int3'"));
}

TEST_F(CApi, SharesAModelOutOverRanksAsItIsTold) {
  cajal_engine_config config;
  cajal_engine_config_init(&config, sizeof config, nullptr);
  EXPECT_EQ(config.tensor_parallel_size, 0);
  EXPECT_EQ(config.expert_parallel_size, 0);
  EXPECT_EQ(config.capacity_factor, 0);
  const std::string model = golden_folder();
  config.model = to_c(model);
  config.device = to_c("cpu");
  config.tensor_parallel_size = 2;
  cajal_engine* engine = nullptr;
  succeed([&](auto e) { return cajal_engine_open(&config, &engine, e); });
  cajal_model_info info;
  info.struct_size = sizeof info;
  succeed([&](auto e) { return cajal_engine_info(engine, &info, e); });
  EXPECT_THAT(to_text(info.device), HasSubstr("2 threads as ranks"));
  cajal_engine_close(engine);
  config.tensor_parallel_size = std::int64_t{1} << 40;
  EXPECT_THAT(failure([&](auto e) { return cajal_engine_open(&config, &engine, e); }),
              HasSubstr("tensor_parallel_size"));
  config.tensor_parallel_size = 0;
  config.capacity_factor = 1.5;
  EXPECT_THAT(failure([&](auto e) { return cajal_engine_open(&config, &engine, e); }), HasSubstr("capacity_factor"));
}

TEST_F(CApi, SubmitsAndAborts) {
  const cajal_prompt prompt{to_c("x"), nullptr, 0};
  std::uint64_t id = 0;
  succeed([&](auto e) { return cajal_submit(engine_, &prompt, nullptr, nullptr, nullptr, &id, e); });
  EXPECT_GT(id, 0u);
  cajal_abort(engine_, id);
  cajal_abort(engine_, 999999);
}

TEST_F(CApi, ScoresWhatCppScores) {
  const cajal_prompt prompt{to_c("Once upon a time"), nullptr, 0};
  cajal_score_result* result = nullptr;
  succeed([&](auto e) { return cajal_score(engine_, &prompt, 2, nullptr, &result, e); });
  cajal_score_view view;
  view.struct_size = sizeof view;
  succeed([&](auto e) { return cajal_score_result_view(result, &view, e); });
  const ScoreResult expected = reference_->score("Once upon a time", {.top_logprobs = 2});
  ASSERT_EQ(view.num_token_ids, expected.token_ids.size());
  EXPECT_EQ(std::vector<double>(view.logprobs, view.logprobs + view.num_token_ids - 1), expected.logprobs);
  EXPECT_EQ(view.num_top_logprobs, 2u);
  EXPECT_EQ(view.top_logprobs[3].logprob, expected.top_logprobs[1][1].logprob);
  EXPECT_EQ(view.perplexity, expected.perplexity);
  cajal_score_result_free(result);
}

TEST_F(CApi, ErrorsHaveARemedy) {
  cajal_engine_config config;
  cajal_engine_config_init(&config, sizeof config, nullptr);
  const std::string folder = "/no/such/folder";
  config.model = to_c(folder);
  cajal_engine* engine = engine_;
  Outcome outcome;
  EXPECT_EQ(cajal_engine_open(&config, &engine, outcome.error()), CAJAL_NOT_FOUND);
  EXPECT_EQ(engine, nullptr);
  EXPECT_THAT(outcome.message(), HasSubstr(folder));
  EXPECT_THAT(to_text(cajal_error_remedy(*outcome.error())), HasSubstr("check the path"));
}

TEST_F(CApi, EveryFunctionTakesNullForWhatItNeeds) {
  cajal_engine_config config;
  cajal_engine_config_init(&config, sizeof config, nullptr);
  cajal_engine* engine = nullptr;
  cajal_tokens* tokens = nullptr;
  cajal_text* text = nullptr;
  cajal_results* results = nullptr;
  cajal_score_result* score = nullptr;
  cajal_model_info info;
  info.struct_size = sizeof info;
  const cajal_prompt prompt{to_c("x"), nullptr, 0};
  std::uint64_t id = 0;
  const std::int32_t* ids = nullptr;
  std::size_t size = 0;
  const auto says_null = [](auto call) { EXPECT_THAT(failure(call), HasSubstr("NULL")); };
  says_null([&](auto e) { return cajal_engine_config_init(nullptr, sizeof config, e); });
  says_null([&](auto e) { return cajal_sampling_params_init(nullptr, sizeof(cajal_sampling_params), e); });
  says_null([&](auto e) { return cajal_engine_open(nullptr, &engine, e); });
  says_null([&](auto e) { return cajal_engine_open(&config, nullptr, e); });
  says_null([&](auto e) { return cajal_engine_info(nullptr, &info, e); });
  says_null([&](auto e) { return cajal_engine_info(engine_, nullptr, e); });
  says_null([&](auto e) { return cajal_tokenize(nullptr, {}, &tokens, e); });
  says_null([&](auto e) { return cajal_tokenize(engine_, {}, nullptr, e); });
  says_null([&](auto e) { return cajal_detokenize(nullptr, nullptr, 0, 0, &text, e); });
  says_null([&](auto e) { return cajal_detokenize(engine_, nullptr, 0, 0, nullptr, e); });
  says_null([&](auto e) { return cajal_detokenize(engine_, nullptr, 1, 0, &text, e); });
  says_null([&](auto e) { return cajal_cancellation_new(nullptr, e); });
  const auto generate = [&](cajal_engine* on, const cajal_prompt* prompts, cajal_results** into, cajal_error** e) {
    return cajal_generate(on, prompts, 1, nullptr, nullptr, nullptr, nullptr, into, e);
  };
  says_null([&](auto e) { return generate(nullptr, &prompt, &results, e); });
  says_null([&](auto e) { return generate(engine_, nullptr, &results, e); });
  says_null([&](auto e) { return generate(engine_, &prompt, nullptr, e); });
  says_null([&](auto e) { return cajal_submit(nullptr, &prompt, nullptr, nullptr, nullptr, &id, e); });
  says_null([&](auto e) { return cajal_submit(engine_, nullptr, nullptr, nullptr, nullptr, &id, e); });
  says_null([&](auto e) { return cajal_submit(engine_, &prompt, nullptr, nullptr, nullptr, nullptr, e); });
  says_null([&](auto e) { return cajal_score(nullptr, &prompt, 0, nullptr, &score, e); });
  says_null([&](auto e) { return cajal_score(engine_, nullptr, 0, nullptr, &score, e); });
  says_null([&](auto e) { return cajal_score(engine_, &prompt, 0, nullptr, nullptr, e); });
  says_null([&](auto e) { return cajal_score_result_view(nullptr, nullptr, e); });
  says_null([&](auto e) { return cajal_results_get(nullptr, 0, 0, nullptr, e); });
  says_null([&](auto e) { return cajal_results_prompt_token_ids(nullptr, 0, &ids, &size, e); });
  failure([&](auto e) { return cajal_set_log_level({nullptr, 3}, e); });
  failure([&](auto e) { return cajal_tokenize(engine_, {nullptr, 3}, &tokens, e); });
  EXPECT_EQ(cajal_error_code(nullptr), CAJAL_OK);
  EXPECT_EQ(cajal_error_message(nullptr).size, 0u);
  EXPECT_EQ(cajal_error_remedy(nullptr).size, 0u);
  EXPECT_EQ(cajal_tokens_data(nullptr), nullptr);
  EXPECT_EQ(cajal_tokens_size(nullptr), 0u);
  EXPECT_EQ(cajal_text_view(nullptr).size, 0u);
  EXPECT_EQ(cajal_results_num_prompts(nullptr), 0u);
  EXPECT_EQ(cajal_results_num_sequences(nullptr), 0u);
  EXPECT_EQ(cajal_results_seed(nullptr), 0u);
  cajal_error_free(nullptr);
  cajal_engine_close(nullptr);
  cajal_tokens_free(nullptr);
  cajal_text_free(nullptr);
  cajal_results_free(nullptr);
  cajal_score_result_free(nullptr);
  cajal_cancellation_free(nullptr);
  cajal_cancel(nullptr);
  cajal_abort(nullptr, 1);
}

TEST_F(CApi, RefusesStructsThatAreNotItsOwn) {
  const auto says_size = [](auto call) { EXPECT_THAT(failure(call), HasSubstr("struct_size is ")); };
  cajal_engine_config config;
  cajal_engine* engine = nullptr;
  const cajal_prompt prompt{to_c("x"), nullptr, 0};
  cajal_results* results = nullptr;
  for (const std::size_t wrong : {std::size_t{0}, std::size_t{4}, std::size_t{100000}}) {
    says_size([&](auto e) { return cajal_engine_config_init(&config, wrong, e); });
    cajal_engine_config_init(&config, sizeof config, nullptr);
    config.struct_size = wrong;
    says_size([&](auto e) { return cajal_engine_open(&config, &engine, e); });
    cajal_sampling_params params;
    cajal_sampling_params_init(&params, sizeof params, nullptr);
    params.struct_size = wrong;
    says_size(
        [&](auto e) { return cajal_generate(engine_, &prompt, 1, &params, nullptr, nullptr, nullptr, &results, e); });
    cajal_model_info info;
    info.struct_size = wrong;
    says_size([&](auto e) { return cajal_engine_info(engine_, &info, e); });
  }
}

TEST_F(CApi, RefusesParametersThatMakeNoSense) {
  const auto refused = [&](auto change) {
    cajal_sampling_params params;
    cajal_sampling_params_init(&params, sizeof params, nullptr);
    change(params);
    const cajal_prompt prompt{to_c("x"), nullptr, 0};
    cajal_results* results = nullptr;
    return failure(
        [&](auto e) { return cajal_generate(engine_, &prompt, 1, &params, nullptr, nullptr, nullptr, &results, e); });
  };
  EXPECT_THAT(refused([](auto& p) { p.temperature = INFINITY; }), HasSubstr("temperature"));
  EXPECT_THAT(refused([](auto& p) { p.logprobs = -1; }), HasSubstr("logprobs"));
  EXPECT_THAT(refused([](auto& p) { p.num_stop = 1; }), HasSubstr("stop"));
  EXPECT_THAT(refused([](auto& p) { p.num_stop_token_ids = 1; }), HasSubstr("stop_token_ids"));
  EXPECT_THAT(refused([](auto& p) { p.n = 2000; }), HasSubstr("n is 2000"));
}

}  // namespace
}  // namespace cajal::testing
