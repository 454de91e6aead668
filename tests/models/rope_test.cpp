// RoPE against Hugging Face (values of Transformers 5.17 with PyTorch 2.11, CPU) and against the formulas in double.
#include "models/rope.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <numbers>
#include <string>

#include "base/error.h"
#include "base/log.h"

namespace cajal {
namespace {

using ::testing::HasSubstr;

RopeConfig read(const std::string& json, int head_dim = 128) {
  const Json config = parse_json(json, "config.json");
  const Json* max = config.find("max_position_embeddings");
  return read_rope_config(config, "config.json", head_dim, max ? max->as_int() : 32768);
}
ops::RotaryTable table(const std::string& json, int head_dim = 128) {
  const Json config = parse_json(json, "config.json");
  const Json* max = config.find("max_position_embeddings");
  return rotary_table(read(json, head_dim), head_dim, max ? max->as_int() : 32768);
}
std::string refusal(const std::string& json, int head_dim = 128) {
  try {
    read(json, head_dim);
  } catch (const Error& e) {
    EXPECT_NE(e.remedy(), "") << e.message();
    return e.message();
  }
  return "accepted";
}

// FNV-1a over the little-endian bytes: one number to hold all bits of a table against.
std::uint64_t hash(const std::vector<float>& values) {
  std::uint64_t h = 0xcbf29ce484222325u;
  for (const float value : values)
    for (int shift = 0; shift < 32; shift += 8)
      h = (h ^ (std::bit_cast<std::uint32_t>(value) >> shift & 255u)) * 0x100000001b3u;
  return h;
}

struct Case {
  int head_dim;
  const char* config;
  std::uint64_t inv_freq, long_inv_freq;  // hashes; 0 where there is none
  float attention_scaling;
};
// clang-format off
constexpr Case kHuggingFace[] = {
    {128, R"({"rope_theta": 1000000})", 0x2d18705ac4dc2fa1u, 0u, 0x1p+0f},
    {128, R"({"rope_theta": 5000000})", 0x83bf034d4cce3526u, 0u, 0x1p+0f},
    {128, R"({"rope_theta": 10000000})", 0x4c7200cc90040102u, 0u, 0x1p+0f},
    {128, R"({})", 0xa2bad43d3b76c197u, 0u, 0x1p+0f},
    {32, R"({"rope_theta": 1000000})", 0x8e550fc8135dd844u, 0u, 0x1p+0f},
    {16, R"({"rope_theta": 150000})", 0x0f048f004fe014ebu, 0u, 0x1p+0f},
    {80, R"({"rope_theta": 1000000})", 0x1eeb914f6b1f28a8u, 0u, 0x1p+0f},
    {96, R"({"rope_theta": 1000000})", 0x6e254eb1141f82d4u, 0u, 0x1p+0f},
    {256, R"({"rope_theta": 1000000})", 0x3850fd4f5a35d7edu, 0u, 0x1p+0f},
    {2, R"({"rope_theta": 1000000})", 0x4b72477f9c5c2f98u, 0u, 0x1p+0f},
    {128, R"({"rope_theta": 1000000, "rope_scaling": {"type": "linear", "factor": 3}})", 0x21e0c47cb7ee1a8fu, 0u, 0x1p+0f},
    {128, R"({"rope_theta": 1000000, "rope_scaling": {"rope_type": "linear", "factor": 2.5, "rope_theta": 500000.0}})", 0x771144cdb4b486b0u, 0u, 0x1p+0f},
    {128, R"({"rope_theta": 1000000, "rope_scaling": {"rope_type": "dynamic", "factor": 2.3}, "max_position_embeddings": 40960})", 0x2d18705ac4dc2fa1u, 0u, 0x1p+0f},
    {128, R"({"rope_theta": 1000000, "max_position_embeddings": 40960, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}})", 0x8a493461f2216f1bu, 0u, 0x1.237d38p+0f},
    {128, R"({"rope_theta": 1000000, "max_position_embeddings": 131072, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768, "attn_factor": 0.8782488562869419}})", 0x8a493461f2216f1bu, 0u, 0x1.237d38p+0f},
    {128, R"({"rope_theta": 5000000, "max_position_embeddings": 262144, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 262144}})", 0xed331abc32b75826u, 0u, 0x1.237d38p+0f},
    {128, R"({"rope_theta": 10000000, "max_position_embeddings": 262144, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}})", 0xf5b3565cadf723dfu, 0u, 0x1.237d38p+0f},
    {128, R"({"rope_theta": 1000000, "max_position_embeddings": 262144, "rope_scaling": {"rope_type": "yarn", "factor": null, "original_max_position_embeddings": 32768}})", 0x5ec547151cbb00adu, 0u, 0x1.353bd4p+0f},
    {128, R"({"rope_theta": 1000000, "max_position_embeddings": 262144, "original_max_position_embeddings": 16384, "rope_scaling": {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 32768}})", 0xfbd833a70c26faa6u, 0u, 0x1.237d38p+0f},
    {128, R"({"rope_theta": 1000000, "max_position_embeddings": 131072, "rope_scaling": {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 32768, "truncate": false, "beta_fast": 16, "beta_slow": 2}})", 0x323dbac452691b92u, 0u, 0x1.237d38p+0f},
    {128, R"({"rope_theta": 1000000, "max_position_embeddings": 131072, "rope_scaling": {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 32768, "beta_fast": 0, "beta_slow": null}})", 0x8a493461f2216f1bu, 0u, 0x1.237d38p+0f},
    {128, R"({"rope_theta": 1000000, "max_position_embeddings": 131072, "rope_scaling": {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 32768, "mscale": 0.707, "mscale_all_dim": 1.0}})", 0x8a493461f2216f1bu, 0u, 0x1.edbc42p-1f},
    {128, R"({"rope_theta": 1000000, "max_position_embeddings": 131072, "rope_scaling": {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 32768, "mscale": 0.707, "mscale_all_dim": 0}})", 0x8a493461f2216f1bu, 0u, 0x1.237d38p+0f},
    {128, R"({"rope_theta": 1000000, "max_position_embeddings": 131072, "rope_scaling": {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 32768, "attention_factor": 1.25}})", 0x8a493461f2216f1bu, 0u, 0x1.4p+0f},
    {128, R"({"rope_theta": 1000000, "max_position_embeddings": 131072, "rope_scaling": {"rope_type": "yarn", "factor": 0.5, "original_max_position_embeddings": 32768}})", 0x7d2bb4c5cc53463au, 0u, 0x1p+0f},
    {32, R"({"rope_theta": 10000.0, "max_position_embeddings": 256, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 10000.0}})", 0x984901c43c77e62du, 0u, 0x1.237d38p+0f},
    {16, R"({"rope_theta": 10000.0, "max_position_embeddings": 8, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "beta_fast": 1, "beta_slow": 1}})", 0x6012dc6cb94c83fbu, 0u, 0x1.237d38p+0f},
    {128, R"({"rope_theta": 1000000, "max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}})", 0x3cafc66e741d6aa9u, 0u, 0x1p+0f},
    {64, R"({"rope_theta": 500000.0, "max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 32, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 8192}})", 0xf23c01738f29c748u, 0u, 0x1p+0f},
    {32, R"({"rope_theta": 10000.0, "max_position_embeddings": 2048, "rope_scaling": {"rope_type": "llama3", "factor": 3.3, "low_freq_factor": 1.1, "high_freq_factor": 3.7}})", 0x0dbaef723b72f2d5u, 0u, 0x1p+0f},
    {16, R"({"rope_theta": 10000.0, "max_position_embeddings": 512, "rope_scaling": {"rope_type": "longrope", "short_factor": [1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7], "long_factor": [2, 3, 4, 5, 6, 7, 8.5, 9], "original_max_position_embeddings": 128}})", 0xf8da4ceda7ac1d0eu, 0x9dff3dfa4b1e9aaeu, 0x1.2246d6p+0f},
    {16, R"({"rope_theta": 10000.0, "max_position_embeddings": 512, "rope_scaling": {"rope_type": "longrope", "factor": 8.0, "short_factor": [1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7], "long_factor": [2, 3, 4, 5, 6, 7, 8.5, 9], "original_max_position_embeddings": 128}})", 0xf8da4ceda7ac1d0eu, 0x9dff3dfa4b1e9aaeu, 0x1.31fa8p+0f},
    {16, R"({"rope_theta": 10000.0, "max_position_embeddings": 512, "original_max_position_embeddings": 64, "rope_scaling": {"rope_type": "longrope", "attention_factor": 1.5, "short_factor": [1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7], "long_factor": [2, 3, 4, 5, 6, 7, 8.5, 9]}})", 0xf8da4ceda7ac1d0eu, 0x9dff3dfa4b1e9aaeu, 0x1.8p+0f},
    {128, R"({"rope_parameters": {"rope_type": "default", "rope_theta": 300000.0}, "rope_theta": 7})", 0x0696bb29c46e77c1u, 0u, 0x1p+0f},
    {128, R"({"rope_parameters": {"rope_type": "linear", "factor": 2, "rope_theta": 300000.0}, "rope_scaling": {"type": "linear", "factor": 4}})", 0xca9cd52b3f609fc5u, 0u, 0x1p+0f},
    {128, R"({"rope_scaling": 0, "rope_theta": 1000000})", 0x2d18705ac4dc2fa1u, 0u, 0x1p+0f},
};
// clang-format on

