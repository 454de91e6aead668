#pragma once
// Server-sent events of an OpenAI-compatible server: what they say and when it came.
#include <cstdint>
#include <string>
#include <string_view>

#include "load/statistics.h"

namespace cajal::load {

class StreamReader {
 public:
  // What a complete answer of status 200 is made of; `now` is the time since the request was sent.
  void push(std::string_view piece, double now);
  // The answer is complete, or `error` says why not. Fills in what was seen of it.
  void finish(const std::string& error, RequestOutcome& outcome) const;
  std::int64_t prompt_tokens() const { return prompt_tokens_; }  // as the server counts them; 0: it did not say

 private:
  void read_event(std::string_view data, double now);

  std::string held_, text_, error_;
  double first_ = 0, last_ = 0;
  bool any_ = false, done_ = false;
  std::vector<double> gaps_;
  std::int64_t prompt_tokens_ = 0, completion_tokens_ = 0;
};

// What an answer that is no stream says of its error: its "message" if it has one, else its beginning.
std::string error_text(int status, std::string_view body);

}  // namespace cajal::load
