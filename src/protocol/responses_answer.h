#pragma once
// Answers of /v1/responses, in one piece and as events.
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "protocol/answers.h"
#include "protocol/chat_parts.h"
#include "protocol/request_error.h"
#include "protocol/responses_request.h"

namespace cajal::protocol {

struct ResponsesHead {
  std::int64_t created = 0;
  std::string model;
  Json echo;                       // of the request
  bool encrypted_content = false;  // thoughts have it
  std::vector<NamespacedTool> namespaced = {};
};

// One answer while it comes. Every call returns the events that it brings; the whole can be had at the end.
class ResponsesAnswer {
 public:
  using MakeId = std::function<std::string(std::string_view prefix)>;
  ResponsesAnswer(ResponsesHead head, MakeId make_id);

  std::string begin();
  std::string add(const ChatPiece& piece);
  std::string end(bool complete, const UsageCount& usage);  // not complete: it was too long
  std::string fail(const ErrorBody& error);                 // instead of end()
  Json whole() const;                                       // after end()

 private:
  enum class Kind : std::uint8_t { reasoning, message, function_call };
  struct Item {
    Kind kind;
    std::string id, text;                   // or the arguments of a call
    std::string call_id, name_space, name;  // of a call
    std::size_t call = 0;                   // its index among the calls
    const char* status = "in_progress";
  };
  void open(Item item, std::string& events);
  void close(const char* status, std::string& events);
  void add_text(Kind kind, std::string_view text, std::string& events);
  void add_call(const ToolCallDelta& call, std::string& events);
  void delta(std::string_view text, std::string& events);
  // Numbered; of the last item, unless they are about the whole.
  std::string event(std::string_view type, Json::Object members);
  std::string item_event(std::string_view type, Json::Object members);
  std::string response_event(std::string_view type);
  Json item_json(const Item& item) const;
  static Json part_json(const Item& item);

  const ResponsesHead head_;
  const MakeId make_id_;
  const std::string id_;
  std::int64_t next_number_ = 0;
  std::vector<Item> items_;
  bool open_ = false;  // the last item
  std::string status_ = "in_progress";
  Json error_, usage_;
};

}  // namespace cajal::protocol
