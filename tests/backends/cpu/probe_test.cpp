#include "backends/cpu/probe.h"

#include <gtest/gtest.h>

#include "backends/cpu/isa.h"

namespace cajal::cpu {
namespace {

TEST(Probe, MeasuresWhatThisMachineHasAndNothingElse) {
  ThreadPool pool(2);
  const std::uint32_t isa = detect_isa();
  for (const std::uint32_t level : {std::uint32_t{kBaseline}, isa & kAvx2, isa})
    EXPECT_GT(multiply_rate(pool, Multiply::f32, level), 0) << isa_name(level);
  EXPECT_EQ(multiply_rate(pool, Multiply::bf16, kBaseline), 0);
  EXPECT_EQ(multiply_rate(pool, Multiply::int8, kBaseline), 0);
  EXPECT_EQ(multiply_rate(pool, Multiply::bf16, isa) > 0, (isa & kAvx512Bf16) != 0);
}

TEST(Probe, ReadsMemoryOfAnySizeOnEveryInstructionSet) {
  ThreadPool pool(2);
  const std::uint32_t isa = detect_isa();
  for (const std::size_t mib : {2, 33}) {
    ReadProbe probe(mib << 20);
    for (const std::uint32_t level : {std::uint32_t{kBaseline}, isa & kAvx2, isa})
      for (int i = 0; i < 3; ++i) EXPECT_GT(probe.rate(pool, level), 0);
  }
}

}  // namespace
}  // namespace cajal::cpu
