#include "engine/observability/request_timings.h"

#include <gtest/gtest.h>

#include <random>

namespace cajal {
namespace {

using std::chrono::milliseconds;

TEST(RequestTimings, AnyStoryHasTimesThatAreNotNegativeAndAddUp) {
  std::mt19937 rng(1);
  for (int story = 0; story < 300; ++story) {
    Clock::Time now{rng()};
    const auto later = [&] { return now += std::chrono::nanoseconds(rng() % 3 * (rng() % 1'000'000)); };
    RequestTimings t{.arrived = now};
    const auto length = rng() % 5;
    if (length > 0 || rng() % 2) t.on_scheduled(later());
    for (unsigned i = 0; i < length; ++i) {
      if (rng() % 4 == 0) t.on_scheduled(later());  // again, after a preemption
      t.on_token(later());
    }
    t.on_finished(later());
    ASSERT_EQ(t.prefill_seconds().has_value(), length > 0);
    for (const auto seconds : {t.queue_seconds(), t.prefill_seconds(), t.decode_seconds(), t.inference_seconds(),
                               t.e2e_seconds(), t.ttft_seconds(), t.tpot_seconds()})
      EXPECT_GE(seconds.value_or(0), 0);
    EXPECT_LE(*t.queue_seconds(), *t.e2e_seconds());
    if (length == 0) continue;
    EXPECT_NEAR(*t.queue_seconds() + *t.prefill_seconds(), *t.ttft_seconds(), 1e-12);
    EXPECT_NEAR(*t.prefill_seconds() + *t.decode_seconds(), *t.inference_seconds(), 1e-12);
    EXPECT_LE(*t.queue_seconds() + *t.inference_seconds(), *t.e2e_seconds() + 1e-12);
    EXPECT_EQ(t.tpot_seconds().has_value(), length > 1);
  }
}

TEST(RequestTimings, WhoIsNeverScheduledHasOnlyWaited) {
  RequestTimings t{.arrived = milliseconds(5)};
  EXPECT_FALSE(t.queue_seconds()) << "it still waits";
  t.on_finished(milliseconds(1005));
  EXPECT_DOUBLE_EQ(*t.queue_seconds(), 1);
  EXPECT_DOUBLE_EQ(*t.e2e_seconds(), 1);
  EXPECT_FALSE(t.prefill_seconds() || t.decode_seconds() || t.inference_seconds() || t.ttft_seconds());
}

TEST(RequestTimings, TimePerOutputTokenIsTheMeanOfAllButTheFirst) {
  RequestTimings t;
  t.on_scheduled(milliseconds(0));
  for (const int at : {500, 510, 540, 560}) t.on_token(milliseconds(at));
  EXPECT_DOUBLE_EQ(*t.tpot_seconds(), 0.02);
}

}  // namespace
}  // namespace cajal
