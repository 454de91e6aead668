#include "protocol/answers.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "base/error.h"
#include "protocol/chat_answer.h"
#include "protocol/chat_parts.h"
#include "protocol/request_error.h"

namespace cajal::protocol {
namespace {

const UsageCount kUsage = {.prompt_tokens = 10, .completion_tokens = 5, .cached_tokens = 4, .reasoning_tokens = 2};
const std::string kUsageJson =
    R"({"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"prompt_tokens_details":{"cached_tokens":4},)"
    R"("completion_tokens_details":{"reasoning_tokens":2}})";
const AnswerHead kHead = {.id = "chatcmpl-1", .created = 7, .model = "m"};
const std::string kChunkHead =
    R"(data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","choices":[)";

TEST(Errors, HaveAlwaysFourMembers) {
  EXPECT_EQ(to_json(to_json({.message = "no"})),
            R"({"error":{"message":"no","type":"invalid_request_error","param":null,"code":null}})");
  EXPECT_EQ(to_json(to_json({.status = 404, .code = "model_not_found", .param = "model", .message = "no"})),
            R"({"error":{"message":"no","type":"invalid_request_error","param":"model","code":"model_not_found"}})");
}

TEST(Usage, CountsWhatWasCachedAndThought) { EXPECT_EQ(to_json(to_json(kUsage)), kUsageJson); }

TEST(Logprobs, HaveBytesAndNoInfinities) {
  const std::vector<TokenLogprobs> tokens = {
      {{1, "\xc3", -0.5}, {{1, "\xc3", -0.5}, {2, "b", -std::numeric_limits<double>::infinity()}}}};
  EXPECT_EQ(to_json(chat_logprobs_json(tokens, TokenStyle::text)),
            "{\"content\":[{\"token\":\"\xef\xbf\xbd\",\"logprob\":-0.5,\"bytes\":[195],\"top_logprobs\":["
            "{\"token\":\"\xef\xbf\xbd\",\"logprob\":-0.5,\"bytes\":[195]},{\"token\":\"b\",\"logprob\":-9999.0,"
            "\"bytes\":[98]}]}]}");
  EXPECT_EQ(chat_logprobs_json(tokens, TokenStyle::id).find("content")->as_array()[0].find("token")->as_string(),
            "token_id:1");
}

TEST(Logprobs, OfCompletionsCountCharacters) {
  CompletionLogprobs logprobs(TokenStyle::text, 3);
  logprobs.add_first({1, "\xc3\xa4", 0});
  logprobs.add({{2, "b", -1}, {{2, "b", -1}}});
  EXPECT_EQ(to_json(logprobs.take()),
            "{\"tokens\":[\"\xc3\xa4\",\"b\"],\"token_logprobs\":[null,-1.0],\"top_logprobs\":[null,{\"b\":-1.0}],"
            "\"text_offset\":[3,4]}");
  EXPECT_EQ(to_json(logprobs.take()), R"({"tokens":[],"token_logprobs":[],"top_logprobs":[],"text_offset":[]})");
}

TEST(ChatAnswers, HaveTheFieldsOfOpenAIs) {
  ChatChoice choice{.content = "hi", .reasoning = "hm", .calls = {}, .finish_reason = "stop"};
  Json::Array choices;
  choices.push_back(chat_choice_json(choice, ReasoningField::both));
  EXPECT_EQ(to_json(chat_answer_json(kHead, choices, kUsage)),
            R"({"id":"chatcmpl-1","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,)"
            R"("message":{"role":"assistant","content":"hi","refusal":null,"reasoning":"hm","reasoning_content":"hm"},)"
            R"("logprobs":null,"finish_reason":"stop"}],"usage":)" +
                kUsageJson + R"(,"system_fingerprint":null})");
  choice.calls = {{"call_1", "f", "{}"}};
  choice.content.clear();
  const Json called = chat_choice_json(choice, ReasoningField::reasoning);
  EXPECT_EQ(to_json(*called.find("message")),
            R"({"role":"assistant","content":null,"refusal":null,"reasoning":"hm",)"
            R"("tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{}"}}]})");
}

