// cajal_export.json: what is written is read back, and every change of it is found.
#include "compiler/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/checksum.h"
#include "base/error.h"

namespace cajal {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Manifest some_manifest() {
  Manifest m;
  m.cajal_version = "0.1.0";
  m.target = "cpu-avx512";
  m.dtype = DType::f32;
  m.embedding_tensor = m.lm_head_tensor = "model.embed_tokens.weight";
  m.quantization.bits_of(WeightFamily::lm_head) = 4;
  m.quantization.group_size = 128;
  m.num_threads = 2;
  m.kv_bytes_per_block = 4096;
  m.source = "00ff";
  m.files = {{"config.json", 100, 7}, {"graphs/token_generation_1.txt", 2000, ~std::uint64_t{0}}};
  m.graphs = {{GraphKind::token_generation, {1, 1, 4, 1}, "graphs/token_generation_1.txt", 512}};
  m.ranks = {{"weights/rank_0.safetensors", 9000, {{"lm_head.weight", {DType::bf16, {96, 32}, Packed{16, 2}}, 42}}}};
  return m;
}
std::string refusal(const std::string& text) {
  try {
    parse_manifest(text, "cajal_export.json");
  } catch (const Error& e) {
    EXPECT_THAT(e.message(), HasSubstr("cajal_export.json"));
    return e.message() + (e.remedy().empty() ? "" : " — " + e.remedy());
  }
  return "accepted";
}
std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}
// With a checksum that fits, as somebody would write it who changes a file on purpose.
std::string signed_again(std::string text) {
  const std::string key = "\"checksum_of_this_file\": \"";
  const auto at = text.find(key) + key.size();
  text.replace(at, 16, std::string(16, '0'));
  return text.replace(at, 16, checksum_text(checksum(text)));
}

TEST(Manifest, IsReadBackAsItWasWritten) {
  const Manifest m = some_manifest();
  EXPECT_EQ(parse_manifest(to_json_text(m), "text"), m);
  EXPECT_EQ(m.world_size(), 1);
}

TEST(Manifest, IsRefusedAfterAnyChange) {
  const std::string text = to_json_text(some_manifest());
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::string changed = text;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    EXPECT_NE(refusal(changed), "accepted") << "byte " << i << ", '" << text[i] << "'";
    EXPECT_NE(refusal(text.substr(0, i)), "accepted") << i;
  }
}

TEST(Manifest, SaysBothVersionsOfAFormatThatItDoesNotKnow) {
  EXPECT_THAT(refusal(replaced(to_json_text(some_manifest()), "\"format_version\": 2", "\"format_version\": 3")),
              AllOf(HasSubstr("format version 3 (cajal 0.1.0)"), HasSubstr("reads version 2"),
                    HasSubstr("install that version")));
  EXPECT_THAT(refusal(replaced(to_json_text(some_manifest()), "\"format_version\": 2", "\"format_version\": 1")),
              AllOf(HasSubstr("format version 1"), HasSubstr("export the model again")));
}

TEST(Manifest, NamesNoFileOutsideItsFolder) {
  for (const char* name : {"../config.json", "/etc/passwd", "graphs/../../x", "", "a b"}) {
    Manifest m = some_manifest();
    m.files[0].name = name;
    EXPECT_THAT(refusal(to_json_text(m)), HasSubstr("is not the name of a file in the folder")) << name;
  }
}

TEST(Manifest, IsRefusedWhereItsPartsDoNotFit) {
  Manifest twice = some_manifest();
  twice.files.push_back(twice.files[0]);
  EXPECT_THAT(refusal(to_json_text(twice)), HasSubstr("'config.json' stands twice"));
  Manifest lost = some_manifest();
  lost.files.pop_back();
  EXPECT_THAT(refusal(to_json_text(lost)), HasSubstr("is not among the files"));
  Manifest empty = some_manifest();
  empty.ranks.clear();
  EXPECT_THAT(refusal(to_json_text(empty)), HasSubstr("no rank"));
  const std::string text = to_json_text(some_manifest());
  EXPECT_THAT(refusal(signed_again(replaced(text, "f32", "f99"))), HasSubstr("'dtype' is not an element type"));
  EXPECT_THAT(refusal(signed_again(replaced(text, "bf16[96,32]", "bf16[96,?]"))), HasSubstr("'type'"));
  EXPECT_THAT(refusal(signed_again(replaced(text, "\"token_generation\"", "\"medusa\""))), HasSubstr("'kind'"));
  EXPECT_THAT(refusal(signed_again(replaced(text, "\"num_seqs\": 1", "\"num_seqs\": 0"))), HasSubstr("'num_seqs'"));
}

}  // namespace
}  // namespace cajal
