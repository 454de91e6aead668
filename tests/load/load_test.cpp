#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "base/error.h"
#include "load/arrivals.h"
#include "load/prompts.h"
#include "load/report.h"
#include "load/run_load.h"
#include "load/statistics.h"
#include "load/stream_reader.h"

namespace cajal::load {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

const Tokenizer& demo_tokenizer() {
  static const Tokenizer tokenizer = Tokenizer::from_folder(CAJAL_SOURCE_DIR "/share/demo-model");
  return tokenizer;
}

std::string refusal(const auto& body) {
  try {
    body();
  } catch (const Error& e) {
    return e.message();
  }
  return "(accepted)";
}

// --- arrivals ---

TEST(Arrivals, AscendToTheTimeThatTheRateSaysWhateverTheSeed) {
  for (const std::uint64_t seed : {0, 1, 77}) {
    for (const double burstiness : {0.05, 0.5, 1.0, 4.0, kInfinity}) {
      const auto times = arrival_times(500, 25, burstiness, seed);
      ASSERT_EQ(times.size(), 500U);
      EXPECT_NEAR(times.back(), 20, 1e-9);
      for (std::size_t i = 1; i < times.size(); ++i) ASSERT_LE(times[i - 1], times[i]);
    }
  }
  EXPECT_EQ(arrival_times(3, kInfinity, 1, 0), (std::vector<double>{0, 0, 0}));
  EXPECT_TRUE(arrival_times(0, 1, 1, 0).empty());
}

// The gaps of a gamma distribution of shape b have a coefficient of variation of 1 / sqrt(b).
TEST(Arrivals, AreAsBurstyAsTheyAreToldTo) {
  for (const double burstiness : {0.25, 1.0, 9.0, kInfinity}) {
    const auto times = arrival_times(20000, 1, burstiness, 3);
    double sum = 0, squares = 0;
    for (std::size_t i = 1; i < times.size(); ++i) {
      const double gap = times[i] - times[i - 1];
      sum += gap;
      squares += gap * gap;
    }
    const double n = 19999, mean = sum / n;
    EXPECT_NEAR(std::sqrt(std::max(0.0, squares / n - mean * mean)) / mean, 1 / std::sqrt(burstiness), 0.05)
        << burstiness;
  }
}

TEST(Arrivals, AreAFunctionOfTheSeed) {
  EXPECT_EQ(arrival_times(50, 2, 1, 8), arrival_times(50, 2, 1, 8));
  EXPECT_NE(arrival_times(50, 2, 1, 8), arrival_times(50, 2, 1, 9));
}

// --- statistics ---

TEST(Percentile, IsLinearBetweenNeighbours) {
  const std::vector<double> values = {1, 2, 4, 8};
  EXPECT_EQ(percentile(values, 0), 1);
  EXPECT_EQ(percentile(values, 100), 8);
  EXPECT_EQ(percentile(values, 50), 3);
  EXPECT_DOUBLE_EQ(percentile(values, 90), 4 + 0.7 * 4);
  EXPECT_EQ(percentile(std::vector<double>{5}, 99), 5);
  EXPECT_EQ(percentile({}, 50), 0);
}

TEST(Distribution, DoesNotDependOnTheOrder) {
  const std::vector<double> percentiles = {25, 99};
  const Distribution d = distribution_of({4, 1, 3, 2}, percentiles);
  EXPECT_EQ(d.mean, 2.5);
  EXPECT_EQ(d.median, 2.5);
  EXPECT_DOUBLE_EQ(d.std, std::sqrt(1.25));
  EXPECT_EQ(d.percentiles[0], std::make_pair(25.0, 1.75));
  EXPECT_EQ(distribution_of({}, percentiles).mean, 0);
}

RequestOutcome outcome(double start, double ttft, std::vector<double> itl) {
  RequestOutcome o;
  o.start = start;
  o.ttft = ttft;
  o.itl = std::move(itl);
  o.latency = ttft;
  for (const double gap : o.itl) o.latency += gap;
  o.prompt_len = 10;
  o.output_tokens = static_cast<std::int64_t>(o.itl.size()) + 1;
  return o;
}

TEST(Summary, CountsWhatWasAnsweredAndHowWell) {
  std::vector<RequestOutcome> all = {outcome(0, 0.5, {0.25, 0.25}), outcome(1, 2.0, {}), outcome(1.5, 0.25, {0.75}),
                                     outcome(0, 9, {9})};
  all[3].error = "HTTP 500";
  const std::vector<double> percentiles = {99};
  const Summary s = summarize(all, 4, percentiles, {.ttft = 1.0, .tpot = 0.5});
  EXPECT_EQ(s.completed, 3);
  EXPECT_EQ(s.failed, 1);
  EXPECT_EQ(s.good, 1);  // the second is late, the third slow, the fourth failed
  EXPECT_EQ(s.total_input_tokens, 30);
  EXPECT_EQ(s.total_output_tokens, 6);
  EXPECT_EQ(s.request_throughput(), 0.75);
  EXPECT_EQ(s.output_throughput(), 1.5);
  EXPECT_EQ(s.total_token_throughput(), 9);
  EXPECT_EQ(s.ttft.median, 0.5);
  EXPECT_EQ(s.tpot.mean, 0.5);  // of 0.25 and 0.75: one token has no time per token after the first
  EXPECT_EQ(s.itl.median, 0.25);
  EXPECT_EQ(s.max_concurrent_requests, 2);  // the first ends when the second begins
  EXPECT_EQ(s.max_output_tokens_per_s, 2);  // at 0.5, 0.75 | 1, 1.75 | 2.5 | 3
  EXPECT_EQ(summarize({}, 1, percentiles, {}).completed, 0);
}

TEST(Goodput, WantsAllThatItNames) {
  const RequestOutcome o = outcome(0, 1, {0.5});
  EXPECT_TRUE(is_good(o, {}));
  EXPECT_TRUE(is_good(o, {.ttft = 1.0, .tpot = 0.5, .e2el = 1.5}));
  EXPECT_FALSE(is_good(o, {.ttft = 0.9}));
  EXPECT_FALSE(is_good(o, {.tpot = 0.4}));
  EXPECT_FALSE(is_good(o, {.e2el = 1.4}));
}

// --- prompts ---

TEST(Prompts, HaveExactlyTheTokensThatWereAskedFor) {
  const WordMaker maker(demo_tokenizer());
  for (const std::int64_t count : {0, 1, 7, 500})
    EXPECT_EQ(demo_tokenizer().encode(maker.words(count, 5, 1)).size(), static_cast<std::size_t>(count));
  for (const LoadRequest& r :
       random_requests(maker, 50, {.input_len = 40, .output_len = 9, .prefix_len = 8, .range_ratio = 0.5}, 1)) {
    EXPECT_EQ(demo_tokenizer().encode(r.prompt).size(), static_cast<std::size_t>(r.prompt_len));
    EXPECT_GE(r.prompt_len, 28);
    EXPECT_LE(r.prompt_len, 68);
    EXPECT_GE(r.output_len, 4);
    EXPECT_LE(r.output_len, 14);
  }
}

TEST(Prompts, AreNeverEmpty) {
  for (const LoadRequest& r :
       random_requests(WordMaker(demo_tokenizer()), 50, {.input_len = 1, .output_len = 1, .range_ratio = 1}, 1)) {
    EXPECT_GE(r.prompt_len, 1);
    EXPECT_GE(r.output_len, 1);
  }
}

TEST(Prompts, ShareTheirPrefixAndNothingElse) {
  const WordMaker maker(demo_tokenizer());
  const auto requests = random_requests(maker, 30, {.input_len = 20, .output_len = 1, .prefix_len = 16}, 4);
  const std::string prefix = maker.words(16, 4, ~std::uint64_t{0});
  std::set<std::string> rests;
  for (const LoadRequest& r : requests) {
    ASSERT_TRUE(r.prompt.starts_with(prefix));
    rests.insert(r.prompt.substr(prefix.size(), 30));
  }
  EXPECT_EQ(rests.size(), requests.size());
}

TEST(Prompts, OfATraceComeAtTheirTimesAndShareWhatItSays) {
  const WordMaker maker(demo_tokenizer());
  const std::string text =
      "{\"timestamp\": 2500, \"input_length\": 600, \"output_length\": 3, \"hash_ids\": [1, 2]}\n\n"
      "{\"timestamp\": 0, \"input_length\": 700, \"output_length\": 4, \"hash_ids\": [1, 3]}\n"
      "{\"timestamp\": 5000, \"input_length\": 5, \"output_length\": 4}\n";
  const auto requests = trace_requests(maker, text, "t", 10, 0);
  ASSERT_EQ(requests.size(), 3U);
  EXPECT_EQ(requests[0].at, 0);
  EXPECT_EQ(requests[1].at, 2.5);
  EXPECT_EQ(requests[1].output_len, 3);
  for (const LoadRequest& r : requests)
    EXPECT_EQ(demo_tokenizer().encode(r.prompt).size(), static_cast<std::size_t>(r.prompt_len));
  const std::string shared = maker.words(512, 0, 1);
  EXPECT_TRUE(requests[0].prompt.starts_with(shared) && requests[1].prompt.starts_with(shared));
  EXPECT_NE(requests[0].prompt.substr(shared.size(), 40), requests[1].prompt.substr(shared.size(), 40));
  EXPECT_EQ(trace_requests(maker, text, "t", 2, 0).size(), 2U);
}

TEST(Prompts, OfAFileAreAskedAgainWhereThereAreTooFew) {
  const std::string text = "{\"prompt\": \"a b\"}\n{\"prompt\": \"c\", \"output_tokens\": 7}\n";
  const auto requests = custom_requests(demo_tokenizer(), text, "f", 5, 99);
  ASSERT_EQ(requests.size(), 5U);
  EXPECT_EQ(requests[2].prompt, "a b");
  EXPECT_EQ(requests[2].output_len, 99);
  EXPECT_EQ(requests[3].output_len, 7);
}

TEST(Prompts, ThatAreBadNameTheirLine) {
  const auto custom = [](const char* text) {
    return refusal([&] { custom_requests(demo_tokenizer(), text, "f", 9, 1); });
  };
  EXPECT_EQ(custom("{\"prompt\": \"a\"}\n\n{\"prompt\": 3}\n"), "f line 3: prompt is an integer, expected a string");
  EXPECT_EQ(custom("{\"prompt\": \"a\", \"output_tokens\": 0}"),
            "f line 1: output_tokens is 0, expected an integer from 1 to 16777216");
  EXPECT_EQ(custom("[]"), "f line 1: an array, expected an object");
  EXPECT_EQ(custom("\n"), "f has no prompt");
  const WordMaker maker(demo_tokenizer());
  const auto trace = [&](const char* text) { return refusal([&] { trace_requests(maker, text, "t", 9, 0); }); };
  EXPECT_EQ(trace("{\"input_length\": 1, \"output_length\": 1}"),
            "t line 1: timestamp is missing, expected milliseconds from the beginning");
  EXPECT_EQ(trace("{\"timestamp\": 1, \"input_length\": -1, \"output_length\": 1}"),
            "t line 1: input_length is -1, expected an integer from 1 to 16777216");
}

// --- answers ---

constexpr std::string_view kChat =
    ": ping\n\n"
    "data: "
    "{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}"
    "\r\n\r\n"
    "data: {\"choices\":[{\"delta\":{\"reasoning\":\"hm\"},\"finish_reason\":null}]}\n\n"
    "data:{\"choices\":[{\"delta\":{\"content\":\"Hi\"},\"finish_reason\":null}]}\n\n"
    "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":4}}\n\ndata: [DONE]\n\n";