TEST(Rope, IsHuggingFacesToTheBit) {
  for (const Case& c : kHuggingFace) {
    const ops::RotaryTable t = table(c.config, c.head_dim);
    EXPECT_EQ(t.inv_freq.size(), static_cast<std::size_t>(c.head_dim) / 2) << c.config;
    EXPECT_EQ(hash(t.inv_freq), c.inv_freq) << c.head_dim << " " << c.config;
    EXPECT_EQ(t.long_inv_freq.empty() ? 0 : hash(t.long_inv_freq), c.long_inv_freq) << c.config;
    EXPECT_EQ(t.attention_scaling, c.attention_scaling) << c.config;
  }
}

TEST(Rope, HasTheFrequenciesThatTheStandardFormulaGives) {
  const ops::RotaryTable t = table(R"({"rope_theta": 1e6})");
  EXPECT_EQ(t.inv_freq[0], 1.0f);
  EXPECT_EQ(t.inv_freq[1], 0x1.9c975ap-1f);
  EXPECT_EQ(t.inv_freq[40], 0x1.74eea6p-13f);
  EXPECT_EQ(t.inv_freq[63], 0x1.4d1c98p-20f);
  EXPECT_EQ(t.original_length, 0);
  EXPECT_TRUE(t.long_inv_freq.empty());
}

