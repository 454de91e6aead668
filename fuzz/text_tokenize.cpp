// Arbitrary bytes as text and as ids, through a small tokenizer that uses every stage.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/utf8.h"
#include "text/byte_level.h"
#include "text/detokenizer.h"
#include "text/nfc.h"
#include "text/qwen_scanner.h"
#include "text/tokenizer.h"

using namespace cajal;

namespace {

Json object(Json::Object members) { return Json(std::move(members)); }

Tokenizer make_tokenizer() {
  Json::Object vocab;
  std::int64_t next = 0;
  for (int byte = 0; byte < 256; ++byte)
    vocab.emplace_back(to_byte_alphabet(std::string(1, static_cast<char>(byte))), next++);
  Json::Array merges;
  for (const char* merge : {"a b", "ab ab", "b a", "Ġ a", "Ġ Ġ", "ĠĠ ĠĠ", "Ċ Ċ", "Ì ģ", "aa a", "a a", "é a"}) {
    std::string token = merge;
    token.erase(token.find(' '), 1);
    bool known = false;
    for (const auto& entry : vocab) known = known || entry.first == token;
    if (!known) vocab.emplace_back(token, next++);
    merges.emplace_back(merge);
  }
  Json::Array added;
  for (const char* content : {"<s>", "<s><s>", "</s>"}) {
    const bool special = content[2] == '>';
    added.push_back(object({{"id", next++},
                            {"content", content},
                            {"single_word", false},
                            {"lstrip", false},
                            {"rstrip", false},
                            {"normalized", false},
                            {"special", special}}));
  }
  const Json byte_level = object({{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}});
  const Json split = object(
      {{"type", "Split"}, {"pattern", object({{"Regex", kQwenPattern}})}, {"behavior", "Isolated"}, {"invert", false}});
  const Json model = object({{"type", "BPE"}, {"vocab", std::move(vocab)}, {"merges", std::move(merges)}});
  const Json json =
      object({{"added_tokens", std::move(added)},
              {"normalizer", object({{"type", "NFC"}})},
              {"pre_tokenizer", object({{"type", "Sequence"}, {"pretokenizers", Json::Array{split, byte_level}}})},
              {"decoder", byte_level},
              {"model", model}});
  return Tokenizer::from_json(to_json(json), "the fuzz target's tokenizer");
}

void check_streaming(const Tokenizer& tokenizer, const std::vector<std::int32_t>& ids, bool skip) {
  Detokenizer detokenizer(tokenizer, skip);
  std::string streamed;
  for (const std::int32_t id : ids) {
    const std::string part = detokenizer.push(id);
    CAJAL_CHECK(is_valid_utf8(part));
    streamed += part;
  }
  CAJAL_CHECK(streamed + detokenizer.flush() == tokenizer.decode(ids, skip));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Tokenizer tokenizer = make_tokenizer();
  std::vector<std::int32_t> ids;
  for (std::size_t i = 0; i < size; ++i) ids.push_back(data[i] < 0xf8 ? data[i] : 256 + (data[i] - 0xf8) * 3);
  check_streaming(tokenizer, ids, false);
  check_streaming(tokenizer, ids, true);

  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto encoded = tokenizer.encode(text);
    CAJAL_CHECK(is_valid_utf8(text));
    // Normalisation does not cross tokens, so a text that has one may differ from the normal form of the whole.
    if (text.find("<s>") == text.npos && text.find("</s>") == text.npos)
      CAJAL_CHECK(tokenizer.decode(encoded) == to_nfc(text).value_or(std::string(text)));
    const auto plain = tokenizer.encode(text, {.parse_special = false});
    CAJAL_CHECK(tokenizer.encode(tokenizer.decode(encoded)) == encoded || text.find('<') != text.npos);
    check_streaming(tokenizer, encoded, true);
    check_streaming(tokenizer, plain, false);
  } catch (const Error&) {
    CAJAL_CHECK(!is_valid_utf8(text));
  }
  return 0;
}
