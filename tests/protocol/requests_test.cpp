#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "protocol/chat_request.h"
#include "protocol/completion_request.h"

namespace cajal::protocol {
namespace {

using Cases = std::vector<std::pair<std::string, std::string>>;  // members of a request, and the field that is wrong

Json body(const std::string& required, const std::string& members) {
  return parse_json("{" + required + (members.empty() ? "" : ", " + members) + "}", "a test");
}
ChatRequest read_chat(const std::string& members) {
  return read_chat_request(body(R"("messages": [{"role": "user", "content": "hi"}])", members));
}
CompletionRequest read_completion(const std::string& members) {
  return read_completion_request(body(R"("prompt": "hi")", members));
}
ChatRequest read_turns(const std::string& messages) { return read_chat_request(body("\"messages\": " + messages, "")); }

template <class Read>
std::string refused(Read&& read, const std::string& members) {
  try {
    read(members);
    return "";
  } catch (const RequestError& e) {
    EXPECT_EQ(e.body().status, 400);
    EXPECT_NE(e.body().message.find(e.body().param), std::string::npos) << e.body().message;
    return e.body().param;
  }
}

const Cases kWrongNumbers = {
    {R"("temperature": -0.1)", "temperature"},
    {R"("temperature": "warm")", "temperature"},
    {R"("temperature": 1e308)", "temperature"},
    {R"("top_p": 0)", "top_p"},
    {R"("top_p": 1.01)", "top_p"},
    {R"("top_k": -2)", "top_k"},
    {R"("top_k": 1.5)", "top_k"},
    {R"("top_k": 2147483648)", "top_k"},
    {R"("min_p": 1.5)", "min_p"},
    {R"("repetition_penalty": 0)", "repetition_penalty"},
    {R"("presence_penalty": 2.5)", "presence_penalty"},
    {R"("frequency_penalty": -3)", "frequency_penalty"},
    {R"("n": 0)", "n"},
    {R"("n": 129)", "n"},
    {R"("n": 9223372036854775807)", "n"},
    {R"("n": 1e30)", "n"},
    {R"("n": true)", "n"},
    {R"("seed": "x")", "seed"},
    {R"("max_tokens": -1)", "max_tokens"},
    {R"("max_tokens": 9223372036854775807)", "max_tokens"},
    {R"("priority": 2147483648)", "priority"},
    {R"("timeout_ms": -1)", "timeout_ms"},
    {R"("truncate_prompt_tokens": -2)", "truncate_prompt_tokens"},
    {R"("stop": [1])", "stop"},
    {R"("stop": {})", "stop"},
    {R"("stop": ["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"])", "stop"},
    {R"("stop": ")" + std::string(257, 'x') + "\"", "stop"},
    {R"("stop_token_ids": [-1])", "stop_token_ids[0]"},
    {R"("stop_token_ids": [0, 2147483648])", "stop_token_ids[1]"},
    {R"("ignore_eos": 1)", "ignore_eos"},
    {R"("skip_special_tokens": "yes")", "skip_special_tokens"},
    {R"("spaces_between_special_tokens": 1)", "spaces_between_special_tokens"},
    {R"("cache_salt": 1)", "cache_salt"},
    {R"("cache_salt": ")" + std::string(257, 'x') + "\"", "cache_salt"},
    {R"("stream": "true")", "stream"},
    {R"("stream_options": {"include_usage": true})", "stream_options"},
    {R"("stream": true, "stream_options": 1)", "stream_options"},
    {R"("return_token_ids": 1)", "return_token_ids"},
    {R"("model": 1)", "model"},
    {R"("prompt_logprobs": 1)", "prompt_logprobs"},
    {R"("use_beam_search": true)", "use_beam_search"},
    {R"("kv_transfer_params": {})", "kv_transfer_params"},
};

TEST(Requests, NameTheNumberThatIsOutOfItsRange) {
  for (const auto& [members, field] : kWrongNumbers) {
    EXPECT_EQ(refused(read_chat, members), field) << members;
    EXPECT_EQ(refused(read_completion, members), field) << members;
  }
}

TEST(Requests, TakeEveryFieldAtItsBounds) {
  for (const char* members :
       {R"("temperature": 0, "top_p": 1, "top_k": -1, "min_p": 0)",
        R"("temperature": 1000000, "top_k": 1073741824, "min_p": 1)",
        R"("presence_penalty": -2, "frequency_penalty": 2)", R"("n": 128)", R"("n": 1.0)", R"("max_tokens": 1)",
        R"("seed": -9223372036854775808)", R"("priority": -2147483648)", R"("timeout_ms": 0)",
        R"("truncate_prompt_tokens": -1)", R"("stop": "")", R"("stop": ["", "a"])", R"("stop": [])",
        R"("stop_token_ids": [])",
        R"("stream": true, "stream_options": {"include_usage": true, "continuous_usage_stats": true})"}) {
    EXPECT_EQ(refused(read_chat, members), "") << members;
    EXPECT_EQ(refused(read_completion, members), "") << members;
  }
}

