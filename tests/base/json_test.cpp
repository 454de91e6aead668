#include "base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

TEST(Json, RefusesDepthBeyondTheLimit) {
  EXPECT_EQ(error_of((std::string(64, '[') + std::string(64, ']')).c_str()), "no error");
  EXPECT_THAT(error_of((std::string(65, '[') + std::string(65, ']')).c_str()), HasSubstr("nested too deeply"));
}

TEST(Json, LastOfRepeatedKeysCounts) { EXPECT_EQ(parse_json(R"({"a":1,"a":2})", "t").find("a")->as_int(), 2); }

TEST(Json, WritesInvalidUtf8AsReplacement) { EXPECT_EQ(to_json(Json("a\xe2\x82z")), "\"a\uFFFDz\""); }

}  // namespace
}  // namespace cajal
