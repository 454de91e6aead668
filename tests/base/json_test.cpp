#include "base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"

namespace cajal {
namespace {

using testing::HasSubstr;

std::string error_of(const char* text) {
  try {
    parse_json(text, "f.json");
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(Json, KeepsOrderIntegersAndFloatsApart) {
  const Json j = parse_json(R"({"b": 1, "a": 1.0, "c": [true, null, "x\n\u00e9", -9223372036854775808, 1e-5]})", "t");
  EXPECT_EQ(j.as_object()[0].first, "b");
  EXPECT_TRUE(j.find("b")->is_int());
  EXPECT_TRUE(j.find("a")->is_double());
  EXPECT_EQ(to_json(j), "{\"b\":1,\"a\":1.0,\"c\":[true,null,\"x\\n\u00e9\",-9223372036854775808,1e-05]}");
}

TEST(Json, WritesWhatItReads) {
  for (const char* text : {"0", "-1", "1.5", "\"\"", "[]", "{}", "[[],[{}]]", "{\"a\":{\"b\":[1,2]}}", "true", "null"})
    EXPECT_EQ(to_json(parse_json(text, "t")), text);
}

TEST(Json, NamesFileLineAndColumnOfAnError) {
  EXPECT_THAT(error_of("{\"a\": 1,\n  \"b\" 2}"), HasSubstr("f.json, line 2"));
  EXPECT_THAT(error_of("{} x"), HasSubstr("f.json"));
  for (const char* bad : {"", " ", "{", "[1,", "{\"a\":}", "nul", "[1 2]", "01", "+1", "1.", "\"\\x\"", "\"\xff\"",
                          "1e999", "[1]]", "truex"})
    EXPECT_THAT(error_of(bad), HasSubstr("f.json")) << bad;
}

TEST(Json, ReadsNumbersAtTheirLimits) {
  const auto read = [](const char* text) {
    // Alone and inside a list a number takes different roads through the parser.
    const Json alone = parse_json(text, "t"), inside = parse_json("[" + std::string(text) + "]", "t").as_array()[0];
    EXPECT_EQ(alone, inside) << text;
    EXPECT_EQ(parse_json(to_json(alone), "t"), alone) << text;
    return alone;
  };
  EXPECT_EQ(read("9223372036854775807"), Json(std::numeric_limits<std::int64_t>::max()));
  EXPECT_EQ(read("-9223372036854775808"), Json(std::numeric_limits<std::int64_t>::min()));
  EXPECT_EQ(read("9223372036854775808"), Json(9223372036854775808.0));
  EXPECT_EQ(read("-9223372036854775809"), Json(-9223372036854775808.0));
  EXPECT_EQ(read("18446744073709551616"), Json(18446744073709551616.0));
  EXPECT_EQ(read("-0"), Json(0));
  EXPECT_TRUE(std::signbit(read("-0.0").as_double()));
  EXPECT_EQ(read("1e0"), Json(1.0));
  EXPECT_EQ(read("1E+2"), Json(100.0));
  EXPECT_EQ(read("5e-324"), Json(5e-324));
  EXPECT_EQ(read("1e-400"), Json(0.0));
  EXPECT_EQ(read("1.7976931348623157e308"), Json(1.7976931348623157e308));
  EXPECT_EQ(read("0.1"), Json(0.1));
  EXPECT_EQ(to_json(Json(std::numeric_limits<double>::infinity())), "null");
  EXPECT_EQ(to_json(Json(std::uint64_t{1} << 63)), "9223372036854775808.0");
}

TEST(Json, RefusesWordsThatOnlyBeginLikeOnes) {
  for (const char* bad : {"nu3.5", "[nu3.5]", "{\"a\": nul}", "[nullx]", "[tSue]", "[falze]", "nullx", "n", "false5",
                          "true1", "nulll", "1,2", "1],[2", "1]", "\"a\"]"})
    EXPECT_THAT(error_of(bad), HasSubstr("f.json")) << bad;
}

TEST(Json, RefusesDepthBeyondTheLimit) {
  EXPECT_EQ(error_of((std::string(64, '[') + std::string(64, ']')).c_str()), "no error");
  EXPECT_THAT(error_of((std::string(65, '[') + std::string(65, ']')).c_str()), HasSubstr("nested too deeply"));
}

TEST(Json, LastOfRepeatedKeysCounts) { EXPECT_EQ(parse_json(R"({"a":1,"a":2})", "t").find("a")->as_int(), 2); }

TEST(Json, WritesInvalidUtf8AsReplacement) { EXPECT_EQ(to_json(Json("a\xe2\x82z")), "\"a\uFFFDz\""); }

}  // namespace
}  // namespace cajal