TEST(Requests, TakeNullForNothingSaid) {
  const ChatRequest request =
      read_chat(R"("temperature": null, "n": null, "stop": null, "tools": null, "stream": null, "seed": null,
    "max_tokens": null, "response_format": null, "logprobs": null, "stream_options": null, "tool_choice": null, "user": null)");
  EXPECT_FALSE(request.sampling.temperature || request.sampling.max_tokens || request.sampling.seed);
  EXPECT_EQ(request.sampling.n, 1);
  EXPECT_TRUE(request.ignored.empty());
}

TEST(Requests, SayWhatNobodyKnows) {
  EXPECT_EQ(read_chat(R"("temperatur": 1, "user": "u")").ignored, std::vector<std::string>{"temperatur"});
  EXPECT_EQ(read_completion(R"("messages": [], "metadata": {})").ignored, std::vector<std::string>{"messages"});
}

TEST(Requests, LeaveControlTokensOutOfTextUnlessTold) {
  EXPECT_TRUE(read_chat("").sampling.skip_special_tokens);
  EXPECT_FALSE(read_chat(R"("skip_special_tokens": false)").sampling.skip_special_tokens);
}

TEST(ChatRequests, TakeTheNewerNameOfTheLargestLength) {
  EXPECT_FALSE(read_chat("").sampling.max_tokens) << "there is no limit but the room";
  EXPECT_EQ(read_chat(R"("max_tokens": 5)").sampling.max_tokens, 5);
  EXPECT_EQ(read_chat(R"("max_tokens": 5, "max_completion_tokens": 7)").sampling.max_tokens, 7);
}

TEST(ChatRequests, NameTheMessageThatIsWrong) {
  for (const auto& [messages, field] : Cases{
           {"null", "messages"},
           {"[]", "messages"},
           {"\"hi\"", "messages"},
           {"[1]", "messages[0]"},
           {R"([{"content": "x"}])", "messages[0].role"},
           {R"([{"role": "pirate", "content": "x"}])", "messages[0].role"},
           {R"([{"role": "user"}])", "messages[0].content"},
           {R"([{"role": "user", "content": null}])", "messages[0].content"},
           {R"([{"role": "user", "content": 1}])", "messages[0].content"},
           {R"([{"role": "user", "content": "x"}, {"role": "user", "content": [{"type": "image_url"}]}])",
            "messages[1].content[0]"},
           {R"([{"role": "user", "content": [{"type": "text"}]}])", "messages[0].content[0].text"},
           {R"([{"role": "assistant", "content": null}])", "messages[0].content"},
           {R"([{"role": "assistant", "tool_calls": [{"id": "x"}]}])", "messages[0].tool_calls[0].function"},
           {R"([{"role": "assistant", "tool_calls": [{"function": {}}]}])", "messages[0].tool_calls[0].function.name"},
       })
    EXPECT_EQ(refused(read_turns, messages), field) << messages;
}

TEST(ChatRequests, GiveTemplatesWhatTheyExpect) {
  const ChatRequest request = read_turns(R"([{"role": "developer", "content": "Be kind."},
    {"role": "user", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]},
    {"role": "assistant", "content": null, "reasoning": "look", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]},
    {"role": "tool", "tool_call_id": "c", "content": "r"}])");
  EXPECT_EQ(
      to_json(*request.variables.find("messages")),
      R"([{"role":"system","content":"Be kind."},{"role":"user","content":"hi"},)"
      R"({"role":"assistant","content":"","tool_calls":[{"type":"function","id":"c","function":{"name":"f","arguments":{"a":1}}}],)"
      R"("reasoning_content":"look"},{"role":"tool","content":"r","tool_call_id":"c"}])");
  EXPECT_EQ(to_json(*request.variables.find("add_generation_prompt")), "true");
}

