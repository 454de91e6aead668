#include "cli/model_path.h"

#include <gmock/gmock.h>

#include "cli/cli_fixture.h"
#include "cli/usage_error.h"

namespace cajal::cli {
namespace {

std::string refusal(const std::string& model, const Environment& environment = {}) {
  try {
    resolve_model(model, environment);
  } catch (const Error& e) {
    return e.what();
  }
  return "(found)";
}

TEST(HubCache, IsWhereHuggingFaceKeepsIt) {
  EXPECT_EQ(hub_cache_folder({{"HOME", "/h"}}), "/h/.cache/huggingface/hub");
  EXPECT_EQ(hub_cache_folder({{"HOME", "/h"}, {"XDG_CACHE_HOME", "/x"}}), "/x/huggingface/hub");
  EXPECT_EQ(hub_cache_folder({{"HOME", "/h"}, {"XDG_CACHE_HOME", "/x"}, {"HF_HOME", "/f"}}), "/f/hub");
  EXPECT_EQ(hub_cache_folder({{"HF_HUB_CACHE", "/c"}, {"HF_HOME", "/f"}}), "/c");
  EXPECT_EQ(hub_cache_folder({{"HF_HUB_CACHE", ""}, {"HF_HOME", "/f"}}), "/f/hub") << "an empty variable is none";
}

TEST(ModelPath, IsAnExistingFolder) {
  const TemporaryFolder folder;
  EXPECT_EQ(resolve_model(folder.path(), {}), folder.path());
}

TEST(ModelPath, IsFoundInTheCacheByItsMainRevision) {
  const TemporaryFolder hub;
  const Environment environment{{"HF_HUB_CACHE", hub.path()}};
  hub.file("models--Qwen--Qwen3-0.6B/refs/main", "abc123\n");
  EXPECT_THAT(refusal("Qwen/Qwen3-0.6B", environment), testing::HasSubstr("names a revision that is not there"));
  hub.file("models--Qwen--Qwen3-0.6B/snapshots/abc123/config.json", "{}");
  EXPECT_EQ(resolve_model("Qwen/Qwen3-0.6B", environment), hub.path() + "/models--Qwen--Qwen3-0.6B/snapshots/abc123");
  hub.file("models--gpt2/refs/main", "r");
  hub.file("models--gpt2/snapshots/r/config.json", "{}");
  EXPECT_EQ(resolve_model("gpt2", environment), hub.path() + "/models--gpt2/snapshots/r");
  hub.file("models--a--b/snapshots/r/config.json", "{}");
  EXPECT_THAT(refusal("a/b", environment), testing::HasSubstr("without the revision main"));
}

TEST(ModelPath, SaysWhereItLooked) {
  EXPECT_THAT(refusal("Qwen/Qwen3-0.6B", {{"HF_HOME", "/nowhere"}}),
              testing::AllOf(testing::HasSubstr("/nowhere/hub/models--Qwen--Qwen3-0.6B"),
                             testing::HasSubstr("cajal pull Qwen/Qwen3-0.6B")));
  EXPECT_THAT(refusal("./missing"), testing::HasSubstr("no such folder"));
  EXPECT_THAT(refusal("a/b/c"), testing::HasSubstr("no such folder"));
  EXPECT_THAT(refusal("../up"), testing::HasSubstr("no such folder"));
  const TemporaryFolder folder;
  EXPECT_THAT(refusal(folder.file("model.safetensors", "")), testing::HasSubstr("is a file, expected a folder"));
}

TEST(ModelPath, IsTheDemoModelWhereNoneIsNamed) {
  const TemporaryFolder folder;
  const Environment environment{{"CAJAL_DEMO_MODEL", folder.path()}};
  EXPECT_THROW(resolve_model("", environment), UsageError) << "no model lies there";
  folder.file("config.json", "{}");
  EXPECT_EQ(resolve_model("", environment), folder.path());
}

}  // namespace
}  // namespace cajal::cli
