#include "text/nfc.h"

#include <gtest/gtest.h>

#include "support.h"

namespace cajal {
namespace {

std::string nfc(const std::string& text) { return to_nfc(text).value_or(text); }

TEST(Nfc, ComposesDecomposesAndReorders) {
  EXPECT_EQ(nfc("cafe\u0301"), "caf\u00e9");
  EXPECT_EQ(nfc("a\u0323\u0307 a\u0307\u0323"), "\u1ea1\u0307 \u1ea1\u0307");
  EXPECT_EQ(nfc("\u212a\u2126\uf900"), "K\u03a9\u8c48");
  EXPECT_EQ(nfc("\u0958\u0344"), "\u0915\u093c\u0308\u0301");  // excluded from composition
  EXPECT_EQ(nfc("\u1112\u1161\u11ab \uac00\u11a8 \u1161"), "\ud55c \uac01 \u1161");
}

TEST(Nfc, LeavesMarksAloneThatUnicode9DoesNotKnow) {
  EXPECT_EQ(nfc("x\u1df9\u0334"), "x\u1df9\u0334");
  EXPECT_EQ(nfc("\U00011935\U00011930"), "\U00011935\U00011930");
}

TEST(Nfc, IsItsOwnNormalForm) {
  test::Random random(2);
  for (int round = 0; round < 20000; ++round) {
    const std::string text = random.text(20), once = nfc(text);
    ASSERT_EQ(nfc(once), once) << to_json(Json(text));
    ASSERT_TRUE(is_valid_utf8(once));
    ASSERT_EQ(nfc("\n" + text + "\n" + text), "\n" + once + "\n" + once) << to_json(Json(text));
  }
}

TEST(Nfc, IsNoWorkForTextThatNeedsNone) {
  EXPECT_EQ(to_nfc(""), std::nullopt);
  EXPECT_EQ(to_nfc("plain text, na\u00efve \u4f60\u597d \ud55c \U0001f600"), std::nullopt);
  for (char32_t c = 0; c < 0x300; ++c) {
    std::string text;
    append_utf8(text, c);
    EXPECT_EQ(to_nfc(text), std::nullopt);
  }
}

}  // namespace
}  // namespace cajal
