#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "protocol/messages_answer.h"
#include "protocol/messages_request.h"

namespace cajal::protocol {
namespace {

Json json(const std::string& text) { return parse_json(text, "a test"); }

ChatRequest read(const std::string& members, MessagesUse use = MessagesUse::answer) {
  return read_messages_request(json(R"({"max_tokens": 9, "messages": [{"role": "user", "content": "hi"}])" +
                                    (members.empty() ? "" : ", " + members) + "}"),
                               use)
      .chat;
}

ChatRequest read_turns(const std::string& messages) {
  return read_messages_request(json(R"({"max_tokens": 9, "messages": )" + messages + "}")).chat;
}

// The field that a request is refused for, and "" if it is taken.
template <class Read>
std::string refused(Read&& read_it) {
  try {
    read_it();
    return "";
  } catch (const RequestError& e) {
    EXPECT_EQ(e.body().status, 400);
    EXPECT_NE(e.body().message.find(e.body().param), std::string::npos) << e.body().message;
    return e.body().param;
  }
}
std::string refused_with(const std::string& members) {
  return refused([&] { read(members); });
}

std::string variable(const ChatRequest& request, const char* name) {
  const Json* value = request.variables.find(name);
  return value ? to_json(*value) : "absent";
}

TEST(MessagesRequest, BecomesTheChatThatItMeans) {
  const ChatRequest request = read_turns(R"([
    {"role": "user", "content": [{"type": "text", "text": "Is it "}, {"type": "text", "text": "wet?"}]},
    {"role": "assistant", "content": [{"type": "thinking", "thinking": "look", "signature": "x"}, {"type": "text", "text": "Let me see."},
       {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "Bern"}}, {"type": "tool_use", "id": "t2", "name": "ask", "input": {}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "rain"}]},
       {"type": "tool_result", "tool_use_id": "t2", "is_error": true}, {"type": "text", "text": "And now?"}]}])");
  EXPECT_EQ(variable(request, "messages"),
            R"([{"role":"user","content":"Is it wet?"},)"
            R"({"role":"assistant","content":"Let me see.","tool_calls":[)"
            R"({"type":"function","id":"t1","function":{"name":"look","arguments":{"at":"Bern"}}},)"
            R"({"type":"function","id":"t2","function":{"name":"ask","arguments":{}}}],"reasoning_content":"look"},)"
            R"({"role":"tool","content":"rain","tool_call_id":"t1"},{"role":"tool","content":"","tool_call_id":"t2"},)"
            R"({"role":"user","content":"And now?"}])");
}

TEST(MessagesRequest, PutsTheSystemPromptFirst) {
  const std::string expected = R"([{"role":"system","content":"Be kind."},{"role":"user","content":"hi"}])";
  EXPECT_EQ(variable(read(R"("system": "Be kind.")"), "messages"), expected);
  EXPECT_EQ(variable(read(R"("system": [{"type": "text", "text": "Be "},
                             {"type": "text", "text": "kind.", "cache_control": {"type": "ephemeral"}}])"),
                     "messages"),
            expected);
}

TEST(MessagesRequest, TranslatesTools) {
  const std::string tools = R"("tools": [{"name": "look", "description": "d", "input_schema": {"type": "object"}}])";
  EXPECT_EQ(to_json(Json(read(tools).tools)),
            R"([{"type":"function","function":{"name":"look","description":"d","parameters":{"type":"object"}}}])");
  EXPECT_TRUE(read(tools).parallel_tool_calls);
  EXPECT_FALSE(
      read(tools + R"(, "tool_choice": {"type": "auto", "disable_parallel_tool_use": true})").parallel_tool_calls);
  EXPECT_TRUE(read(tools + R"(, "tool_choice": {"type": "none"})").tools.empty());
}

TEST(MessagesRequest, ThinksOnlyIfItIsAskedTo) {
  EXPECT_EQ(variable(read(""), "enable_thinking"), "false");
  EXPECT_EQ(variable(read(R"("thinking": {"type": "disabled"})"), "enable_thinking"), "false");
  EXPECT_EQ(variable(read(R"("thinking": {"type": "adaptive"})"), "enable_thinking"), "true");
  EXPECT_EQ(variable(read(R"("chat_template_kwargs": {"enable_thinking": true})"), "enable_thinking"), "true")
      << "what the template is told by name counts";
}

