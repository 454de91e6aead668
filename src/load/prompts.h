#pragma once
// What the requests of a load ask: prompts of a wanted length, a file of prompts, or a trace of what a server was once asked.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace cajal::load {

struct LoadRequest {
  std::string prompt;
  std::int64_t prompt_len = 0;  // tokens of the tokenizer that made it
  std::int64_t output_len = 0;  // the most tokens of the answer
  double at = 0;                // seconds from the beginning; of traces
};

// Text whose number of tokens is known: words that are a token each, and stay one beside others.
class WordMaker {
 public:
  // Error(unsupported) if the vocabulary has too few of them.
  explicit WordMaker(const Tokenizer& tokenizer);
  // `count` words, a function of (seed, stream); of two counts the shorter text begins the longer one.
  std::string words(std::int64_t count, std::uint64_t seed, std::uint64_t stream) const;
  std::size_t vocabulary() const { return words_.size(); }

 private:
  std::vector<std::string> words_;  // each begins with a space
};

struct RandomLengths {
  std::int64_t input_len = 1024, output_len = 128, prefix_len = 0;
  double range_ratio = 0;  // lengths are uniform in [n - n * ratio, n + n * ratio]
};
// Prompts of `prefix_len` tokens that all share and of words that none shares.
std::vector<LoadRequest> random_requests(const WordMaker& maker, std::size_t count, const RandomLengths& lengths,
                                         std::uint64_t seed);

// Lines {"prompt": text, "output_tokens"?: n}; if there are fewer than `count` they are asked again. `output_len` is for
// lines that do not say. Error(data_loss) names the line of `name`.
std::vector<LoadRequest> custom_requests(const Tokenizer& tokenizer, std::string_view text, std::string_view name,
                                         std::size_t count, std::int64_t output_len);

// Lines {"timestamp": ms, "input_length": n, "output_length": n, "hash_ids"?: [...]}, the form of Mooncake's traces: the first
// `count` of them, each at its time. Pieces of 512 tokens with the same id are the same text.
std::vector<LoadRequest> trace_requests(const WordMaker& maker, std::string_view text, std::string_view name,
                                        std::size_t count, std::uint64_t seed);

}  // namespace cajal::load
