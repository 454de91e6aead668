#include "engine/observability/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "engine/observability/prometheus.h"
#include "engine/observability/prometheus_parser.h"

namespace cajal {
namespace {

using std::chrono::milliseconds;

const EngineMetricsOptions kOptions{.model_name = "Qwen/Qwen3-0.6B",
                                    .max_model_len = 4096,
                                    .max_draft_tokens = 4,
                                    .kv_block_size = 16,
                                    .num_kv_blocks = 100};

PrometheusParser parsed(const EngineMetrics& metrics) {
  PrometheusParser parser;
  EXPECT_EQ(parser.parse(metrics.prometheus_text()), "");
  return parser;
}

// Something that an engine may tell, at random.
void tell_anything(EngineMetrics& m, std::mt19937& rng) {
  const auto up_to = [&](int n) { return static_cast<std::int64_t>(rng() % static_cast<unsigned>(n + 1)); };
  RequestTimings t{.arrived = milliseconds(up_to(1000))};
  t.num_cached_tokens = up_to(50);
  t.on_scheduled(t.arrived + milliseconds(up_to(3000)));
  for (auto n = 1 + up_to(3), i = std::int64_t{0}; i < n; ++i) t.on_token(*t.first_scheduled + milliseconds(10 * i));
  switch (rng() % 9) {
    case 0: m.on_request_added(1 + up_to(30), up_to(9000)); break;
    case 1: m.on_request_refused(rng() % 2 ? ErrorCode::unavailable : ErrorCode::invalid_argument); break;
    case 2: m.on_preempted(); break;
    case 3:
      m.on_step({.num_prefill_tokens = up_to(40000),
                 .num_decode_tokens = up_to(64),
                 .prefix_cache_queries = up_to(100),
                 .duration = milliseconds(up_to(100000)),
                 .host_time = milliseconds(up_to(2000)),
                 .load = {up_to(64), up_to(64), 0.5}});
      break;
    case 4: m.on_first_token(t, 50 + up_to(5000)); break;
    case 5: m.on_tokens(static_cast<double>(up_to(100000)) / 1000, 1 + up_to(4)); break;
    case 6: m.on_draft(4, up_to(4)); break;
    case 7:
      t.on_finished(*t.last_token + milliseconds(up_to(100)));
      m.on_sequence_finished({static_cast<FinishReason>(rng() % 6), t, up_to(5000)});
      break;
    default: m.on_failure(static_cast<EngineFailure>(rng() % 3)); break;
  }
}

TEST(Histogram, ObservationsFallIntoTheFirstBucketThatHoldsThem) {
  const double bounds[] = {1, 2, 5};
  prometheus::Histogram h(bounds);
  for (const double value : {0.0, 1.0, 1.5, 2.0, 2.5, 5.0, 5.5, 1e9}) h.observe(value);
  const auto s = h.snapshot();
  EXPECT_EQ(s.buckets, (std::vector<std::int64_t>{2, 2, 2, 2}));
  EXPECT_EQ(s.count, 8);
  EXPECT_DOUBLE_EQ(s.sum, 17.5 + 1e9);
}

TEST(Histogram, BucketsOfLengthsGoOneTwoFive) {
  EXPECT_EQ(prometheus::buckets_1_2_5(100), (std::vector<double>{1, 2, 5, 10, 20, 50, 100}));
  EXPECT_EQ(prometheus::buckets_1_2_5(1), std::vector<double>{1});
  EXPECT_EQ(prometheus::buckets_1_2_5(49).back(), 20);
}

TEST(EngineMetrics, TextIsValidAndNoCounterEverFalls) {
  std::mt19937 rng(7);
  EngineMetrics metrics(kOptions);
  PrometheusParser before = parsed(metrics);
  for (int round = 0; round < 30; ++round) {
    for (int i = 0; i < 40; ++i) tell_anything(metrics, rng);
    PrometheusParser after = parsed(metrics);
    ASSERT_EQ(after.families.size(), before.families.size());
    for (const auto& [name, family] : before.families)
      for (std::size_t i = 0; i < family.samples.size(); ++i) {
        const PrometheusSample& now = after.families.at(name).samples.at(i);
        EXPECT_EQ(now.labels, family.samples[i].labels) << name;
        if (family.type != "gauge") {
          EXPECT_GE(now.value, family.samples[i].value) << now.name;
        }
      }
    before = std::move(after);
  }
}

TEST(EngineMetrics, EverySeriesNamesModelAndEngineWhateverTheyAreCalled) {
  const std::string name = "a \\ \"quoted\"\nname, {x=\"1\"} \xe2\x82\xac";
  const auto p = parsed(EngineMetrics({.model_name = name, .engine = 3}));
  for (const auto& [family_name, family] : p.families)
    for (const PrometheusSample& s : family.samples) {
      EXPECT_EQ(s.labels.at("model_name"), name) << s.name;
      EXPECT_EQ(s.labels.at("engine"), "3") << s.name;
    }
  const auto broken = parsed(EngineMetrics({.model_name = "\xff!"}));
  EXPECT_EQ(broken.value("vllm:num_preemptions_total", {{"model_name", "\xef\xbf\xbd!"}}), 0) << "text is UTF-8";
}

TEST(EngineMetrics, BothGenerationsOfNamesSayTheSame) {
  std::mt19937 rng(3);
  EngineMetrics metrics(kOptions);
  for (int i = 0; i < 500; ++i) tell_anything(metrics, rng);
  metrics.on_step({.prefix_cache_queries = 9, .prefix_cache_hits = 4, .load = {3, 2, 0.25}});
  const auto p = parsed(metrics);
  for (const auto& [now, once] : {std::pair{"vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"},
                                  {"vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"},
                                  {"vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"},
                                  {"vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"}}) {
    const auto &a = p.families.at(now), &b = p.families.at(once);
    ASSERT_EQ(a.samples.size(), b.samples.size());
    EXPECT_EQ(a.type, b.type);
    for (std::size_t i = 0; i < a.samples.size(); ++i) {
      EXPECT_EQ(a.samples[i].value, b.samples[i].value) << now;
      EXPECT_EQ(a.samples[i].labels, b.samples[i].labels) << now;
    }
  }
}

// One request of two sequences: the first is answered with three tokens, of which two come together, the second aborted
// while it waits.
TEST(EngineMetrics, CountWhatHappened) {
  EngineMetrics m(kOptions);
  m.on_request_added(2, 100);
  m.on_load({0, 2, 0});
  RequestTimings first{.arrived = milliseconds(1000)}, second{.arrived = milliseconds(1000)};
  first.on_scheduled(milliseconds(1400));
  first.num_cached_tokens = 16;
  m.on_step({.num_prefill_tokens = 24,
             .prefix_cache_queries = 40,
             .prefix_cache_hits = 16,
             .duration = milliseconds(90),
             .host_time = milliseconds(1),
             .load = {1, 1, 0.03}});
  first.on_token(milliseconds(1500));
  m.on_first_token(first, 40);
  m.on_draft(4, 2);
  m.on_step({.num_decode_tokens = 5, .duration = milliseconds(20), .load = {1, 1, 0.03}});
  first.on_token(milliseconds(1530));
  first.on_token(milliseconds(1530));
  m.on_tokens(0.03, 2);
  first.on_finished(milliseconds(1530));
  m.on_sequence_finished({FinishReason::stop, first, 40});
  second.on_finished(milliseconds(1600));
  m.on_sequence_finished({FinishReason::interrupted, second, 40});
  m.on_load({});

  const auto p = parsed(m);
  const auto is = [&](const char* name, double expected, const PrometheusLabels& labels = {}) {
    EXPECT_DOUBLE_EQ(p.value(name, labels), expected) << name;
  };
  is("vllm:num_requests_running", 0);
  is("vllm:kv_cache_usage_perc", 0);
  is("vllm:prompt_tokens_total", 40);
  is("cajal:cached_prompt_tokens_total", 16);
  is("vllm:generation_tokens_total", 3);
  is("vllm:prefix_cache_queries_total", 40);
  is("vllm:prefix_cache_hits_total", 16);
  is("vllm:iteration_tokens_total_sum", 29);
  is("vllm:iteration_tokens_total_count", 2);
  is("cajal:step_tokens_total", 24, {{"phase", "prefill"}});
  is("cajal:step_tokens_total", 5, {{"phase", "decode"}});
  is("vllm:time_to_first_token_seconds_sum", 0.5);
  is("vllm:time_to_first_token_seconds_bucket", 1, {{"le", "0.5"}});
  is("vllm:time_to_first_token_seconds_bucket", 0, {{"le", "0.25"}});
  is("vllm:inter_token_latency_seconds_count", 1);
  is("vllm:request_time_per_output_token_seconds_sum", 0.015);
  is("vllm:e2e_request_latency_seconds_count", 2);
  is("vllm:e2e_request_latency_seconds_sum", 0.53 + 0.6);
  is("vllm:request_queue_time_seconds_sum", 0.4 + 0.6);
  is("vllm:request_prefill_time_seconds_sum", 0.1);
  is("vllm:request_decode_time_seconds_sum", 0.03);
  is("vllm:request_inference_time_seconds_sum", 0.13);
  is("vllm:request_prompt_tokens_sum", 80);
  is("vllm:request_generation_tokens_sum", 3);
  is("vllm:request_params_n_sum", 2);
  is("vllm:request_params_max_tokens_bucket", 1, {{"le", "100.0"}});
  is("vllm:request_success_total", 1, {{"finished_reason", "stop"}});
  is("vllm:request_success_total", 1, {{"finished_reason", "abort"}});
  is("vllm:spec_decode_num_drafts_total", 1);
  is("vllm:spec_decode_num_draft_tokens_total", 4);
  is("vllm:spec_decode_num_accepted_tokens_total", 2);
  is("vllm:spec_decode_num_accepted_tokens_per_pos_total", 1, {{"position", "0"}});
  is("vllm:spec_decode_num_accepted_tokens_per_pos_total", 1, {{"position", "1"}});
  is("vllm:spec_decode_num_accepted_tokens_per_pos_total", 0, {{"position", "2"}});
  is("vllm:cache_config_info", 1, {{"block_size", "16"}, {"num_gpu_blocks", "100"}});
  is("cajal:step_duration_seconds_sum", 0.11);
  is("cajal:step_host_seconds_sum", 0.001);
}

TEST(EngineMetrics, EveryEndIsCountedAsOneOfVllmsAndFailuresByTheirOwnNames) {
  EngineMetrics m(kOptions);
  RequestTimings t;
  t.on_finished(milliseconds(1));
  for (int i = 0; i < 6; ++i) m.on_sequence_finished({static_cast<FinishReason>(i), t, 1});
  const auto p = parsed(m);
  for (const auto& [reason, n] : {std::pair{"stop", 1}, {"length", 1}, {"abort", 2}, {"error", 2}})
    EXPECT_EQ(p.value("vllm:request_success_total", {{"finished_reason", reason}}), n) << reason;
  for (const char* reason : {"numerical_error", "deadline_exceeded", "error"})
    EXPECT_EQ(p.value("cajal:request_failures_total", {{"reason", reason}}), 1) << reason;
}

TEST(EngineMetrics, BoundsAreWrittenAsPythonsClientWritesThem) {
  const std::string text = EngineMetrics({.max_model_len = 2'000'000}).prometheus_text();
  for (const char* le : {"1e-05", "0.0001", "0.001", "0.5", "1.0", "2560.0", "500000.0", "1e+06", "2e+06", "+Inf"})
    EXPECT_THAT(text, testing::HasSubstr("le=\"" + std::string(le) + "\"}"));
}

TEST(EngineMetrics, WithoutGuessingNothingIsSaidOfIt) {
  EXPECT_THAT(EngineMetrics({}).prometheus_text(), testing::Not(testing::HasSubstr("spec_decode")));
}

TEST(EngineMetrics, ReadersSeeValidTextWhileOthersRecordAndNothingIsLost) {
  constexpr int kWriters = 2, kTokens = 20'000;
  EngineMetrics metrics(kOptions);
  std::atomic<int> ready{0}, done{0};
  std::vector<std::thread> writers;
  for (unsigned w = 0; w < kWriters; ++w)
    writers.emplace_back([&, w] {
      std::mt19937 rng(w);
      for (++ready; ready < kWriters;) std::this_thread::yield();  // so that they meet
      for (int i = 0; i < kTokens; ++i) metrics.on_tokens(0.25 * static_cast<double>(rng() % 8));
      ++done;
    });
  for (double last = 0; done < kWriters;) {
    const double now = parsed(metrics).value("vllm:inter_token_latency_seconds_count");
    EXPECT_GE(now, last);
    last = now;
  }
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(parsed(metrics).value("vllm:generation_tokens_total"), kWriters * kTokens);
  EXPECT_EQ(parsed(metrics).value("vllm:inter_token_latency_seconds_count"), kWriters * kTokens);
}

// The parser is what these tests stand on, so it must itself say no.
TEST(PrometheusParser, RefusesWhatAScraperWould) {
  for (const char* text : {"a 1", "a 1\n", "# HELP a b\na 1\n", "# HELP a b\n# TYPE a counter\na 1\n",
                           "# HELP a b\n# TYPE a gauge\n", "# HELP a b\n# TYPE a gauge\na one\n",
                           "# HELP a b\n# TYPE a gauge\na 1\na 1\n", "# HELP a b\n# TYPE a gauge\nb 1\n",
                           "# HELP a b\n# TYPE a gauge\na{x=\"\\t\"} 1\n", "# HELP a b\n# TYPE a gauge\na{x=\"1} 1\n",
                           "# HELP a b\n# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 2\n",
                           "# HELP a b\n# TYPE a histogram\na_bucket{le=\"1\"} 1\na_sum 1\na_count 1\n"})
    EXPECT_NE(PrometheusParser().parse(text), "") << text;
}

}  // namespace
}  // namespace cajal