TEST(ChatChunks, AreWrittenByteForByte) {
  const ChatChunks chunks(kHead, false, ReasoningField::reasoning);
  EXPECT_EQ(chunks.chunk({.begins = true}),
            kChunkHead +
                R"({"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]})" +
                "\n\n");
  EXPECT_EQ(chunks.chunk({.choice = 2, .content = "a\"\n", .reasoning = "r"}),
            kChunkHead +
                R"({"index":2,"delta":{"reasoning":"r","content":"a\"\n"},"logprobs":null,"finish_reason":null}]})" +
                "\n\n");
  const ToolCall call{"call_1", "f", ""};
  EXPECT_EQ(
      chunks.chunk({.calls = {{0, &call, "{"}, {0, nullptr, "}"}}}),
      kChunkHead +
          R"({"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":"{"}},)"
          R"({"index":0,"function":{"arguments":"}"}}]},"logprobs":null,"finish_reason":null}]})" +
          "\n\n");
  EXPECT_EQ(chunks.chunk({.finish_reason = "stop"}),
            kChunkHead + R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]})" + "\n\n");
}

TEST(ChatChunks, SayWhatWasUsedWhereThatIsWanted) {
  const ChatChunks chunks(kHead, true, ReasoningField::both);
  EXPECT_EQ(chunks.chunk({.content = "a"}),
            kChunkHead + R"({"index":0,"delta":{"content":"a"},"logprobs":null,"finish_reason":null}],"usage":null})" +
                "\n\n");
  EXPECT_EQ(chunks.usage_chunk(kUsage), kChunkHead + R"(],"usage":)" + kUsageJson + "}\n\n");
}

struct Taken {
  std::string reasoning, content, calls;
  bool operator==(const Taken&) const = default;
};

// What the parts of a text are, whatever the size of the pieces that it comes in.
Taken take(const ChatRequest& request, const ThinkingStart& start, const std::string& text, std::size_t size) {
  ChatParts parts(request, start);
  Taken taken;
  for (std::size_t at = 0; at <= text.size(); at += size) {
    const ChatPiece piece = parts.push(std::string_view(text).substr(at, size), at + size > text.size());
    taken.reasoning += piece.reasoning;
    taken.content += piece.content;
    for (const auto& call : piece.calls) taken.calls += (call.name ? "|" + *call.name + ":" : "") + call.arguments;
  }
  return taken;
}

TEST(ChatParts, AreTheSameHoweverTheTextIsCut) {
  ChatRequest request;
  request.tools = parse_json(R"([{"type": "function", "function": {"name": "f"}}])", "tools").as_array();
  const std::string text =
      "<think>\nhm\n</think>\n\nSo:\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n"
      "<tool_call>\n{\"name\": \"g\", \"arguments\": {\"a\": 1}}\n</tool_call>";
  for (std::size_t size = 1; size <= text.size(); ++size) {
    request.parallel_tool_calls = request.include_reasoning = true;
    EXPECT_EQ(take(request, {}, text, size), (Taken{"hm", "So:", "|f:{}|g:{\"a\": 1}"})) << size;
    EXPECT_EQ(take(request, {.inside = true}, text.substr(8), size), (Taken{"hm", "So:", "|f:{}|g:{\"a\": 1}"}))
        << size;
    request.parallel_tool_calls = request.include_reasoning = false;
    EXPECT_EQ(take(request, {}, text, size), (Taken{"", "So:", "|f:{}"})) << size;
  }
  request.tools.clear();
  EXPECT_EQ(take(request, {}, "a <tool_call>{}</tool_call>", 3), (Taken{"", "a <tool_call>{}</tool_call>", ""}));
}

TEST(ChatParts, CountTheTokensOfThoughts) {
  const ChatRequest request;
  const std::optional<std::int32_t> begin = 8, end = 9;
  const auto count = [&](const ThinkingStart& start, std::vector<std::int32_t> ids) {
    ChatParts whole(request, start), single(request, start);
    std::int64_t one_by_one = 0;
    for (const std::int32_t id : ids) one_by_one += single.count_reasoning(std::span(&id, 1));
    EXPECT_EQ(whole.count_reasoning(ids), one_by_one);
    return one_by_one;
  };
  EXPECT_EQ(count({false, begin, end}, {8, 1, 2, 9, 3, 4}), 4) << "with both tags";
  EXPECT_EQ(count({true, begin, end}, {1, 2, 9, 3, 9}), 3);
  EXPECT_EQ(count({true, begin, end}, {1, 2}), 2) << "that does not end";
  EXPECT_EQ(count({false, begin, end}, {1, 8, 2, 9}), 0) << "a tag in an answer is no thought";
  EXPECT_EQ(count({true, begin, {}}, {1, 2}), 0);
}

}  // namespace
}  // namespace cajal::protocol
