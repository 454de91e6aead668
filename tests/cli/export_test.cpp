// cajal export, and every command on what it made.
#include <gmock/gmock.h>

#include "base/file.h"
#include "cli/cli_fixture.h"

namespace cajal::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Words = std::vector<std::string>;

class ExportCommand : public testing::Test {
 protected:
  ExportCommand() { folder_.file("model/config.json", tiny_config()); }

  std::string model() const { return folder_.path() + "/model"; }
  std::string made() const { return folder_.path() + "/made"; }
  Ran make(const Words& more = {}) const {
    Words words{"export", model(), "-o", made(), "--load-format", "dummy", "--threads", "1"};
    words.insert(words.end(), more.begin(), more.end());
    return cajal(words);
  }
  // The same command on the model with its dummy weights, and on the export of them.
  void expect_same(const std::string& command, const Words& more) const {
    Words direct{command, model(), "--load-format", "dummy"}, exported{command, made()};
    for (Words* words : {&direct, &exported}) {
      words->insert(words->end(), {"--threads", "1"});
      words->insert(words->end(), more.begin(), more.end());
    }
    const Ran a = cajal(direct), b = cajal(exported);
    EXPECT_EQ(a.code, 0) << a.err;
    EXPECT_EQ(b.code, 0) << b.err;
    EXPECT_EQ(a.out, b.out) << command;
  }
  TemporaryFolder folder_;
};

TEST_F(ExportCommand, MakesAFolderThatCommandsRunAsTheModel) {
  const Ran ran = make({"--batch-size", "2", "--speculation-length", "4"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.out, AllOf(HasSubstr("2 sequences of 128 tokens"), HasSubstr("prompts of 128 at once"),
                             HasSubstr("4 rows a guess")));
  expect_same("generate", {"--token-ids", "1,2,3,4,5", "--max-new-tokens", "9", "--ignore-eos"});
  expect_same("generate", {"--token-ids", "1,2,1,2", "--max-new-tokens", "20", "--ignore-eos", "--temperature", "1",
                           "--seed", "3"});
  expect_same("generate",
              {"--token-ids", "1,2,1,2", "--max-new-tokens", "20", "--ignore-eos", "--prompt-lookup-num-tokens", "3"});
  expect_same("score", {"--token-ids", "1,2,3,4,5"});
  const Ran bench = cajal({"bench", made(), "-p", "8", "-n", "2", "-r", "1", "-b", "2", "--json"});
  EXPECT_EQ(bench.code, 0) << bench.err;
}

TEST_F(ExportCommand, SaysWhatItWroteInJson) {
  const Json json = make({"--json", "--sequence-length", "64", "--prefill-chunk-size", "16"}).json();
  EXPECT_EQ(json.find("output")->as_string(), made());
  EXPECT_EQ(json.find("sequence_length")->as_int(), 64);
  EXPECT_GT(json.find("weight_bytes")->as_int(), 0);
  EXPECT_EQ(json.find("graphs")->as_array().size(), 5u);  // of 1, 2, 4, 8 and 16 rows
}

TEST_F(ExportCommand, EndsAtTheSequenceLength) {
  ASSERT_EQ(make({"--sequence-length", "12"}).code, 0);
  const Json json =
      cajal({"generate", made(), "--token-ids", "1,2,3,4", "--max-new-tokens", "50", "--ignore-eos", "--json"}).json();
  const Json& choice = json.find("choices")->as_array().at(0);
  EXPECT_EQ(choice.find("finish_reason")->as_string(), "length");
  EXPECT_EQ(choice.find("token_ids")->as_array().size(), 8u);
}

TEST_F(ExportCommand, RefusesWhatItWasNotMadeFor) {
  ASSERT_EQ(make({"--sequence-length", "64", "--max-context-length", "8"}).code, 0);
  const auto refusal = [&](Words more) {
    more.insert(more.begin(), {"generate", made()});
    const Ran ran = cajal(more);
    EXPECT_EQ(ran.code, 1) << ran.out;
    EXPECT_EQ(ran.out, "");
    return ran.last_line();
  };
  EXPECT_THAT(refusal({"--token-ids", "1,2,3,4,5,6,7,8,9"}),
              HasSubstr("The input sequence length (9) exceeds the model static sequence length (8)"));
  EXPECT_THAT(refusal({"--token-ids", "1", "--max-model-len", "128"}), HasSubstr("sequence_length 64"));
  EXPECT_THAT(refusal({"--token-ids", "1", "--max-num-seqs", "2"}), HasSubstr("batch_size 1"));
  EXPECT_THAT(refusal({"--token-ids", "1", "--dtype", "float32"}), HasSubstr("made for bf16"));
  EXPECT_THAT(refusal({"--token-ids", "1", "--prompt-lookup-num-tokens", "3"}), HasSubstr("speculation_length of 4"));
  EXPECT_THAT(cajal({"bench", made(), "-p", "8", "-n", "2", "-b", "2"}).last_line(),
              HasSubstr("The specified batch_size (2) exceeds the model static batch size (1)"));
}

TEST_F(ExportCommand, LeavesAFolderAloneThatIsThere) {
  ASSERT_EQ(make().code, 0);
  const std::string before = read_file(made() + "/cajal_export.json");
  const Ran again = make({"--sequence-length", "32"});
  EXPECT_EQ(again.code, 1);
  EXPECT_THAT(again.last_line(), HasSubstr("is there already"));
  EXPECT_EQ(read_file(made() + "/cajal_export.json"), before);
}

TEST_F(ExportCommand, IsRefusedForContradictions) {
  EXPECT_THAT(make({"--speculation-length", "4", "--prefill-chunk-size", "16"}).last_line(),
              HasSubstr("Chunked prefill is incompatible with speculative decoding"));
  EXPECT_THAT(make({"--capacity-factor", "2"}).last_line(), HasSubstr("capacity_factor is 2"));
  EXPECT_THAT(make({"--target", "tpu"}).last_line(), HasSubstr("target 'tpu' is unknown"));
  EXPECT_FALSE(file_exists(made() + "/config.json"));
}

TEST_F(ExportCommand, IsInspectedForTargetsThatAreElsewhere) {
  const Words words{"inspect",           model(), "--target", "cpu-avx2", "--batch-size", "4",
                    "--sequence-length", "96",    "--json"};
  const Json json = cajal(words).json();
  EXPECT_EQ(json.find("target")->as_string(), "cpu-avx2");
  const Json& memory = *json.find("memory");
  EXPECT_EQ(memory.find("total_bytes")->as_int(), memory.find("weight_bytes")->as_int() +
                                                      memory.find("kv_cache_bytes")->as_int() +
                                                      memory.find("arena_bytes")->as_int());
  // 4 sequences of two blocks, and the spare one.
  EXPECT_EQ(memory.find("kv_cache_bytes")->as_int(), 9 * 64 * json.find("kv_bytes_per_token")->as_int());
  Words tight = words;
  tight.insert(tight.end(), {"--memory-bytes", "600000"});
  const Ran refused = cajal(tight);
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.last_line(), AllOf(HasSubstr("does not fit"), HasSubstr("take sequences of at most")));
}

