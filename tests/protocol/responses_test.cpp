#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "protocol/responses_answer.h"
#include "protocol/responses_request.h"

namespace cajal::protocol {
namespace {

Json json(const std::string& text) { return parse_json(text, "a test"); }

ResponsesRequest read(const std::string& members) { return read_responses_request(json("{" + members + "}")); }

std::string refused_with(const std::string& members) {
  try {
    read(members.find("\"input\"") == std::string::npos ? "\"input\": \"hi\", " + members : members);
    return "";
  } catch (const RequestError& e) {
    EXPECT_EQ(e.body().status, 400);
    EXPECT_NE(e.body().message.find(e.body().param), std::string::npos) << e.body().message;
    return e.body().param;
  }
}

std::string messages_of(const std::string& members) { return to_json(*read(members).chat.variables.find("messages")); }

const std::string kTools =
    R"("tools": [{"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": true},
                 {"type": "function", "name": "g", "parameters": null}])";

TEST(ResponsesRequest, TakesATextOrItems) {
  EXPECT_EQ(messages_of(R"("input": "hi", "instructions": "Be kind.")"),
            R"([{"role":"system","content":"Be kind."},{"role":"user","content":"hi"}])");
  EXPECT_EQ(messages_of(R"("input": [{"role": "developer", "content": "Be kind."},
                                     {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "h"},
                                                                                     {"type": "input_text", "text": "i"}]}])"),
            R"([{"role":"system","content":"Be kind."},{"role":"user","content":"hi"}])");
}

TEST(ResponsesRequest, JoinsTheItemsOfATurn) {
  const std::string turn = R"("input": [{"role": "user", "content": "Is it wet?"},
    {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "look"}]},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see.", "annotations": []}]},
    {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{\"at\": \"Bern\"}"},
    {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "rain"},
    {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "sun"}]},
    {"type": "reasoning", "summary": [], "encrypted_content": "cajal:done"},
    {"role": "assistant", "content": "Yes."}])";
  EXPECT_EQ(
      messages_of(turn),
      R"([{"role":"user","content":"Is it wet?"},)"
      R"({"role":"assistant","content":"Let me see.","tool_calls":[)"
      R"({"type":"function","id":"c1","function":{"name":"f","arguments":{"at":"Bern"}}},)"
      R"({"type":"function","id":"c2","function":{"name":"g","arguments":{}}}],"reasoning_content":"look"},)"
      R"({"role":"tool","content":"rain","tool_call_id":"c1"},{"role":"tool","content":"sun","tool_call_id":"c2"},)"
      R"({"role":"assistant","content":"Yes.","reasoning_content":"done"}])");
}

TEST(ResponsesRequest, AThoughtAfterWordsBeginsATurn) {
  EXPECT_EQ(
      messages_of(R"("input": [{"role": "assistant", "content": "One."},
                                     {"type": "reasoning", "summary": [{"type": "summary_text", "text": "two"}]},
                                     {"role": "assistant", "content": "Two."}])"),
      R"([{"role":"assistant","content":"One."},{"role":"assistant","content":"Two.","reasoning_content":"two"}])");
}

TEST(ResponsesRequest, TranslatesToolsAndTheirChoice) {
  EXPECT_EQ(
      to_json(Json(read("\"input\": \"x\", " + kTools).chat.tools)),
      R"([{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"},"strict":true}},)"
      R"({"type":"function","function":{"name":"g"}}])");
  EXPECT_TRUE(read("\"input\": \"x\", \"tool_choice\": \"none\", " + kTools).chat.tools.empty());
  const auto allowed = read(
      R"("input": "x", "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]}, )" +
      kTools);
  EXPECT_EQ(to_json(Json(allowed.chat.tools)), R"([{"type":"function","function":{"name":"g"}}])");
  EXPECT_FALSE(read(R"("input": "x", "parallel_tool_calls": false)").chat.parallel_tool_calls);
}

