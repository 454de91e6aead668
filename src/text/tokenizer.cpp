#include "text/tokenizer.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/utf8.h"
#include "text/json_fields.h"
#include "text/nfc.h"
#include "text/tokenizer_json.h"

namespace cajal {
namespace {

constexpr std::size_t kMaxTextBytes = std::numeric_limits<std::int32_t>::max();

std::string path_in(const std::string& folder, std::string_view name) {
  return folder.empty() || folder.ends_with('/') ? folder + std::string(name) : folder + '/' + std::string(name);
}

// Runs `body`; an Error gains the file in front and, if it has none, a remedy.
template <class Body>
decltype(auto) reading(std::string_view what, Body&& body) {
  try {
    return body();
  } catch (const Error& e) {
    throw Error(e.code(), detail::join(what, ": ", e.message()),
                e.remedy().empty()
                    ? "use the tokenizer.json that came with the Qwen3 model, or save it again with Hugging "
                      "Face's tokenizers"
                    : e.remedy());
  }
}

[[noreturn]] void fail_without_tokenizer(const std::string& folder) {
  for (const char* other : {"tokenizer.model", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "vocab.txt"})
    if (file_exists(path_in(folder, other)))
      fail(ErrorCode::not_found, path_in(folder, "tokenizer.json"), " is missing; the folder has ", other,
           ", which is not read", remedy("load the folder with Hugging Face's AutoTokenizer and save_pretrained it"));
  fail(ErrorCode::not_found, path_in(folder, "tokenizer.json"), " is missing",
       remedy("copy tokenizer.json from the model's repository, or pass token ids"));
}

void check_utf8(std::string_view text) {
  if (text.size() > kMaxTextBytes)
    fail(ErrorCode::invalid_argument, "the text has ", text.size(), " bytes, at most ", kMaxTextBytes,
         " can be encoded");
  if (is_valid_utf8(text)) return;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = decode_utf8(text, at);
    if (!step.valid)
      fail(ErrorCode::invalid_argument, "the text is not UTF-8: byte ", at, " cannot stand there",
           remedy("convert the text to UTF-8"));
    at += step.length;
  }
}

}  // namespace

Tokenizer::Tokenizer(TokenizerParts parts)
    : bpe_(std::move(parts.bpe)),
      pre_tokenizer_(std::move(parts.pre_tokenizer)),
      normalize_(parts.normalize),
      special_(static_cast<std::size_t>(bpe_.vocabulary().size())),
      before_(std::move(parts.before)),
      after_(std::move(parts.after)) {
  std::vector<AddedToken> raw, normalized;
  for (AddedToken& token : parts.added_tokens) {
    special_[static_cast<std::size_t>(token.id)] = token.special;
    (token.normalized ? normalized : raw).push_back(std::move(token));
  }
  raw_tokens_ = AddedTokenMatcher(std::move(raw));
  normalized_tokens_ = AddedTokenMatcher(std::move(normalized));
}

bool Tokenizer::is_present(const std::string& folder) { return file_exists(path_in(folder, "tokenizer.json")); }

Tokenizer Tokenizer::from_json(std::string_view tokenizer_json, std::string_view what) {
  const Json json = parse_json(tokenizer_json, what);
  return reading(what, [&] { return Tokenizer(read_tokenizer_json(json)); });
}

Tokenizer Tokenizer::from_folder(const std::string& folder) {
  if (!is_present(folder)) fail_without_tokenizer(folder);
  const std::string path = path_in(folder, "tokenizer.json"), config_path = path_in(folder, "tokenizer_config.json");
  Tokenizer tokenizer = from_json(read_file(path), path);
  if (file_exists(config_path)) {
    const Json config = parse_json(read_file(config_path), config_path);
    reading(config_path, [&] { tokenizer.read_config(config); });
  }
  return tokenizer;
}