TEST(MessagesRequest, TakesWhatSaysHowTokensAreDrawn) {
  const ChatRequest request =
      read(R"("model": "m", "temperature": 0.5, "top_p": 0.9, "top_k": 7, "seed": 3, "stream": true,
    "stop_sequences": ["a", "b"], "cache_salt": "s", "metadata": {"user_id": "u"}, "service_tier": "auto", "what": 1)");
  EXPECT_EQ(request.model, "m");
  EXPECT_EQ(request.sampling.max_tokens, 9);
  EXPECT_EQ(request.sampling.temperature, 0.5);
  EXPECT_EQ(request.sampling.top_p, 0.9);
  EXPECT_EQ(request.sampling.top_k, 7);
  EXPECT_EQ(request.sampling.seed, 3u);
  EXPECT_EQ(request.sampling.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(request.sampling.cache_salt, "s");
  EXPECT_TRUE(request.answer.stream);
  EXPECT_EQ(request.ignored, std::vector<std::string>{"what"});
}

TEST(MessagesRequest, NamesTheFieldThatIsWrong) {
  EXPECT_EQ(refused([] { read_messages_request(json(R"({"messages": [{"role": "user", "content": "x"}]})")); }),
            "max_tokens");
  EXPECT_EQ(refused([] { read_messages_request(json(R"({"max_tokens": 1})")); }), "messages");
  for (const auto& [members, field] : std::vector<std::pair<std::string, std::string>>{
           {R"("temperature": -1)", "temperature"},
           {R"("stop_sequences": [1])", "stop_sequences"},
           {R"("system": 1)", "system"},
           {R"("system": [{"type": "image"}])", "system[0]"},
           {R"("tools": [{"input_schema": {}}])", "tools[0].name"},
           {R"("tools": [{"name": "x"}])", "tools[0].input_schema"},
           {R"("tools": [{"type": "web_search_20250305", "name": "web_search"}])", "tools[0]"},
           {R"("tool_choice": {"type": "maybe"})", "tool_choice.type"},
           {R"("tool_choice": {"type": "tool"})", "tool_choice.name"},
           {R"("thinking": {"type": "perhaps"})", "thinking.type"},
           {R"("thinking": {"type": "enabled", "budget_tokens": 0})", "thinking.budget_tokens"},
           {R"("output_config": {"format": {"type": "xml"}})", "output_config.format.type"},
           {R"("output_config": {"format": {"type": "json_schema"}})", "output_config.format.schema"},
           {R"("mcp_servers": [{"url": "x"}])", "mcp_servers"},
           {R"("container": "x")", "container"},
           {R"("chat_template": "x")", "chat_template"},
           {R"("context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]})",
            "context_management.edits[0]"},
       })
    EXPECT_EQ(refused_with(members), field) << members;
  EXPECT_EQ(refused_with(R"("context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]})"),
            "");
}

TEST(MessagesRequest, NamesTheBlockThatIsWrong) {
  for (
      const auto& [messages, field] : std::vector<std::pair<std::string, std::string>>{
          {"[]", "messages"},
          {"[1]", "messages[0]"},
          {R"([{"role": "pirate", "content": "x"}])", "messages[0].role"},
          {R"([{"role": "user"}])", "messages[0].content"},
          {R"([{"role": "user", "content": []}])", "messages[0].content"},
          {R"([{"role": "user", "content": 1}])", "messages[0].content"},
          {R"([{"role": "user", "content": [{"type": "text"}]}])", "messages[0].content[0].text"},
          {R"([{"role": "user", "content": [{"type": "image", "source": {}}]}])", "messages[0].content[0]"},
          {R"([{"role": "user", "content": [{"type": "document"}]}])", "messages[0].content[0]"},
          {R"([{"role": "user", "content": [{"type": "tool_result"}]}])", "messages[0].content[0].tool_use_id"},
          {R"([{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image"}]}]}])",
           "messages[0].content[0].content[0]"},
          {R"([{"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f"}]}])",
           "messages[0].content[0].input"},
          {R"([{"role": "assistant", "content": [{"type": "server_tool_use"}]}])", "messages[0].content[0]"},
          {R"([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}])", "messages"},
      })
    EXPECT_EQ(refused([&turns = messages] { read_turns(turns); }), field) << messages;
}

