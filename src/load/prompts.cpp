#include "load/prompts.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/error.h"
#include "base/json.h"
#include "engine/counter_rng.h"

namespace cajal::load {
namespace {

constexpr std::size_t kFewestWords = 64, kMostWords = 4096;
constexpr std::int64_t kTracePiece = 512;  // tokens that an id of a trace stands for
constexpr std::int64_t kLongest = std::int64_t{1} << 24;
constexpr std::uint32_t kWordStream = 0x776f7264, kLengthStream = 0x6c656e67;
constexpr std::uint64_t kPrefix = ~std::uint64_t{0};

bool is_word(std::string_view bytes) {
  return bytes.size() >= 3 && bytes[0] == ' ' &&
         std::all_of(bytes.begin() + 1, bytes.end(), [](char c) { return c >= 'a' && c <= 'z'; });
}

// Uniform in [n - n * ratio, n + n * ratio], ends included.
std::int64_t length_near(std::int64_t n, double ratio, double uniform, std::int64_t at_least) {
  const auto low = static_cast<std::int64_t>(std::floor(static_cast<double>(n) * (1 - ratio)));
  const auto high = static_cast<std::int64_t>(std::ceil(static_cast<double>(n) * (1 + ratio)));
  const auto drawn = low + static_cast<std::int64_t>(uniform * static_cast<double>(high - low + 1));
  return std::clamp(drawn, std::max(low, at_least), std::max(high, at_least));
}

// Calls `body` with each line that is not empty, as an object, and where it stands.
void for_each_object(std::string_view text, std::string_view name,
                     const std::function<void(const Json&, const std::string&)>& body) {
  std::int64_t number = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    at = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = detail::join(name, " line ", number);
    const Json object = parse_json(line, where);
    if (!object.is_object()) fail(ErrorCode::data_loss, where, ": ", object.type_name(), ", expected an object");
    body(object, where);
  }
}

std::int64_t count_in(const Json& object, std::string_view key, const std::string& where, std::int64_t at_least) {
  const Json* value = object.find(key);
  if (!value || !value->is_int() || value->as_int() < at_least || value->as_int() > kLongest)
    fail(ErrorCode::data_loss, where, ": ", key, " is ", value ? to_json(*value) : "missing",
         ", expected an integer from ", at_least, " to ", kLongest);
  return value->as_int();
}

}  // namespace

WordMaker::WordMaker(const Tokenizer& tokenizer) {
  for (std::int32_t id = 0; id < tokenizer.vocab_size() && words_.size() < kMostWords; ++id) {
    if (!tokenizer.contains(id) || tokenizer.is_special(id)) continue;
    const std::string word(tokenizer.token_bytes(id));
    if (is_word(word) && tokenizer.encode(word) == std::vector<std::int32_t>{id}) words_.push_back(word);
  }
  if (words_.size() < kFewestWords)
    fail(ErrorCode::unsupported, "the tokenizer has ", words_.size(), " words that are a token each, expected ",
         kFewestWords, " to make prompts of", remedy("name another in --tokenizer, or take --dataset-name custom"));
}

std::string WordMaker::words(std::int64_t count, std::uint64_t seed, std::uint64_t stream) const {
  CounterRng rng(seed, kWordStream, stream);
  std::string text;
  for (std::int64_t i = 0; i < count; ++i) text += words_[rng.bits(static_cast<std::uint32_t>(i)) % words_.size()];
  return text;
}

std::vector<LoadRequest> random_requests(const WordMaker& maker, std::size_t count, const RandomLengths& lengths,
                                         std::uint64_t seed) {
  const std::string prefix = maker.words(lengths.prefix_len, seed, kPrefix);
  std::vector<LoadRequest> requests(count);
  for (std::size_t i = 0; i < count; ++i) {
    CounterRng rng(seed, kLengthStream, i);
    const std::int64_t own =
        length_near(lengths.input_len, lengths.range_ratio, rng.uniform(0), lengths.prefix_len > 0 ? 0 : 1);
    LoadRequest& request = requests[i];
    request.prompt = prefix + maker.words(own, seed, i);
    request.prompt_len = lengths.prefix_len + own;
    request.output_len = length_near(lengths.output_len, lengths.range_ratio, rng.uniform(1), 1);
  }
  return requests;
}

std::vector<LoadRequest> custom_requests(const Tokenizer& tokenizer, std::string_view text, std::string_view name,
                                         std::size_t count, std::int64_t output_len) {
  std::vector<LoadRequest> requests;
  for_each_object(text, name, [&](const Json& object, const std::string& where) {
    if (requests.size() == count) return;
    const Json* prompt = object.find("prompt");
    if (!prompt || !prompt->is_string())
      fail(ErrorCode::data_loss, where, ": prompt is ", prompt ? prompt->type_name() : "missing",
           ", expected a string");
    LoadRequest request{.prompt = prompt->as_string(), .output_len = output_len};
    request.prompt_len = static_cast<std::int64_t>(tokenizer.encode(request.prompt).size());
    if (object.find("output_tokens")) request.output_len = count_in(object, "output_tokens", where, 1);
    requests.push_back(std::move(request));
  });
  if (requests.empty()) fail(ErrorCode::data_loss, name, " has no prompt", remedy("write one object a line"));
  const std::size_t given = requests.size();
  while (requests.size() < count) requests.push_back(requests[requests.size() % given]);
  return requests;
}

std::vector<LoadRequest> trace_requests(const WordMaker& maker, std::string_view text, std::string_view name,
                                        std::size_t count, std::uint64_t seed) {
  std::vector<LoadRequest> requests;
  for_each_object(text, name, [&](const Json& object, const std::string& where) {
    if (requests.size() == count) return;
    const Json* time = object.find("timestamp");
    if (!time || !time->is_number() || !(time->as_double() >= 0))
      fail(ErrorCode::data_loss, where, ": timestamp is ", time ? to_json(*time) : "missing",
           ", expected milliseconds from the beginning");
    LoadRequest request{.prompt_len = count_in(object, "input_length", where, 1),
                        .output_len = count_in(object, "output_length", where, 1),
                        .at = time->as_double() / 1000};
    const Json* ids = object.find("hash_ids");
    const std::size_t num_ids = ids && ids->is_array() ? ids->as_array().size() : 0;
    std::int64_t left = request.prompt_len;
    for (std::size_t i = 0; i < num_ids && left > 0; ++i) {
      const Json& id = ids->as_array()[i];
      if (!id.is_int() || id.as_int() < 0) fail(ErrorCode::data_loss, where, ": hash_ids has ", to_json(id));
      const std::int64_t piece = std::min(left, kTracePiece);
      request.prompt += maker.words(piece, seed, static_cast<std::uint64_t>(id.as_int()));
      left -= piece;
    }
    // What has no id is this request's alone.
    request.prompt += maker.words(left, seed, kPrefix - 1 - requests.size());
    requests.push_back(std::move(request));
  });
  if (requests.empty()) fail(ErrorCode::data_loss, name, " has no request", remedy("write one object a line"));
  std::stable_sort(requests.begin(), requests.end(), [](const auto& a, const auto& b) { return a.at < b.at; });
  return requests;
}

}  // namespace cajal::load