double exact(double theta, int i, int head_dim) { return std::pow(theta, -2.0 * i / head_dim); }

void expect_near(const ops::RotaryTable& t, const std::function<double(int)>& formula) {
  for (std::size_t i = 0; i < t.inv_freq.size(); ++i) {
    const double wanted = formula(static_cast<int>(i));
    EXPECT_NEAR(t.inv_freq[i], wanted, 1e-6 * wanted) << i;
  }
}

TEST(Rope, StandardAndLinearAreTheFormulasInDouble) {
  for (const int d : {2, 16, 64, 80, 128, 256}) {
    expect_near(table(R"({"rope_theta": 5e6})", d), [&](int i) { return exact(5e6, i, d); });
    expect_near(table(R"({"rope_theta": 5e6, "rope_scaling": {"rope_type": "linear", "factor": 3}})", d),
                [&](int i) { return exact(5e6, i, d) / 3; });
  }
}

// The published check values: the raw range is (23.596, 39.651), so the ramp runs from dimension 23 to 40.
TEST(Rope, YarnIsTheFormulaInDouble) {
  struct Yarn {
    double theta;
    int original, low, high;
  };
  for (const Yarn& y : {Yarn{1e6, 32768, 23, 40}, Yarn{5e6, 262144, 29, 45}, Yarn{1e7, 262144, 28, 43}}) {
    const ops::RotaryTable t =
        table(R"({"max_position_embeddings": 262144, "rope_theta": )" + std::to_string(y.theta) +
              R"(, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": )" +
              std::to_string(y.original) + "}}");
    expect_near(t, [&](int i) {
      const double ramp = std::clamp((i - y.low) / static_cast<double>(y.high - y.low), 0.0, 1.0);
      return exact(y.theta, i, 128) * (ramp / 4 + (1 - ramp));
    });
    EXPECT_FLOAT_EQ(t.attention_scaling, 1.1386294f);
  }
}