const std::string kNamespace = R"("tools": [{"type": "web_search"}, {"type": "namespace", "name": "agents", "tools": [
    {"type": "function", "name": "start", "parameters": {}}]}, {"type": "namespace", "name": "mcp__x__", "tools": [
    {"type": "function", "name": "start", "parameters": {}}]}])";

TEST(ResponsesRequest, GivesFunctionsOfNamespacesNamesOfTheirOwn) {
  const auto request = read(
      "\"input\": [{\"type\": \"function_call\", \"call_id\": \"c\", \"namespace\": \"agents\", "
      "\"name\": \"start\"}], " +
      kNamespace);
  std::string names;
  for (const Json& tool : request.chat.tools) names += tool.find("function")->find("name")->as_string() + " ";
  EXPECT_EQ(names, "agents__start mcp__x__start ");
  EXPECT_NE(to_json(*request.chat.variables.find("messages")).find("agents__start"), std::string::npos);
  EXPECT_EQ(request.chat.ignored, std::vector<std::string>{"tools[0]"}) << "what the server would have to run is named";
}

TEST(ResponsesRequest, TakesWhatSaysHowTokensAreDrawn) {
  const ResponsesRequest request =
      read(R"("input": "x", "model": "m", "max_output_tokens": 7, "temperature": 0.5, "top_p": 0.9,
    "top_k": 3, "stream": true, "reasoning": {"effort": "none", "summary": "auto"}, "store": true, "user": "u",
    "include": ["reasoning.encrypted_content"], "text": {"format": {"type": "text"}, "verbosity": "low"}, "what": 1,
    "metadata": {"a": "b"}, "stream_options": {"include_obfuscation": false}, "prompt_cache_key": "k")");
  EXPECT_EQ(request.chat.model, "m");
  EXPECT_EQ(request.chat.sampling.max_tokens, 7);
  EXPECT_EQ(request.chat.sampling.temperature, 0.5);
  EXPECT_EQ(request.chat.sampling.top_p, 0.9);
  EXPECT_EQ(request.chat.sampling.top_k, 3);
  EXPECT_TRUE(request.chat.answer.stream);
  EXPECT_EQ(to_json(*request.chat.variables.find("enable_thinking")), "false");
  EXPECT_TRUE(request.encrypted_content);
  EXPECT_EQ(request.chat.ignored, std::vector<std::string>{"what"});
  EXPECT_EQ(to_json(*request.echo.find("max_output_tokens")), "7");
  EXPECT_EQ(to_json(*request.echo.find("metadata")), R"({"a":"b"})");
}

TEST(ResponsesRequest, RepeatsNoMoreThanAStreamCanCarry) {
  const auto echo = [](std::size_t size) {
    return read("\"input\": \"x\", \"user\": \"u\", \"instructions\": \"" + std::string(size, 'x') + '"').echo;
  };
  EXPECT_EQ(echo(1000).find("instructions")->as_string().size(), 1000u);
  EXPECT_EQ(to_json(echo(1000000)), to_json(read("\"input\": \"x\"").echo));
}

TEST(ResponsesRequest, ReadsManyPiecesInTimeThatGrowsWithThem) {
  std::string items, calls;
  for (int i = 0; i < 10000; ++i) {
    items += std::string(i ? "," : "") + R"({"role":"assistant","content":"some words"})";
    calls += std::string(i ? "," : "") + R"({"type":"function_call","call_id":"c","name":"f","arguments":"{}"})";
  }
  const ResponsesRequest words = read("\"input\": [" + items + "]"), called = read("\"input\": [" + calls + "]");
  const Json::Array& turns = words.chat.variables.find("messages")->as_array();
  EXPECT_EQ(turns[0].find("content")->as_string().size(), 100000u) << "one turn of many pieces";
  EXPECT_EQ(turns.size() + called.chat.variables.find("messages")->as_array().size(), 2u);
}