TEST(Streams, AreReadHoweverTheyAreCut) {
  for (std::size_t cut = 0; cut <= kChat.size(); ++cut) {
    StreamReader reader;
    reader.push(kChat.substr(0, cut), 1);
    reader.push(kChat.substr(cut), 2);
    RequestOutcome o;
    reader.finish({}, o);
    ASSERT_TRUE(o.success()) << o.error;
    ASSERT_EQ(o.generated_text, "hmHi");
    ASSERT_EQ(o.output_tokens, 4);
    ASSERT_EQ(o.itl.size(), 2U);
    ASSERT_EQ(reader.prompt_tokens(), 5);
    ASSERT_TRUE(o.latency == 1 || o.latency == 2);
  }
}

TEST(Streams, CountFromTheFirstTokenAndNotFromTheRole) {
  StreamReader reader;
  std::size_t begin = 0;
  for (double now = 1; begin < kChat.size(); ++now) {
    const std::size_t end =
        kChat.find("\n\n", begin) == std::string_view::npos ? kChat.size() : kChat.find("\n\n", begin) + 2;
    reader.push(kChat.substr(begin, end - begin), now);
    begin = end;
  }
  RequestOutcome o;
  reader.finish({}, o);
  EXPECT_EQ(o.itl, (std::vector<double>{1, 1}));
  EXPECT_EQ(o.latency, o.ttft + 2);
}