TEST(Rope, Llama3IsTheFormulaInDouble) {
  const ops::RotaryTable t = table(R"({"max_position_embeddings": 131072, "rope_theta": 5e5, "rope_scaling": {
      "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
      "original_max_position_embeddings": 8192}})");
  expect_near(t, [](int i) {
    const double f = exact(5e5, i, 128), turns = 8192 * f / (2 * std::numbers::pi);
    const double smooth = std::clamp((turns - 1) / 3, 0.0, 1.0);
    return (1 - smooth) * f / 8 + smooth * f;
  });
}

TEST(Rope, DynamicCarriesWhatItsFormulaNeeds) {
  const ops::RotaryTable t = table(
      R"({"max_position_embeddings": 512, "rope_theta": 1e6, "rope_scaling": {"type": "dynamic", "factor": 2,
          "original_max_position_embeddings": 7}})");
  EXPECT_EQ(t.original_length, 512) << "it looks at no other length, as in Hugging Face";
  EXPECT_EQ(t.dynamic_base, 1e6f);
  EXPECT_EQ(t.dynamic_factor, 2.0f);
  EXPECT_EQ(t.attention_scaling, 1.0f);
  expect_near(t, [](int i) { return exact(1e6, i, 128); });
}

TEST(Rope, LongropeHasTwoTablesAndTheLengthBetweenThem) {
  const ops::RotaryTable t = table(R"({"max_position_embeddings": 512, "rope_scaling": {"rope_type": "longrope",
      "short_factor": [1, 2], "long_factor": [3, 4], "original_max_position_embeddings": 128}})",
                                   4);
  EXPECT_EQ(t.original_length, 128);
  EXPECT_FLOAT_EQ(t.inv_freq[1], 1 / (2 * 100.0f));
  EXPECT_FLOAT_EQ(t.long_inv_freq[0], 1 / 3.0f);
  EXPECT_FLOAT_EQ(t.long_inv_freq[1], 1 / (4 * 100.0f));
  EXPECT_FLOAT_EQ(t.attention_scaling, static_cast<float>(std::sqrt(1 + std::log(4.0) / std::log(128.0))));
}

TEST(Rope, FindsTheParametersWhereHuggingFaceDoes) {
  EXPECT_EQ(read("{}").theta, 10000.0);
  for (const char* nothing : {"null", "0", "{}", "false", R"("")", "[]"})
    for (const char* key : {"rope_scaling", "rope_parameters"}) {
      const RopeConfig c = read(R"({"rope_theta": 7, ")" + std::string(key) + R"(": )" + nothing + "}");
      EXPECT_EQ(c.theta, 7) << nothing;
      EXPECT_EQ(c.kind, RopeKind::standard) << nothing;
    }
  const RopeConfig inner = read(R"({"rope_theta": 7, "rope_parameters": {"rope_type": "default", "rope_theta": 9}})");
  EXPECT_EQ(inner.theta, 9);
  const RopeConfig replaced =
      read(R"({"rope_parameters": {"rope_theta": 9}, "rope_scaling": {"rope_type": "default", "type": "linear"}})");
  EXPECT_EQ(replaced.theta, 10000.0) << "rope_scaling replaces all of rope_parameters";
  EXPECT_EQ(replaced.kind, RopeKind::standard) << "rope_type wins over type";
  EXPECT_EQ(read(R"({"rope_scaling": {"factor": 2}})").kind, RopeKind::standard);
}

TEST(Rope, TakesTheOriginalLengthFromTheTopLevelFirst) {
  const std::string scaling = R"("rope_scaling": {"rope_type": "yarn", "factor": 4)";
  EXPECT_EQ(read("{" + scaling + "}}").original_max_position_embeddings, 32768);
  EXPECT_EQ(read("{" + scaling + R"(, "original_max_position_embeddings": 100}})").original_max_position_embeddings,
            100);
  EXPECT_EQ(
      read(R"({"original_max_position_embeddings": 50, )" + scaling + R"(, "original_max_position_embeddings": 100}})")
          .original_max_position_embeddings,
      50);
}