TEST_F(ExportCommand, IsInspectedAsItWasMade) {
  ASSERT_EQ(make({"--sequence-length", "64", "--batch-size", "3"}).code, 0);
  const Json json = cajal({"inspect", made(), "--json"}).json();
  EXPECT_EQ(json.find("max_model_len")->as_int(), 64);
  EXPECT_EQ(json.find("max_num_seqs")->as_int(), 3);
  EXPECT_EQ(cajal({"inspect", made(), "--batch-size", "4"}).code, 2);
}

// A checkpoint with weights of its own.
std::string golden() { return CAJAL_TEST_DATA "/goldens/d_bf16_tied"; }

TEST(ExportCache, KeepsWeightsAndGivesTheSameTokens) {
  const TemporaryFolder folder;
  const Environment environment{{"CAJAL_CACHE_DIR", folder.path()}};
  const Words words{"generate", golden(), "--token-ids", "1,2,3", "--max-new-tokens", "12", "--ignore-eos"};
  Words cached = words;
  cached.emplace_back("--export-cache");
  const Ran direct = cajal(words, {}, environment);
  EXPECT_EQ(cajal({"cache", "list", "--json"}, {}, environment).out, "[]\n");
  const Ran first = cajal(cached, {}, environment), second = cajal(cached, {}, environment);
  EXPECT_EQ(first.code, 0) << first.err;
  EXPECT_EQ(first.out, direct.out);
  EXPECT_EQ(second.out, direct.out);

  const Json list = cajal({"cache", "list", "--json"}, {}, environment).json();
  ASSERT_EQ(list.as_array().size(), 1u);
  EXPECT_EQ(list.as_array()[0].find("model")->as_string(), golden());
  EXPECT_GT(list.as_array()[0].find("bytes")->as_int(), 0);
  // Another dtype is another export.
  cached.insert(cached.end(), {"--dtype", "float32"});
  EXPECT_EQ(cajal(cached, {}, environment).code, 0);
  EXPECT_EQ(cajal({"cache", "list", "--json"}, {}, environment).json().as_array().size(), 2u);
  EXPECT_THAT(cajal({"cache", "clean"}, {}, environment).out, HasSubstr("removed 2 exports"));
  EXPECT_THAT(cajal({"cache", "list"}, {}, environment).out, HasSubstr("nothing in"));
}

TEST(ExportCache, DoesNotOutliveAChangeOfItsModel) {
  const TemporaryFolder folder, cache;
  const Environment environment{{"CAJAL_CACHE_DIR", cache.path()}};
  for (const char* name : {"config.json", "model.safetensors"})
    std::filesystem::copy_file(golden() + "/" + name, folder.path() + "/" + name);
  const Words words{"score", folder.path(), "--token-ids", "1,2,3", "--export-cache"};
  const std::string before = cajal(words, {}, environment).out;
  std::string config = read_file(folder.path() + "/config.json");
  const auto at = config.find("\"rope_theta\": ");
  ASSERT_NE(at, std::string::npos);
  config.insert(at + 14, "9");
  folder.file("config.json", config);
  EXPECT_NE(cajal(words, {}, environment).out, before);
  EXPECT_EQ(cajal({"cache", "list", "--json"}, {}, environment).json().as_array().size(), 2u);
}

}  // namespace
}  // namespace cajal::cli
