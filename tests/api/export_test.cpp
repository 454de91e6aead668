// The library on what `cajal export` makes.
#include <gmock/gmock.h>

#include "api/api_fixture.h"
#include "api/make_export.h"
#include "cajal/cajal.h"

namespace cajal::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class LibraryExport : public ::testing::Test {
 protected:
  LibraryExport() {
    std::string pattern = (std::filesystem::temp_directory_path() / "cajal-api-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
    make_export(golden_folder(), folder_ + "/out");
  }
  ~LibraryExport() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  EngineConfig config() const {
    EngineConfig config;
    config.model = folder_ + "/out";
    return config;
  }
  std::string refusal(const EngineConfig& config) const {
    try {
      Engine engine(config);
    } catch (const Error& e) {
      return e.what();
    }
    return "accepted";
  }
  std::string folder_;
};

TEST_F(LibraryExport, AnswersAsItsModelDoes) {
  EngineConfig direct;
  direct.model = golden_folder();
  Engine exported(config()), model(direct);
  EXPECT_EQ(exported.info().max_num_seqs, 2);
  EXPECT_EQ(exported.info().max_model_len, 64);
  SamplingParams params;
  params.max_tokens = 10;
  params.ignore_eos = true;
  // More than run side by side.
  const std::vector<Prompt> prompts = {std::vector<std::int32_t>{1, 2, 3}, std::vector<std::int32_t>{4, 5},
                                       std::vector<std::int32_t>{6}, std::vector<std::int32_t>{7, 8, 9, 10}};
  const auto a = exported.generate(prompts, params), b = model.generate(prompts, params);
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i)
    EXPECT_EQ(a[i].completions.front().token_ids, b[i].completions.front().token_ids) << i;
}

TEST_F(LibraryExport, RefusesWhatItWasNotMadeFor) {
  EngineConfig longer = config();
  longer.max_model_len = 128;
  EXPECT_THAT(refusal(longer), AllOf(HasSubstr("128"), HasSubstr("sequence_length 64")));
  EngineConfig guessing = config();
  guessing.prompt_lookup_num_tokens = 3;
  EXPECT_THAT(refusal(guessing), HasSubstr("speculation_length of 4"));
  EngineConfig dummy = config();
  dummy.load_format = "dummy";
  EXPECT_THAT(refusal(dummy), HasSubstr("is an export"));
  Engine engine(config());
  try {
    engine.generate(std::vector<Prompt>{std::vector<std::int32_t>(17, 1)}, {});
    FAIL() << "expected an error";
  } catch (const Error& e) {
    EXPECT_THAT(std::string(e.what()), HasSubstr("The input sequence length (17) exceeds the model static sequence"));
  }
}

}  // namespace
}  // namespace cajal::testing