TEST(Rope, RefusesByNameWhatItDoesNotDo) {
  EXPECT_THAT(refusal(R"({"rope_scaling": {"type": "mrope", "mrope_section": [1]}})"),
              HasSubstr("config.json, rope_scaling: 'type' is \"mrope\""));
  EXPECT_THAT(refusal(R"({"rope_parameters": {"rope_type": null, "type": "linear"}})"),
              HasSubstr("'rope_type' is null"));
  EXPECT_THAT(refusal(R"({"rope_parameters": {"full_attention": {"rope_type": "default"}}})"),
              HasSubstr("full_attention"));
  EXPECT_THAT(refusal(R"({"rope_scaling": "linear"})"), HasSubstr("expected an object"));
  EXPECT_THAT(refusal(R"({"rope_scaling": {"type": "linear", "factor": 2}, "partial_rotary_factor": 0.5})"),
              HasSubstr("partial_rotary_factor"));
  EXPECT_EQ(refusal(R"({"rope_scaling": {"type": "linear", "factor": 2, "partial_rotary_factor": 1},
                        "partial_rotary_factor": 0.5})"),
            "accepted");
  EXPECT_EQ(refusal(R"({"partial_rotary_factor": 0.5})"), "accepted") << "the default kind does not look at it";
}

TEST(Rope, RefusesMissingAndSenselessValues) {
  for (const char* kind : {"linear", "dynamic", "yarn", "llama3"})
    EXPECT_THAT(refusal(R"({"rope_scaling": {"rope_type": ")" + std::string(kind) + R"("}})"),
                HasSubstr("'factor' is missing"))
        << kind;
  for (const char* factor : {"0", "-1", "1e300", R"("2")", "true"})
    EXPECT_THAT(refusal(R"({"rope_scaling": {"rope_type": "linear", "factor": )" + std::string(factor) + "}}"),
                HasSubstr("'factor' is"))
        << factor;
  EXPECT_THAT(refusal(R"({"rope_theta": 0})"), HasSubstr("rope_theta"));
  EXPECT_THAT(refusal(R"({"rope_theta": 5, "rope_parameters": {"rope_type": "default", "rope_theta": null}})"),
              HasSubstr("'rope_theta' is null"));
  EXPECT_THAT(refusal(R"({"rope_theta": 1, "rope_scaling": {"rope_type": "yarn", "factor": 4}})"),
              HasSubstr("rope_theta"));
  EXPECT_THAT(refusal(R"({"rope_scaling": {"rope_type": "yarn", "factor": 4, "beta_fast": -1}})"),
              HasSubstr("beta_fast"));
  EXPECT_THAT(refusal(R"({"rope_scaling": {"rope_type": "yarn", "factor": 4, "attention_factor": -1}})"),
              HasSubstr("attention"));
  EXPECT_THAT(refusal(R"({"rope_scaling": {"rope_type": "llama3", "factor": 4, "high_freq_factor": 4}})"),
              HasSubstr("low_freq_factor"));
  EXPECT_THAT(refusal(R"({"rope_scaling": {"rope_type": "llama3", "factor": 4, "low_freq_factor": 4,
                          "high_freq_factor": 4}})"),
              HasSubstr("high_freq_factor"));
  EXPECT_THAT(refusal(R"({"rope_scaling": {"rope_type": "longrope", "short_factor": [1], "long_factor": [1, 1]}})", 4),
              HasSubstr("'short_factor' has 1 numbers, expected 2"));
  EXPECT_THAT(refusal(R"({"rope_scaling": {"rope_type": "longrope", "short_factor": [1, 1]}})", 4),
              HasSubstr("'long_factor' is missing"));
  EXPECT_THAT(refusal(R"({"rope_scaling": {"rope_type": "dynamic", "factor": 2}})", 2), HasSubstr("head_dim"));
}

TEST(Rope, WarnsThatAttnFactorIsNotUsed) {
  ::testing::internal::CaptureStderr();
  const RopeConfig c = read(R"({"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "yarn", "factor": 4.0,
      "original_max_position_embeddings": 32768, "attn_factor": 0.8782488562869419}})");
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("'attn_factor' is 0.8782488562869419"));
  EXPECT_NEAR(c.attention_factor, 1.1386294, 1e-7) << "Hugging Face knows attention_factor only";
}

}  // namespace
}  // namespace cajal
