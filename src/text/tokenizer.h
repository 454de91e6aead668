#pragma once
// Text to token ids and back, as Hugging Face's tokenizers does it for byte-level BPE.
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/pre_tokenizer.h"

namespace cajal {

struct TokenizerParts;

struct EncodeOptions {
  bool add_special_tokens = true;  // what the post-processor puts around the text (Qwen3 puts nothing)
  bool parse_special = true;       // false: a control token's name in the text is text (HF's split_special_tokens)
  // Stretches of the text in which no byte becomes part of an added token, special or not; sorted, apart from one another.
  std::span<const TextSpan> plain = {};
  // At most so many ids, those of the post-processor included: the text's own are cut at their end (HF's truncation with
  // truncation_side "right"). Error(invalid_argument) if there is no room for what the post-processor puts around it.
  std::optional<std::int64_t> max_length = {};
};

// Immutable after loading; every member function may be called from many threads at once.
class Tokenizer {
 public:
  // Reads tokenizer.json, and tokenizer_config.json if it is there, from a model's folder. Error(not_found) says what the
  // folder has instead; Error(data_loss) or Error(unsupported) names file and key.
  static Tokenizer from_folder(const std::string& folder);
  // `what` names the text in messages.
  static Tokenizer from_json(std::string_view tokenizer_json, std::string_view what = "tokenizer.json");
  static bool is_present(const std::string& folder);

  // The ids of UTF-8 text. Error(invalid_argument) gives the byte offset of what is not UTF-8.
  std::vector<std::int32_t> encode(std::string_view text, const EncodeOptions& options = {}) const;
  // The text of ids. Ids that no token has are passed over; bytes that do not form UTF-8 become U+FFFD.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special_tokens = false) const;

  // The vocabulary string of a token ("Ġthe"), and the bytes that decoding makes of it (" the"). Empty for unknown ids.
  std::string token(std::int32_t id) const { return bpe_.vocabulary().token(id); }
  std::string_view token_bytes(std::int32_t id) const { return bpe_.vocabulary().bytes(id); }
  std::optional<std::int32_t> id_of(std::string_view token) const { return bpe_.vocabulary().find(token); }
  bool contains(std::int32_t id) const { return bpe_.vocabulary().contains(id); }
  // Whether skip_special_tokens drops it.
  bool is_special(std::int32_t id) const { return contains(id) && special_[static_cast<std::size_t>(id)]; }
  std::int32_t vocab_size() const { return bpe_.vocabulary().size(); }  // the largest id + 1

  // What tokenizer_config.json names, if it does.
  std::optional<std::int32_t> bos_token_id() const { return bos_; }
  std::optional<std::int32_t> eos_token_id() const { return eos_; }
  std::optional<std::int32_t> pad_token_id() const { return pad_; }

 private:
  explicit Tokenizer(TokenizerParts parts);

  void read_config(const Json& tokenizer_config);
  void encode_text(std::string_view text, AddedTokenMatcher::Skip skip, Bpe::Scratch& scratch,
                   std::vector<std::int32_t>& ids) const;

  Bpe bpe_;
  PreTokenizer pre_tokenizer_;
  bool normalize_ = false;  // to NFC
  AddedTokenMatcher raw_tokens_, normalized_tokens_;
  std::vector<bool> special_;                 // by id
  std::vector<std::int32_t> before_, after_;  // what the post-processor puts around the text
  bool split_special_tokens_ = false;         // tokenizer_config.json: parse_special is off for everyone
  std::optional<std::int32_t> bos_, eos_, pad_;
};

}  // namespace cajal
