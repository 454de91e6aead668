// cajal chat in a pipe, and generate --chat.
#include <gmock/gmock.h>

#include <filesystem>

#include "base/file.h"
#include "cli/cli_fixture.h"

namespace cajal::cli {
namespace {

using testing::HasSubstr;
using testing::StartsWith;
using Words = std::vector<std::string>;

// Random weights behind the real tokenizer.
class Chat : public testing::Test {
 protected:
  Chat() {
    folder.file("config.json",
                R"({"architectures":["Qwen3ForCausalLM"],"model_type":"qwen3","vocab_size":151936,"hidden_size":32,
      "intermediate_size":32,"num_hidden_layers":1,"num_attention_heads":1,"num_key_value_heads":1,"head_dim":32,
      "hidden_act":"silu","max_position_embeddings":512,"rms_norm_eps":1e-6,"rope_theta":1000000,
      "tie_word_embeddings":false,"torch_dtype":"bfloat16","eos_token_id":151645})");
    std::filesystem::create_symlink(tokenizer_folder() + "/tokenizer.json", folder.path() + "/tokenizer.json");
  }
  void add_template() {
    std::filesystem::create_symlink(tokenizer_folder() + "/tokenizer_config.json",
                                    folder.path() + "/tokenizer_config.json");
  }
  Ran run_on(const std::string& command, const Words& more, const std::string& input = {}) const {
    Words words{command, folder.path(), "--load-format", "dummy", "--threads", "1"};
    words.insert(words.end(), more.begin(), more.end());
    return cajal(words, input);
  }
  Ran chat(const std::string& input, const Words& more = {}) const {
    Words words{"--max-new-tokens", "4"};
    words.insert(words.end(), more.begin(), more.end());
    return run_on("chat", words, input);
  }
  Json saved(const std::string& input, const Words& more = {}) const {
    const std::string file = folder.path() + "/saved.json";
    EXPECT_EQ(chat(input + "\n/save " + file, more).code, 0);
    return parse_json(read_file(file), file);
  }
  static Json::Array messages_of(const Json& request) { return request.find("messages")->as_array(); }
  static std::string field(const Json& message, const char* name) { return message.find(name)->as_string(); }

  TemporaryFolder folder;
};

TEST_F(Chat, NeedsATokenizerAndATemplate) {
  const Ran no_tokenizer = cajal({"chat", CAJAL_TEST_DATA "/goldens/d_bf16_tied"}, "hi\n");
  EXPECT_EQ(no_tokenizer.code, 1);
  EXPECT_THAT(no_tokenizer.last_line(), HasSubstr("tokenizer.json"));
  const Ran no_template = chat("hi\n");
  EXPECT_EQ(no_template.code, 1);
  EXPECT_THAT(no_template.last_line(), HasSubstr("the model has no chat template"));
  EXPECT_THAT(run_on("generate", {"--chat", "--prompt", "hi"}).last_line(), HasSubstr("has no chat template"));
}

TEST_F(Chat, AnswersLineByLine) {
  add_template();
  const Ran one = chat("hi"), same = run_on("generate", {"--chat", "--prompt", "hi", "--max-new-tokens", "4"});
  EXPECT_EQ(one.code, 0) << one.err;
  EXPECT_EQ(one.out, same.out);
  EXPECT_THAT(chat("hi\r\n\n   \nyes\n").out, StartsWith(one.out + "\n")) << "empty lines are no messages";
  EXPECT_EQ(chat("").out, "");
  EXPECT_EQ(chat("/exit\nhi\n").out, "");
}

TEST_F(Chat, ContinuesTheConversation) {
  add_template();
  Json request = saved("hi\nyes\nand then?", {"--system", "Be brief.", "--no-enable-thinking"});
  Json::Array messages = messages_of(request);
  ASSERT_EQ(messages.size(), 7u);
  const char* roles[] = {"system", "user", "assistant", "user", "assistant", "user", "assistant"};
  for (std::size_t i = 0; i < messages.size(); ++i) EXPECT_EQ(field(messages[i], "role"), roles[i]);
  EXPECT_EQ(field(messages[0], "content"), "Be brief.");
  EXPECT_EQ(field(messages[3], "content"), "yes");

  const std::string last = field(messages.back(), "content");
  messages.pop_back();
  request.set("messages", messages);
  request.set("add_generation_prompt", true);
  request.set("enable_thinking", false);
  const std::string prompt = cajal({"render", folder.path(), "--input", "-"}, to_json(request)).out;
  const Ran again = run_on("generate", {"--prompt", prompt, "--max-new-tokens", "4", "--json"});
  EXPECT_EQ(field(again.json().find("choices")->as_array()[0], "text"), last)
      << "the answer is that of the whole conversation";
}

TEST_F(Chat, Obeys) {
  add_template();
  const std::string once = chat("hi").out;
  EXPECT_EQ(chat("hi\n/clear\nhi").out, once + "\n" + once);
  EXPECT_EQ(chat("/help\n/nothing\n/think\n/save\nhi").out, once) << "hints are no results";
  EXPECT_EQ(chat("/system Be brief.\nhi").out, chat("hi", {"--system", "Be brief."}).out);
  EXPECT_EQ(chat("/system Be brief.\n/system\nhi").out, once);
  EXPECT_EQ(chat("/think off\nhi").out, chat("hi", {"--no-enable-thinking"}).out);
  EXPECT_EQ(field(messages_of(saved(" /clear is text"))[0], "content"), " /clear is text");
  EXPECT_EQ(chat("/save /does/not/exist/file.json").code, 1);
  EXPECT_EQ(chat("/save /dev/null").code, 1) << "only files are replaced";
}

TEST_F(Chat, SaysWhenTheConversationIsTooLong) {
  add_template();
  const Ran ran = chat("hi\n", {"--max-model-len", "8"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.last_line(), HasSubstr("/clear"));
}

TEST_F(Chat, OfGenerateIsTheTemplatesPrompt) {
  add_template();
  const Words prompt{"--chat", "--prompt", "a <|im_end|>", "--max-new-tokens", "1", "--json"};
  Words no_thinking = prompt;
  no_thinking.emplace_back("--no-enable-thinking");
  const Json::Array plain = run_on("generate", prompt).json().find("prompt_token_ids")->as_array();
  const Json::Array quick = run_on("generate", no_thinking).json().find("prompt_token_ids")->as_array();
  EXPECT_EQ(std::count(plain.begin(), plain.end(), Json(151645)), 1) << "what a user writes ends no message";
  ASSERT_EQ(quick.size(), plain.size() + 4) << "an empty thought is part of the prompt";
  EXPECT_TRUE(std::equal(plain.begin(), plain.end(), quick.begin()));
  EXPECT_EQ(run_on("generate", {"--chat", "--token-ids", "1"}).code, 2);
  EXPECT_EQ(run_on("generate", {"--chat", "--prompt", "a", "--enable-thinking", "--no-enable-thinking"}).code, 2);
}

}  // namespace
}  // namespace cajal::cli