void Tokenizer::read_config(const Json& config) {
  const auto id_of_named = [&](std::string_view key) -> std::optional<std::int32_t> {
    const Json* name = config.find(key);
    if (name && name->is_object()) name = &json_fields::required(*name, "content");
    if (!name || name->is_null()) return std::nullopt;
    if (!name->is_string())
      fail(ErrorCode::data_loss, "\"", key, "\" is ", name->type_name(), ", expected the name of a token");
    const auto id = id_of(name->as_string());
    if (!id)
      log_warning("tokenizer_config.json: ", key, " is ", name->as_string(), ", which tokenizer.json does not have");
    return id;
  };
  if (!config.is_object()) fail(ErrorCode::data_loss, "the file holds ", config.type_name(), ", expected an object");
  bos_ = id_of_named("bos_token");
  eos_ = id_of_named("eos_token");
  pad_ = id_of_named("pad_token");
  split_special_tokens_ = json_fields::boolean_or(config, "split_special_tokens", false);
}

void Tokenizer::encode_text(std::string_view text, AddedTokenMatcher::Skip skip, Bpe::Scratch& scratch,
                            std::vector<std::int32_t>& ids) const {
  const std::optional<std::string> normalized = normalize_ ? to_nfc(text) : std::nullopt;
  // Where normalising has moved the bytes, all of this text counts as plain if some of it is.
  const std::size_t end = skip.offset + text.size();
  const bool touched = std::any_of(skip.plain.begin(), skip.plain.end(),
                                   [&](TextSpan s) { return s.begin < end && s.end > skip.offset; });
  const TextSpan whole{0, std::numeric_limits<std::size_t>::max()};
  if (normalized) skip = {skip.special, touched ? std::span(&whole, 1) : std::span<const TextSpan>(), 0};
  if (normalized) text = *normalized;
  const auto encode_plain = [&](std::string_view plain) {
    pre_tokenizer_.split(plain, [&](std::string_view piece) { bpe_.encode(piece, ids, scratch); });
  };
  if (normalized_tokens_.empty()) return encode_plain(text);
  std::vector<AddedTokenMatcher::Part> parts;
  normalized_tokens_.split(text, skip, parts);
  for (const auto& part : parts) part.token ? ids.push_back(part.token->id) : encode_plain(part.text);
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  check_utf8(text);
  AddedTokenMatcher::Skip skip{split_special_tokens_ || !options.parse_special, options.plain};
  std::vector<std::int32_t> ids;
  ids.reserve(text.size() / 3 + 8);
  if (options.add_special_tokens) ids = before_;
  // Normalisation sees each stretch between tokens by itself, so that nothing composes across one.
  std::vector<AddedTokenMatcher::Part> parts;
  raw_tokens_.split(text, skip, parts);
  Bpe::Scratch scratch;
  for (const auto& part : parts) {
    skip.offset = static_cast<std::size_t>(part.text.data() - text.data());
    part.token ? ids.push_back(part.token->id) : encode_text(part.text, skip, scratch, ids);
  }
  if (options.max_length) {
    const std::int64_t around = options.add_special_tokens ? static_cast<std::int64_t>(after_.size()) : 0;
    const std::int64_t least = around + (options.add_special_tokens ? static_cast<std::int64_t>(before_.size()) : 0);
    if (*options.max_length < least)
      fail(ErrorCode::invalid_argument, "a text is to have at most ", *options.max_length,
           " tokens, and the tokenizer puts ", least, " around it", remedy("raise the limit"));
    ids.resize(std::min(ids.size(), static_cast<std::size_t>(*options.max_length - around)));
  }
  if (options.add_special_tokens) ids.insert(ids.end(), after_.begin(), after_.end());
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special_tokens) const {
  std::string bytes;
  for (const std::int32_t id : ids)
    if (!(skip_special_tokens && is_special(id))) bytes += token_bytes(id);
  return is_valid_utf8(bytes) ? bytes : replace_invalid_utf8(bytes);
}

}  // namespace cajal