TEST(MessagesRequest, CountsWithoutSayingHowLongAnAnswerMayBe) {
  const Json body = json(R"({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]})");
  EXPECT_EQ(variable(read_messages_request(body, MessagesUse::count_tokens).chat, "messages"),
            R"([{"role":"user","content":"x"},{"role":"assistant","content":"y"}])");
}

MessagesAnswer answer() {
  int next = 0;
  return {"m", [next](std::string_view prefix) mutable { return std::string(prefix) + std::to_string(++next); }};
}

const UsageCount kUsage = {.prompt_tokens = 10, .completion_tokens = 5, .cached_tokens = 4, .reasoning_tokens = 2};
const std::string kUsageJson =
    R"({"input_tokens":6,"cache_creation_input_tokens":0,"cache_read_input_tokens":4,"output_tokens":5,"output_tokens_details":{"thinking_tokens":2}})";

std::string event(const std::string& type, const std::string& members) {
  return "event: " + type + "\ndata: {\"type\":\"" + type + "\"" + members + "}\n\n";
}
std::string block_start(int index, const std::string& block) {
  return event("content_block_start", ",\"index\":" + std::to_string(index) + ",\"content_block\":" + block);
}
std::string block_delta(int index, const std::string& delta) {
  return event("content_block_delta", ",\"index\":" + std::to_string(index) + ",\"delta\":" + delta);
}
std::string block_stop(int index) { return event("content_block_stop", ",\"index\":" + std::to_string(index)); }

TEST(MessagesAnswer, BeginsWithAnEmptyMessage) {
  EXPECT_EQ(
      answer().begin({.prompt_tokens = 10}),
      event(
          "message_start",
          R"(,"message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,)"
          R"("stop_sequence":null,"usage":{"input_tokens":10,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,)"
          R"("output_tokens":0,"output_tokens_details":{"thinking_tokens":0}}})") +
          event("ping", ""));
}

TEST(MessagesAnswer, StreamsThoughtsWordsAndCallsAsBlocks) {
  MessagesAnswer a = answer();
  a.begin({});
  EXPECT_EQ(a.add({.reasoning = "Hm", .content = {}, .calls = {}}),
            block_start(0, R"({"type":"thinking","thinking":"","signature":""})") +
                block_delta(0, R"({"type":"thinking_delta","thinking":"Hm"})"));
  EXPECT_EQ(a.add({.reasoning = "!", .content = "A \"b\"", .calls = {}}),
            block_delta(0, R"({"type":"thinking_delta","thinking":"!"})") +
                block_delta(0, R"({"type":"signature_delta","signature":"cajal"})") + block_stop(0) +
                block_start(1, R"({"type":"text","text":""})") +
                block_delta(1, R"({"type":"text_delta","text":"A \"b\""})"));
  EXPECT_EQ(a.add({.reasoning = {}, .content = {}, .calls = {{0, "f", "{\"x\""}}}),
            block_stop(1) + block_start(2, R"({"type":"tool_use","id":"toolu_2","name":"f","input":{}})") +
                block_delta(2, R"({"type":"input_json_delta","partial_json":"{\"x\""})"));
  EXPECT_EQ(a.add({.reasoning = {}, .content = {}, .calls = {{0, {}, ":1}"}, {1, "g", "{}"}}}),
            block_delta(2, R"({"type":"input_json_delta","partial_json":":1}"})") + block_stop(2) +
                block_start(3, R"({"type":"tool_use","id":"toolu_3","name":"g","input":{}})") +
                block_delta(3, R"({"type":"input_json_delta","partial_json":"{}"})"));
  EXPECT_EQ(a.add({}), "") << "nothing new is no event";
  EXPECT_EQ(
      a.end("end_turn", "", kUsage),
      block_stop(3) +
          event("message_delta", R"(,"delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":)" + kUsageJson) +
          event("message_stop", ""));
  EXPECT_EQ(to_json(a.whole()),
            R"({"id":"msg_1","type":"message","role":"assistant","model":"m","content":[)"
            R"({"type":"thinking","thinking":"Hm!","signature":"cajal"},{"type":"text","text":"A \"b\""},)"
            R"({"type":"tool_use","id":"toolu_2","name":"f","input":{"x":1}},)"
            R"({"type":"tool_use","id":"toolu_3","name":"g","input":{}}],)"
            R"("stop_reason":"tool_use","stop_sequence":null,"usage":)" +
                kUsageJson + "}");
}