TEST(ResponsesRequest, NamesTheFieldThatIsWrong) {
  for (const auto& [members, field] : std::vector<std::pair<std::string, std::string>>{
           {R"("input": null)", "input"},
           {R"("input": [])", "input"},
           {R"("input": 1)", "input"},
           {R"("input": [{"role": "pirate", "content": "x"}])", "input[0].role"},
           {R"("input": [{"role": "user"}])", "input[0].content"},
           {R"("input": [{"role": "user", "content": [{"type": "input_image"}]}])", "input[0].content[0]"},
           {R"("input": [{"type": "item_reference", "id": "x"}])", "input[0]"},
           {R"("input": [{"type": "web_search_call"}])", "input[0]"},
           {R"("input": [{"type": "function_call", "name": "f"}])", "input[0].call_id"},
           {R"("input": [{"type": "function_call_output", "call_id": "c"}])", "input[0].output"},
           {R"("input": [{"type": "reasoning", "encrypted_content": "gAAAA"}])", "input[0].encrypted_content"},
           {R"("previous_response_id": "resp_1")", "previous_response_id"},
           {R"("conversation": "c")", "conversation"},
           {R"("background": true)", "background"},
           {R"("truncation": "auto")", "truncation"},
           {R"("max_output_tokens": 0)", "max_output_tokens"},
           {R"("temperature": -1)", "temperature"},
           {R"("top_logprobs": 2)", "top_logprobs"},
           {R"("include": ["message.output_text.logprobs"])", "include[0]"},
           {R"("tools": [{"type": "custom", "name": "x"}])", "tools[0]"},
           {R"("tools": [{"type": "namespace", "name": "n", "tools": [{"type": "function"}]}])",
            "tools[0].tools[0].name"},
           {R"("tools": [{"type": "namespace", "name": "n", "tools": [{"type": "namespace", "name": "m"}]}])",
            "tools[0].tools[0]"},
           {R"("tools": [{"type": "function"}])", "tools[0].name"},
           {R"("tools": [{"type": "function", "name": "f", "parameters": 1}])", "tools[0].parameters"},
           {R"("tool_choice": {"type": "mcp"})", "tool_choice"},
           {R"("tool_choice": {"type": "function"})", "tool_choice.name"},
           {R"("text": {"format": {"type": "json_schema"}})", "text.format.name"},
           {R"("text": {"format": {"type": "xml"}})", "text.format"},
       })
    EXPECT_EQ(refused_with(members).substr(0, field.size()), field) << members;
}

ResponsesAnswer answer(bool encrypted = false) {
  int next = 0;
  return {{.created = 7, .model = "m", .echo = json(R"({"tools": []})"), .encrypted_content = encrypted},
          [next](std::string_view prefix) mutable { return std::string(prefix) + std::to_string(++next); }};
}

std::vector<Json> events_of(const std::string& text) {
  std::vector<Json> events;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t data = text.find("data: ", at), end = text.find("\n\n", at);
    events.push_back(json(text.substr(data + 6, end - data - 6)));
    EXPECT_EQ(text.substr(at, data - at), "event: " + events.back().find("type")->as_string() + "\n");
    at = end + 2;
  }
  return events;
}

