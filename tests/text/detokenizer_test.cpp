#include "text/detokenizer.h"

#include <gtest/gtest.h>

#include "support.h"

namespace cajal {
namespace {

using test::qwen3;

std::int32_t byte_id(int byte) { return *qwen3().id_of(to_byte_alphabet(std::string(1, static_cast<char>(byte)))); }

TEST(Detokenizer, StreamsWhatDecodeGivesForAnyIdsAndNeverHalfACodePoint) {
  test::Random random(3);
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::int32_t> ids;
    for (std::uint32_t n = random.below(12); n > 0; --n)
      ids.push_back(random.below(3)
                        ? byte_id(static_cast<int>(random.below(2) ? 0x80 + random.below(128) : random.below(256)))
                        : static_cast<std::int32_t>(random.below(151800)) - 20);
    for (const bool skip : {false, true}) {
      Detokenizer detokenizer(qwen3(), skip);
      std::string text;
      for (const std::int32_t id : ids) {
        const std::string part = detokenizer.push(id);
        ASSERT_TRUE(is_valid_utf8(part));
        text += part;
      }
      ASSERT_EQ(text + detokenizer.flush(), qwen3().decode(ids, skip));
      ASSERT_EQ(detokenizer.flush(), "");
    }
  }
}

TEST(Detokenizer, HoldsBackOnlyWhatMoreBytesCouldComplete) {
  Detokenizer d(qwen3());
  EXPECT_EQ(d.push(byte_id(0xe4)), "");
  EXPECT_EQ(d.push(byte_id(0xbd)), "");
  EXPECT_EQ(d.push(byte_id(0xa0)), "\u4f60");
  EXPECT_EQ(d.push(byte_id(0xff)), "\ufffd");  // no byte can make this one valid
  EXPECT_EQ(d.push(byte_id(0xf0)), "");
  EXPECT_EQ(d.push(byte_id('a')), "\ufffda");
  EXPECT_EQ(d.push(byte_id(0xe2)), "");
  EXPECT_EQ(d.flush(), "\ufffd");
  EXPECT_EQ(d.push(byte_id('b')), "b");
}

TEST(Detokenizer, ReplacesEachMaximalSubpartOnce) {
  EXPECT_EQ(qwen3().decode(std::vector<std::int32_t>{158, 225}), "\ufffd");
  EXPECT_EQ(qwen3().decode(std::vector<std::int32_t>{172, 250, 111}), "\ufffd");
  EXPECT_EQ(qwen3().decode(std::vector<std::int32_t>{64, 158, 225, 64}), "a\ufffda");
}

TEST(Detokenizer, SkipsControlTokensButKeepsThinkTags) {
  const auto ids = qwen3().encode("<think>a</think>b<|im_end|>");
  EXPECT_EQ(qwen3().decode(ids, true), "<think>a</think>b");
  EXPECT_TRUE(qwen3().is_special(151645));
  EXPECT_FALSE(qwen3().is_special(151667));
  EXPECT_FALSE(qwen3().is_special(-1));
}

}  // namespace
}  // namespace cajal