TEST(MessagesAnswer, PutsTextThatFollowsACallAfterIt) {
  MessagesAnswer a = answer();
  a.add({.reasoning = {}, .content = {}, .calls = {{0, "f", "{"}}});
  a.add({.reasoning = {}, .content = "then", .calls = {{0, {}, "}"}, {1, "g", "{}"}}});
  a.end("end_turn", "", {});
  std::string types;
  const Json whole = a.whole();
  for (const Json& block : whole.find("content")->as_array()) types += block.find("type")->as_string() + " ";
  EXPECT_EQ(types, "tool_use text tool_use ");
}

TEST(MessagesAnswer, HandsThoughtsOnInAFormThatARequestReads) {
  EXPECT_TRUE(read_messages_request(json(R"({"max_tokens": 9, "messages": [{"role": "user", "content": "hi"}],
                                             "thinking": {"type": "adaptive", "display": "omitted"}})"))
                  .omits_thinking);
  MessagesAnswer a(
      "m", [](std::string_view prefix) { return std::string(prefix); }, true);
  std::string events = a.add({.reasoning = "H", .content = {}, .calls = {}});
  events += a.add({.reasoning = "m", .content = {}, .calls = {}});
  events += a.end("end_turn", "", {});
  EXPECT_EQ(events.find("thinking_delta"), std::string::npos);
  EXPECT_NE(events.find(R"({"type":"signature_delta","signature":"cajal:Hm"})"), std::string::npos);
  const Json whole = a.whole();
  const std::string block = to_json(whole.find("content")->as_array()[0]);
  EXPECT_EQ(block, R"({"type":"thinking","thinking":"","signature":"cajal:Hm"})");
  EXPECT_EQ(variable(read_turns(R"([{"role": "assistant", "content": [)" + block +
                                R"(]}, {"role": "user", "content": "x"}])"),
                     "messages"),
            R"([{"role":"assistant","content":"","reasoning_content":"Hm"},{"role":"user","content":"x"}])");
}

TEST(MessagesAnswer, SaysWhyItEnded) {
  MessagesAnswer a = answer();
  a.add({.reasoning = {}, .content = {}, .calls = {{0, "f", "{\"x\": \"unfin"}}});
  a.end("max_tokens", "", {});
  EXPECT_EQ(a.whole().find("stop_reason")->as_string(), "max_tokens");
  EXPECT_EQ(to_json(*a.whole().find("content")->as_array()[0].find("input")), R"({"INVALID_JSON":"{\"x\": \"unfin"})");
  MessagesAnswer b = answer();
  b.end("stop_sequence", "END", {});
  EXPECT_EQ(b.whole().find("stop_sequence")->as_string(), "END");
}

TEST(MessagesAnswer, WritesErrorsAsItsClientsReadThem) {
  EXPECT_EQ(to_json(anthropic_error_json({.param = "x", .message = "x is wrong"}, "r1")),
            R"({"type":"error","error":{"type":"invalid_request_error","message":"x is wrong"},"request_id":"r1"})");
  for (const auto& [status, type] : std::vector<std::pair<int, std::string>>{{401, "authentication_error"},
                                                                             {403, "permission_error"},
                                                                             {404, "not_found_error"},
                                                                             {429, "rate_limit_error"},
                                                                             {500, "api_error"},
                                                                             {503, "overloaded_error"},
                                                                             {504, "timeout_error"}})
    EXPECT_EQ(anthropic_error_json({.status = status}, "").find("error")->find("type")->as_string(), type);
  const Json error = anthropic_error_json({.code = "context_length_exceeded", .message = "it has 9"}, "");
  EXPECT_EQ(error.find("error")->find("message")->as_string(), "prompt is too long: it has 9");
}

}  // namespace
}  // namespace cajal::protocol