TEST(ResponsesAnswer, TellsEveryItemFromItsBeginningToItsEnd) {
  ResponsesAnswer a = answer();
  std::string text = a.begin();
  text += a.add({.reasoning = "Hm", .content = {}, .calls = {}});
  text += a.add({.reasoning = "!", .content = "A ", .calls = {}});
  text += a.add({.reasoning = {}, .content = "b", .calls = {{0, "f", "{\"x\""}}});
  text += a.add({.reasoning = {}, .content = {}, .calls = {{0, {}, ":1}"}}});
  text += a.end(true, {.prompt_tokens = 10, .completion_tokens = 5, .cached_tokens = 4, .reasoning_tokens = 2});
  const std::vector<Json> events = events_of(text);
  std::string types;
  for (std::size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i].find("sequence_number")->as_int(), static_cast<std::int64_t>(i));
    types += events[i].find("type")->as_string().substr(9) + " ";
  }
  EXPECT_EQ(types,
            "created in_progress output_item.added content_part.added reasoning_text.delta reasoning_text.delta "
            "reasoning_text.done content_part.done output_item.done output_item.added content_part.added "
            "output_text.delta output_text.delta output_text.done content_part.done output_item.done "
            "output_item.added function_call_arguments.delta function_call_arguments.delta "
            "function_call_arguments.done output_item.done completed ");
  EXPECT_EQ(
      to_json(events[12]),
      R"({"type":"response.output_text.delta","sequence_number":12,"item_id":"msg_3","output_index":1,"content_index":0,"logprobs":[],"delta":"b"})");
  EXPECT_EQ(
      to_json(events[20]),
      R"({"type":"response.output_item.done","sequence_number":20,"item":{"id":"fc_4","type":"function_call","call_id":"call_5","name":"f","arguments":"{\"x\":1}","status":"completed"},"output_index":2})");
  const Json& response = *events.back().find("response");
  EXPECT_EQ(
      to_json(*response.find("output")),
      R"([{"id":"rs_2","type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"Hm!"}],"status":"completed"},)"
      R"({"id":"msg_3","type":"message","role":"assistant","content":[{"type":"output_text","text":"A b","annotations":[],"logprobs":[]}],"status":"completed"},)"
      R"({"id":"fc_4","type":"function_call","call_id":"call_5","name":"f","arguments":"{\"x\":1}","status":"completed"}])");
  EXPECT_EQ(to_json(*response.find("usage")),
            R"({"input_tokens":10,"input_tokens_details":{"cached_tokens":4,"cache_write_tokens":0},"output_tokens":5,)"
            R"("output_tokens_details":{"reasoning_tokens":2},"total_tokens":15})");
  EXPECT_EQ(*a.whole().find("output"), *response.find("output"));
}

TEST(ResponsesAnswer, CallsFunctionsOfNamespacesByBothNames) {
  ResponsesAnswer a({.created = 7,
                     .model = "m",
                     .echo = json("{}"),
                     .namespaced = read("\"input\": \"x\", " + kNamespace).namespaced},
                    [](std::string_view prefix) { return std::string(prefix); });
  a.add({.reasoning = {}, .content = {}, .calls = {{0, "mcp__x__start", "{}"}}});
  a.end(true, {});
  const Json whole = a.whole();
  const Json& call = whole.find("output")->as_array()[0];
  EXPECT_EQ(call.find("name")->as_string() + " of " + call.find("namespace")->as_string(), "start of mcp__x__");
}

TEST(ResponsesAnswer, IsIncompleteWhenItWasTooLong) {
  ResponsesAnswer a = answer();
  a.add({.reasoning = {}, .content = "A", .calls = {}});
  const std::vector<Json> events = events_of(a.end(false, {}));
  EXPECT_EQ(events.back().find("type")->as_string(), "response.incomplete");
  EXPECT_EQ(to_json(*a.whole().find("incomplete_details")), R"({"reason":"max_output_tokens"})");
  EXPECT_EQ(a.whole().find("output")->as_array()[0].find("status")->as_string(), "incomplete");
}

TEST(ResponsesAnswer, SaysWhyItFailed) {
  ResponsesAnswer a = answer();
  a.begin();
  const std::vector<Json> events = events_of(a.fail({.status = 500, .message = "no"}));
  EXPECT_EQ(events.back().find("type")->as_string(), "response.failed");
  EXPECT_EQ(to_json(*a.whole().find("error")), R"({"code":"server_error","message":"no"})");
  EXPECT_EQ(a.whole().find("status")->as_string(), "failed");
}

TEST(ResponsesAnswer, HandsThoughtsOnInAFormThatARequestReads) {
  ResponsesAnswer a = answer(true);
  a.add({.reasoning = "Hm", .content = {}, .calls = {}});
  a.end(true, {});
  const std::string handed = a.whole().find("output")->as_array()[0].find("encrypted_content")->as_string();
  EXPECT_EQ(messages_of(R"("input": [{"type": "reasoning", "summary": [], "encrypted_content": ")" + handed + "\"}]"),
            R"([{"role":"assistant","content":"","reasoning_content":"Hm"}])");
}

}  // namespace
}  // namespace cajal::protocol
