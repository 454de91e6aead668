#pragma once
// What the tests of text share: data, a small tokenizer, random text.
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"
#include "text/byte_level.h"
#include "text/tokenizer.h"

namespace cajal::test {

inline std::string data_path(const std::string& name) { return std::string(CAJAL_TEST_DATA) + "/" + name; }
inline Json data(const std::string& name) { return parse_json(read_file(data_path(name)), name); }

inline const Tokenizer& qwen3() {
  static const Tokenizer tokenizer = Tokenizer::from_folder(data_path("qwen3-tokenizer"));
  return tokenizer;
}

inline std::vector<std::int32_t> ids_of(const Json& json) {
  std::vector<std::int32_t> ids;
  for (const Json& id : json.as_array()) ids.push_back(static_cast<std::int32_t>(id.as_int()));
  return ids;
}

// The JSON of a tokenizer of all bytes and of what `merges` ("a b") make of them; tests change it to their liking.
inline Json small_tokenizer(const std::vector<std::string>& merges = {}) {
  Json vocab{Json::Object{}}, list{Json::Array{}};
  std::int64_t next = 0;
  for (int byte = 0; byte < 256; ++byte) {
    std::string token;
    append_utf8(token, byte_to_alphabet(static_cast<std::uint8_t>(byte)));
    vocab.set(token, next++);
  }
  for (const std::string& merge : merges) {
    std::string token = merge;
    token.erase(token.find(' '), 1);
    if (!vocab.find(token)) vocab.set(token, next++);
    list.push_back(merge);
  }
  Json model, byte_level, json;
  model.set("type", "BPE");
  model.set("vocab", std::move(vocab));
  model.set("merges", std::move(list));
  byte_level.set("type", "ByteLevel");
  byte_level.set("add_prefix_space", false);
  byte_level.set("use_regex", false);
  json.set("version", "1.0");
  json.set("added_tokens", Json::Array{});
  json.set("pre_tokenizer", byte_level);
  json.set("decoder", byte_level);
  json.set("model", std::move(model));
  return json;
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>(engine_() % n); }
  char32_t pick(std::u32string_view from) { return from[below(static_cast<std::uint32_t>(from.size()))]; }

  // Any code point, but mostly those that tokenizers treat in special ways.
  char32_t code_point() {
    switch (below(9)) {
      case 0: return pick(U" \n\r\t\u00a0\u3000\u2003\u2028\u0085");
      case 1: return pick(U"abcXYZ");
      case 2: return pick(U"'''sStTmMdDlLvVrReE\u017f");
      case 3: return pick(U"0189\u0663\u00b2\u2167");
      case 4: return pick(U".,!?-_/\\(){}<>|#\u200d\ufeff\u00ad");
      case 5: return pick(U"\u0301\u0323\u0307\u0345\u093c\u1161\u11a8\u0334");
      case 6: return pick(U"\u4f60\u597d\u3042\uac00\u1100\u0915\u00e9\u212b\u0958");
      case 7: return below(0x3000);
      default: {
        const char32_t c = below(0x110000);
        return c >= 0xd800 && c < 0xe000 ? U'x' : c;
      }
    }
  }
  std::string text(std::uint32_t longest) {
    std::string out;
    for (std::uint32_t n = below(longest + 1); n > 0; --n) append_utf8(out, code_point());
    return out;
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace cajal::test