TEST(Streams, ThatEndBadlySayHow) {
  const auto end = [](std::string_view text, const std::string& error = {}) {
    StreamReader reader;
    reader.push(text, 1);
    RequestOutcome o;
    reader.finish(error, o);
    return o.error;
  };
  EXPECT_EQ(end("data: {\"choices\":[{\"text\":\"a\"}]}\n\n"), "the stream ended without [DONE]");
  EXPECT_EQ(end("data: [DONE]\n\n"), "the stream had no token");
  EXPECT_EQ(end("data: {\"error\":{\"message\":\"too late\"}}\n\ndata: [DONE]\n\n"), "too late");
  EXPECT_NE(end("data: {oops}\n\n"), "");
  EXPECT_EQ(end("", "connection refused"), "connection refused");
  EXPECT_EQ(error_text(429, R"({"error":{"message":"too many"}})"), "HTTP 429: too many");
  EXPECT_EQ(error_text(502, "<html>"), "HTTP 502: <html>");
}

TEST(Requests, SayWhatTheyWant) {
  LoadTarget target;
  target.model = "m";
  target.ignore_eos = true;
  target.extra_body = {{"temperature", 0.5}};
  const LoadRequest request{.prompt = "p", .prompt_len = 1, .output_len = 3};
  EXPECT_EQ(
      request_body(target, request),
      R"({"model":"m","prompt":"p","max_tokens":3,"stream":true,"stream_options":{"include_usage":true},"ignore_eos":true,"temperature":0.5})");
  target.chat = true;
  target.ignore_eos = false;
  EXPECT_EQ(
      request_body(target, request),
      R"({"model":"m","messages":[{"role":"user","content":"p"}],"max_completion_tokens":3,"stream":true,"stream_options":{"include_usage":true},"temperature":0.5})");
}

