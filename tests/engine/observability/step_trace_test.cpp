#include "engine/observability/step_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <random>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"

namespace cajal {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using Track = StepTrace::Track;
using testing::HasSubstr;

class TemporaryFolder : public testing::Test {
 protected:
  TemporaryFolder() {
    std::string name = testing::TempDir() + "cajal-trace-XXXXXX";
    folder_ = ::mkdtemp(name.data());
  }
  ~TemporaryFolder() override { std::filesystem::remove_all(folder_); }
  std::string path(const char* name = "trace.json") const { return folder_ + "/" + name; }

 private:
  std::string folder_;
};
using StepTraceFile = TemporaryFolder;

// The events of a file; one that was not closed is read as the viewers do, without its last bracket.
Json::Array events_of(const std::string& path) {
  std::string text = read_file(path);
  if (!text.ends_with("\n]\n")) text += "\n]";
  return parse_json(text, path).as_array();
}

std::string phase(const Json& event) { return event.find("ph")->as_string(); }
double number(const Json& event, const char* key) { return event.find(key)->as_double(); }

// What an engine tells while `steps` steps serve one sequence after another, two of them side by side.
Clock::Time tell_story(StepTrace& trace, int steps, unsigned seed) {
  std::mt19937 rng(seed);
  Clock::Time now{std::chrono::hours(1000)};
  const auto later = [&] { return now += nanoseconds(rng() % 300'000); };
  for (std::int64_t step = 0; step < steps; ++step) {
    const auto id = static_cast<std::uint64_t>(step);
    trace.async_begin(id, "sequence", later(), {{"prompt_tokens", std::int64_t{40}}});
    trace.async_instant(id, "admitted", later());
    const Clock::Time scheduling = later();
    trace.complete(Track::host, "schedule", scheduling, later(), {{"rows", step}});
    trace.begin(Track::device, "step", later(), {{"prefill", step}, {"decode", std::int64_t{1}}});
    const Clock::Time delivering = later();
    trace.complete(Track::host, "deliver", delivering, later());
    trace.end(Track::device, later());
    trace.async_instant(id, "first token", now);
    if (step % 7 == 3) trace.async_instant(id, "preempted", now, {{"why", "no blocks"}});
    trace.step_counters(now, {.num_running = 2, .num_waiting = step, .kv_blocks_used = 3, .prefill_rows = step});
    if (step > 0) trace.async_end(id - 1, "sequence", later(), {{"finish_reason", "stop"}});
  }
  trace.async_end(static_cast<std::uint64_t>(steps) - 1, "sequence", later());
  return now;
}

TEST_F(StepTraceFile, IsJsonInWhichEveryBeginHasItsEndAndSpansOfATrackNest) {
  {
    StepTrace trace(path());
    tell_story(trace, 400, 1);
  }
  const Json::Array events = parse_json(read_file(path()), path()).as_array();
  std::map<std::string, std::vector<double>> begun;   // of the requests, by id
  std::map<std::int64_t, std::vector<double>> spans;  // of a track: begun and not ended
  std::map<std::int64_t, double> ended;               // of a track: when its last span was over
  std::map<std::string, int> count;
  for (const Json& e : events) {
    const std::string ph = phase(e);
    ++count[ph];
    if (ph == "M") continue;
    const double at = number(e, "ts");
    EXPECT_GE(at, 3.6e12);
    EXPECT_EQ(number(e, "pid"), 1);
    if (ph == "b" || ph == "n" || ph == "e") {
      EXPECT_EQ(e.find("cat")->as_string(), "request");
      std::vector<double>& open = begun[e.find("id")->as_string()];
      if (ph == "b") open.push_back(at);
      ASSERT_FALSE(open.empty()) << to_json(e);
      EXPECT_GE(at, open.back());
      if (ph == "e") open.pop_back();
    } else if (ph == "X" || ph == "B" || ph == "E") {
      const std::int64_t tid = e.find("tid")->as_int();
      EXPECT_GE(at, ended[tid]) << to_json(e);
      if (ph == "B") spans[tid].push_back(at);
      if (ph == "E") {
        ASSERT_FALSE(spans[tid].empty());
        spans[tid].pop_back();
      }
      if (ph == "X") {
        EXPECT_GE(number(e, "dur"), 0);
      }
      ended[tid] = ph == "X" ? at + number(e, "dur") - 0.002 : at;  // the sum of two rounded numbers
    }
  }
  for (const auto& [id, open] : begun) EXPECT_TRUE(open.empty()) << id;
  for (const auto& [tid, open] : spans) EXPECT_TRUE(open.empty()) << tid;
  EXPECT_EQ(count["b"], 400);
  EXPECT_EQ(count["e"], 400);
  EXPECT_EQ(count["X"], 800);
  EXPECT_EQ(count["B"], count["E"]);
  EXPECT_EQ(count["C"], 1200);
}

TEST_F(StepTraceFile, KeepsNanosecondsAndDetails) {
  {
    StepTrace trace(path());
    trace.complete(Track::device, "step \"1\"", nanoseconds(1'234'567), nanoseconds(1'236'570),
                   {{"rows", std::int64_t{-5}}, {"share", 0.25}, {"kind", "pre\nfill"}, {"bad", 0.0 / 0.0}});
    trace.instant(Track::host, "idle", nanoseconds(-5));
  }
  const Json::Array events = events_of(path());
  const Json& span = events[events.size() - 2];
  EXPECT_DOUBLE_EQ(number(span, "ts"), 1234.567);
  EXPECT_DOUBLE_EQ(number(span, "dur"), 2.003);
  EXPECT_EQ(span.find("name")->as_string(), "step \"1\"");
  EXPECT_EQ(to_json(*span.find("args")), R"({"rows":-5,"share":0.25,"kind":"pre\nfill","bad":null})");
  EXPECT_DOUBLE_EQ(number(events.back(), "ts"), -0.005);
}

TEST_F(StepTraceFile, LongOrBrokenTextIsCutAndRepaired) {
  {
    StepTrace trace(path());
    std::string text(StepTrace::kMaxText - 1, 'x');
    trace.instant(Track::host, text + "\xe2\x82\xac", microseconds(1));
    trace.instant(Track::host, "\xff\x01", microseconds(2));
  }
  const Json::Array events = events_of(path());
  EXPECT_EQ(events[events.size() - 2].find("name")->as_string(), std::string(StepTrace::kMaxText - 1, 'x'));
  EXPECT_EQ(events.back().find("name")->as_string(), "\xef\xbf\xbd\x01");
}

TEST_F(StepTraceFile, LoadsAtAnyMomentWhileItIsWritten) {
  StepTrace trace(path());
  std::size_t before = events_of(path()).size();
  for (unsigned round = 0; round < 10; ++round) {
    tell_story(trace, 50, round);
    const std::size_t now = events_of(path()).size();  // throws if it holds a piece of an event
    EXPECT_GE(now, before);
    before = now;
  }
  EXPECT_GT(before, 1000U);
}

TEST_F(StepTraceFile, EventsAreInTheFileASecondLater) {
  StepTrace trace(path());
  trace.instant(Track::host, "first", milliseconds(10'000));
  trace.instant(Track::host, "second", milliseconds(10'900));
  EXPECT_THAT(read_file(path()), testing::Not(HasSubstr("second")));
  trace.instant(Track::host, "third", milliseconds(11'000));
  EXPECT_THAT(read_file(path()), HasSubstr("third"));
}

TEST_F(StepTraceFile, ProcessThatDiesLeavesATraceThatLoads) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    StepTrace trace(path());
    tell_story(trace, 2000, 1);
    trace.begin(Track::device, "step that hangs", std::chrono::hours(1001));
    ::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  const Json::Array events = events_of(path());
  EXPECT_EQ(phase(events.back()), "B") << "what was going on when it died is there";
}

TEST_F(StepTraceFile, WhatIsOpenWhenItClosesEndsThere) {
  StepTrace trace(path());
  trace.begin(Track::device, "step", milliseconds(5));
  trace.instant(Track::host, "stop", milliseconds(8));
  trace.close();
  const Json::Array events = parse_json(read_file(path()), path()).as_array();
  EXPECT_EQ(phase(events.back()), "E");
  EXPECT_EQ(number(events.back(), "ts"), 8000);
  trace.instant(Track::host, "too late", milliseconds(9));  // dropped
  EXPECT_EQ(events_of(path()).size(), events.size());
}

TEST_F(StepTraceFile, FileThatCannotBeCreatedIsAnErrorThatNamesIt) {
  ASSERT_EQ(::mkfifo(path("pipe").c_str(), 0600), 0);
  for (const std::string& bad : {path("missing/trace.json"), path(""), path("pipe")}) {
    try {
      const StepTrace trace(bad);
      FAIL() << bad;
    } catch (const Error& e) {
      EXPECT_THAT(e.message(), HasSubstr(bad));
      EXPECT_NE(e.remedy(), "");
    }
  }
}

TEST(StepTrace, FullDiskEndsTheTraceWithOneWarning) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "there is no /dev/full here";
  testing::internal::CaptureStderr();
  {
    StepTrace trace("/dev/full");
    EXPECT_FALSE(trace.is_open());
    tell_story(trace, 100, 1);
  }
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_THAT(said, HasSubstr("/dev/full"));
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
}

// In a process of its own, whose files may not grow beyond a limit that lies within some event.
TEST_F(StepTraceFile, LimitOnFileSizesLeavesWholeEventsAndAProcessThatGoesOn) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const rlimit limit{100'001, 100'001};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    ::close(STDERR_FILENO);
    StepTrace trace(path());
    tell_story(trace, 2000, 1);
    ::_exit(trace.is_open() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status)) << "it was killed";
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_LE(std::filesystem::file_size(path()), 100'001U);
  EXPECT_GT(parse_json(read_file(path()), path()).as_array().size(), 100U);
}

}  // namespace
}  // namespace cajal
