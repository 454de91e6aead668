#include <gtest/gtest.h>

#include "base/error.h"
#include "hub/digest.h"
#include "hub/download.h"
#include "hub/hub_settings.h"

namespace cajal {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST(Digest, IsSha256) {
  Digest digest = Digest::sha256();
  digest.update(bytes_of("a"));
  digest.update(bytes_of("bc"));
  EXPECT_EQ(digest.finish(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Digest, IsWhatGitCallsABlob) {
  Digest digest = Digest::git_blob(6);  // printf 'hello\n' | git hash-object --stdin
  digest.update(bytes_of("hello\n"));
  EXPECT_EQ(digest.finish(), "ce013625030ba8dba906f756967f9e9ca394464a");
}

TEST(ModelFiles, AreThoseThatCajalReads) {
  for (const char* path : {"config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja",
                           "merges.txt", "model.safetensors", "model-00001-of-00002.safetensors",
                           "model.safetensors.index.json", "1_Pooling/config.json", "modules.json"})
    EXPECT_TRUE(is_model_file(path)) << path;
  for (const char* path : {"README.md", "LICENSE", "pytorch_model.bin", "model.gguf", "consolidated.safetensors",
                           "onnx/model.onnx", "original/model.safetensors", "a/b/config.json", ".gitattributes"})
    EXPECT_FALSE(is_model_file(path)) << path;
}

TEST(HubSettings, AreThoseOfHuggingFacesLibraries) {
  const HubSettings settings = hub_settings(
      {{"HF_ENDPOINT", "http://mirror/hf/"}, {"HF_TOKEN", " t "}, {"HF_HUB_CACHE", "/c"}, {"HF_HUB_OFFLINE", "True"}});
  EXPECT_EQ(settings.endpoint, "http://mirror/hf");
  EXPECT_EQ(settings.token, "t");
  EXPECT_EQ(settings.cache, "/c");
  EXPECT_TRUE(settings.offline);
  EXPECT_FALSE(hub_settings({{"HF_HUB_OFFLINE", "0"}}).offline);
  EXPECT_EQ(hub_settings({}).endpoint, "https://huggingface.co");
  EXPECT_THROW(hub_settings({{"HF_ENDPOINT", "file:///etc"}}), Error);
  EXPECT_THROW(hub_settings({{"HF_TOKEN", "a\r\nHost: b"}}), Error);
}

}  // namespace
}  // namespace cajal