// --- reports ---

TEST(Report, HasTheLinesAndKeysOfVllm) {
  const std::vector<RequestOutcome> all = {outcome(0, 0.5, {0.25}), outcome(1, 0.5, {0.25})};
  const std::vector<double> percentiles = {50, 99.9};
  const Summary s = summarize(all, 2, percentiles, {.ttft = 1.0});
  const ReportOptions options{.metrics = {"ttft", "e2el"}, .request_rate = 4, .max_concurrency = 8, .goodput = true};
  const std::string text = report_text(s, options);
  for (const char* line :
       {"============ Serving Benchmark Result ============\n", "Successful requests:                     2         \n",
        "Maximum request concurrency:             8         \n",
        "Request rate configured (RPS):           4.00      \n",
        "Request goodput (req/s):                 1.00      \n", "---------------Time to First Token----------------\n",
        "P99.9 TTFT (ms):                         500.00    \n", "----------------End-to-end Latency----------------\n",
        "Median E2EL (ms):                        750.00    \n"})
    EXPECT_NE(text.find(line), std::string::npos) << line << text;
  EXPECT_EQ(text.find("TPOT"), std::string::npos);
  const Json json = report_json(s, options, all, true);
  for (const char* key : {"duration",
                          "completed",
                          "failed",
                          "total_input_tokens",
                          "total_output_tokens",
                          "request_throughput",
                          "request_goodput",
                          "output_throughput",
                          "total_token_throughput",
                          "max_output_tokens_per_s",
                          "max_concurrent_requests",
                          "mean_ttft_ms",
                          "median_ttft_ms",
                          "std_ttft_ms",
                          "p50_ttft_ms",
                          "p99.9_ttft_ms",
                          "mean_e2el_ms",
                          "input_lens",
                          "output_lens",
                          "ttfts",
                          "itls",
                          "start_times",
                          "generated_texts",
                          "errors"})
    EXPECT_TRUE(json.find(key)) << key;
  EXPECT_FALSE(report_json(s, options, all, false).find("ttfts"));
}

}  // namespace
}  // namespace cajal::load