TEST(ChatRequests, ReadToolsAndHowTheyAreUsed) {
  const std::string tools =
      R"("tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}])";
  EXPECT_EQ(read_chat(tools).tools.size(), 1u);
  EXPECT_TRUE(read_chat(tools).parallel_tool_calls);
  EXPECT_TRUE(read_chat(tools + R"(, "tool_choice": "none")").tools.empty());
  EXPECT_FALSE(read_chat(tools + R"(, "parallel_tool_calls": false)").parallel_tool_calls);
  for (const auto& [members, field] : Cases{
           {R"("tools": {})", "tools"},
           {R"("tools": [1])", "tools[0]"},
           {R"("tools": [{"type": "web_search"}])", "tools[0].type"},
           {R"("tools": [{"type": "function"}])", "tools[0].function"},
           {R"("tools": [{"type": "function", "function": {"name": ""}}])", "tools[0].function.name"},
           {R"("tools": [{"type": "function", "function": {"name": "f", "parameters": []}}])",
            "tools[0].function.parameters"},
           {tools + R"(, "tool_choice": "perhaps")", "tool_choice"},
       })
    EXPECT_EQ(refused(read_chat, members), field) << members;
}

TEST(ChatRequests, RefuseWhatIsNotThereByName) {
  for (const auto& [members, field] : Cases{
           {R"("continue_final_message": true)", "continue_final_message"},
           {R"("chat_template": "{{ x }}")", "chat_template"},
           {R"("chat_template_kwargs": {"messages": []})", "chat_template_kwargs.messages"},
           {R"("top_logprobs": 3)", "top_logprobs"},
           {R"("logprobs": true, "top_logprobs": 21)", "top_logprobs"},
           {R"("functions": [])", "functions"},
           {R"("audio": {})", "audio"},
           {R"("modalities": ["audio"])", "modalities"},
           {R"("store": true)", "store"},
           {R"("echo": true)", "echo"},
       })
    EXPECT_EQ(refused(read_chat, members), field) << members;
  EXPECT_EQ(refused(read_chat, R"("modalities": ["text"], "store": false, "response_format": {"type": "text"})"), "");
}

TEST(ChatRequests, SetVariablesOfTheTemplate) {
  EXPECT_EQ(to_json(*read_chat(R"("reasoning_effort": "none")").variables.find("enable_thinking")), "false");
  EXPECT_EQ(read_chat(R"("reasoning_effort": "high")").variables.find("enable_thinking"), nullptr);
  EXPECT_EQ(to_json(*read_chat(R"("chat_template_kwargs": {"x": [1]})").variables.find("x")), "[1]");
}

TEST(CompletionRequests, TakeTextsAndIdsOneOrMany) {
  const auto count = [](const std::string& prompt) {
    return read_completion_request(body("\"prompt\": " + prompt, "")).prompts.size();
  };
  EXPECT_EQ(count("\"a\""), 1u);
  EXPECT_EQ(count(R"(["a", "b"])"), 2u);
  EXPECT_EQ(count("[1, 2]"), 1u);
  EXPECT_EQ(count("[[1], [2, 3]]"), 2u);
  EXPECT_EQ(count(R"([[1], "b"])"), 2u);
  for (const auto& [prompt, field] : Cases{{"null", "prompt"},
                                           {"[]", "prompt"},
                                           {"{}", "prompt"},
                                           {"[1.5]", "prompt[0]"},
                                           {"[1, -1]", "prompt[1]"},
                                           {"[[1], [2147483648]]", "prompt[1][0]"},
                                           {R"([["a"]])", "prompt[0][0]"}})
    EXPECT_EQ(refused([](const std::string& p) { read_completion_request(body("\"prompt\": " + p, "")); }, prompt),
              field)
        << prompt;
}

TEST(CompletionRequests, HaveOpenAIsDefaults) {
  EXPECT_EQ(read_completion("").sampling.max_tokens, 16);
  EXPECT_EQ(refused(read_completion, R"("max_tokens": 0)"), "max_tokens");
  EXPECT_EQ(read_completion(R"("max_tokens": 0, "echo": true)").sampling.max_tokens, 0)
      << "a prompt may come back alone";
  EXPECT_EQ(read_completion(R"("logprobs": 0)").answer.logprobs, 0);
}

TEST(CompletionRequests, RefuseWhatIsNotThereByName) {
  for (const auto& [members, field] : Cases{{R"("suffix": "x")", "suffix"},
                                            {R"("best_of": 2)", "best_of"},
                                            {R"("prompt_embeds": "x")", "prompt_embeds"},
                                            {R"("logprobs": 21)", "logprobs"},
                                            {R"("echo": true, "stream": true)", "echo"}})
    EXPECT_EQ(refused(read_completion, members), field) << members;
}

TEST(Bodies, AreObjectsThatAreNotTooDeep) {
  for (const std::string& text : {std::string(), std::string("{"), std::string("[]"), std::string("\"x\""),
                                  std::string("{} {}"), std::string("\xff\xfe"), "{\"a\": " + std::string(5000, '[')})
    EXPECT_THROW(parse_body(text), RequestError) << text.substr(0, 20);
}

}  // namespace
}  // namespace cajal::protocol
