#include "text/tokenizer_json.h"

#include <set>
#include <string>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "text/json_fields.h"
#include "text/nfc.h"

namespace cajal {
namespace {

using namespace std::string_view_literals;

// A component that may be absent: null and a missing key are the same.
const Json* component(const Json& json, std::string_view key) {
  const Json* value = json.find(key);
  return value && !value->is_null() ? value : nullptr;
}

void add_merges(Bpe& bpe, const Json::Array& merges) {
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const Json& merge = merges[i];
    if (merge.is_array() && merge.as_array().size() == 2 && merge.as_array()[0].is_string() &&
        merge.as_array()[1].is_string()) {
      bpe.add_merge(merge.as_array()[0].as_string(), merge.as_array()[1].as_string());
      continue;
    }
    const std::string_view text = merge.is_string() ? std::string_view(merge.as_string()) : ""sv;
    if (text.starts_with("#version")) continue;  // the first line of a merges.txt that was taken over as it was
    const std::size_t space = text.find(' ');
    if (space == text.npos || text.find(' ', space + 1) != text.npos)
      fail(ErrorCode::data_loss, "merges[", i, "] is ",
           merge.is_string() ? '"' + merge.as_string() + '"' : merge.type_name(),
           ", expected two tokens, as a pair of strings or as one string with a space between");
    bpe.add_merge(text.substr(0, space), text.substr(space + 1));
  }
}

BpeOptions read_bpe_options(const Json& model, const Bpe& bpe) {
  BpeOptions options;
  options.ignore_merges = json_fields::boolean_or(model, "ignore_merges", false);
  options.fuse_unknown = json_fields::boolean_or(model, "fuse_unk", false);
  for (const auto key : {"continuing_subword_prefix"sv, "end_of_word_suffix"sv})
    if (component(model, key) && !json_fields::string(model, key).empty())
      fail(ErrorCode::unsupported, "\"", key, "\" is \"", json_fields::string(model, key),
           "\", only an empty one is supported");
  if (const Json* dropout = component(model, "dropout");
      dropout && !(dropout->is_number() && dropout->as_double() == 0))
    fail(ErrorCode::unsupported, "\"dropout\" is ", to_json(*dropout), ", only null is supported");
  if (bpe.has_all_bytes()) return options;  // nothing is ever unknown
  if (json_fields::boolean_or(model, "byte_fallback", false))
    fail(ErrorCode::unsupported, "\"byte_fallback\" is true and the vocabulary lacks some of the 256 bytes");
  if (component(model, "unk_token")) {
    const std::string unknown = json_fields::string(model, "unk_token");
    const auto id = bpe.vocabulary().find(unknown);
    if (!id) fail(ErrorCode::data_loss, "\"unk_token\" is \"", unknown, "\", which is not in the vocabulary");
    options.unknown = *id;
  }
  return options;
}

Bpe read_model(const Json& model) {
  // Files older than the field hold a BPE if they have merges.
  if (!model.is_object() || model.find("type") || !model.find("merges")) {
    const std::string type = json_fields::type_of(model);
    if (type != "BPE") fail(ErrorCode::unsupported, "\"type\" is \"", type, "\", only byte-level BPE is supported");
  }
  const Json::Object& tokens = json_fields::object(model, "vocab");
  Vocabulary vocabulary(tokens.size());
  for (const auto& [token, id] : tokens) {
    if (!id.is_int())
      fail(ErrorCode::data_loss, "the id of token \"", token, "\" is ", id.type_name(), ", expected an integer");
    vocabulary.add(token, id.as_int());
  }
  const Json::Array& merges = json_fields::array(model, "merges");
  Bpe bpe(std::move(vocabulary), merges.size());
  add_merges(bpe, merges);
  bpe.set_options(read_bpe_options(model, bpe));
  return bpe;
}

bool read_normalizer(const Json& config) {
  const std::string type = json_fields::type_of(config);
  if (type == "NFC") return true;
  if (type != "Sequence") fail(ErrorCode::unsupported, type, " is not supported (NFC and Sequence are)");
  bool any = false;
  for (const Json& part : json_fields::array(config, "normalizers")) any |= read_normalizer(part);
  return any;
}

AddedToken read_added_token(const Json& json, bool normalize) {
  AddedToken token;
  token.content = json_fields::string(json, "content");
  token.special = json_fields::boolean(json, "special");
  token.normalized = json_fields::boolean(json, "normalized");
  token.single_word = json_fields::boolean(json, "single_word");
  token.lstrip = json_fields::boolean(json, "lstrip");
  token.rstrip = json_fields::boolean(json, "rstrip");
  if (token.normalized && normalize)
    if (auto normal = to_nfc(token.content)) token.content = *std::move(normal);
  return token;
}

// Hugging Face gives a token that the model lacks the next free id, whatever the file says. Where the two differ, one of
// them is not what the model was trained with, so that is an Error.
std::vector<AddedToken> read_added_tokens(const Json::Array& array, bool normalize, Vocabulary& vocabulary) {
  std::vector<AddedToken> tokens;
  std::set<std::pair<std::string, bool>> seen;
  std::set<std::int64_t> ids;
  auto next = static_cast<std::int64_t>(vocabulary.model_tokens());
  for (std::size_t i = 0; i < array.size(); ++i) {
    with_context(detail::join("added_tokens[", i, "]"), [&] {
      AddedToken token = read_added_token(array[i], normalize);
      const std::string name = json_fields::string(array[i], "content");
      const std::int64_t id = json_fields::integer(array[i], "id");
      if (name.empty()) return;
      const std::optional<std::int32_t> known = vocabulary.find(name);
      const std::int64_t expected = known ? *known : next;
      if (id != expected)
        fail(ErrorCode::data_loss, "\"", name, "\" has id ", id, ", expected ", expected,
             known ? " (its id in the vocabulary)" : " (the first that is free)");
      if (!known) {
        vocabulary.add_outside_model(name, token.content, id);
        ++next;
      }
      token.id = static_cast<std::int32_t>(id);
      if (!seen.emplace(token.content, token.normalized).second || !ids.insert(id).second)
        fail(ErrorCode::data_loss, "\"", name, "\" stands twice");
      tokens.push_back(std::move(token));
    });
  }
  return tokens;
}

void read_template(const Json& config, TokenizerParts& parts) {
  bool text_seen = false;
  for (const Json& piece : json_fields::array(config, "single")) {
    if (piece.find("Sequence")) {
      const std::string id = json_fields::string(json_fields::required(piece, "Sequence"), "id");
      if (id != "A" || text_seen)
        fail(ErrorCode::unsupported, "\"single\" has Sequence ", id, ", only one Sequence A is supported");
      text_seen = true;
      continue;
    }
    const std::string name = json_fields::string(json_fields::required(piece, "SpecialToken"), "id");
    const Json& token = json_fields::required(json_fields::required(config, "special_tokens"), name);
    for (const Json& id : json_fields::array(token, "ids")) {
      if (!id.is_int() || !parts.bpe.vocabulary().contains(checked_cast<std::int32_t>(id.as_int(), "an id of " + name)))
        fail(ErrorCode::data_loss, "special token \"", name, "\" has id ", to_json(id), ", which no token has");
      (text_seen ? parts.after : parts.before).push_back(static_cast<std::int32_t>(id.as_int()));
    }
  }
  if (!text_seen) fail(ErrorCode::unsupported, "\"single\" has no Sequence A, so that the text would vanish");
}

void read_post_processor(const Json& config, TokenizerParts& parts, bool& template_seen) {
  const std::string type = json_fields::type_of(config);
  if (type == "ByteLevel") return;  // it only moves offsets
  if (type == "Sequence") {
    for (const Json& part : json_fields::array(config, "processors")) read_post_processor(part, parts, template_seen);
    return;
  }
  if (type != "TemplateProcessing")
    fail(ErrorCode::unsupported, type, " is not supported (ByteLevel, TemplateProcessing and Sequence are)");
  if (std::exchange(template_seen, true))
    fail(ErrorCode::unsupported, "more than one TemplateProcessing is not supported");
  read_template(config, parts);
}

// Checks that decoding is ByteLevel: what comes after it may only be Fuse, which changes nothing.
void check_decoder(const Json& config, bool& byte_level_seen) {
  const std::string type = json_fields::type_of(config);
  if (type == "Sequence") {
    for (const Json& part : json_fields::array(config, "decoders")) check_decoder(part, byte_level_seen);
  } else if (type == "ByteLevel") {
    if (std::exchange(byte_level_seen, true)) fail(ErrorCode::unsupported, "ByteLevel twice is not supported");
  } else if (type != "Fuse") {
    fail(ErrorCode::unsupported, type, " is not supported (ByteLevel, Sequence and Fuse are)");
  } else if (!byte_level_seen) {
    fail(ErrorCode::unsupported, "Fuse before ByteLevel is not supported");
  }
}

}  // namespace

TokenizerParts read_tokenizer_json(const Json& json) {
  if (!json.is_object()) fail(ErrorCode::data_loss, "the file holds ", json.type_name(), ", expected an object");
  if (component(json, "version") && json_fields::string(json, "version") != "1.0")
    fail(ErrorCode::unsupported, "\"version\" is \"", json_fields::string(json, "version"),
         "\", only 1.0 is supported");

  TokenizerParts parts{.bpe = with_context("model", [&] { return read_model(json_fields::required(json, "model")); }),
                       .normalize = with_context("normalizer",
                                                 [&] {
                                                   const Json* config = component(json, "normalizer");
                                                   return config && read_normalizer(*config);
                                                 }),
                       .pre_tokenizer = with_context("pre_tokenizer", [&] {
                         const Json* config = component(json, "pre_tokenizer");
                         if (!config)
                           fail(ErrorCode::unsupported,
                                "it is missing, expected one with ByteLevel: only byte-level BPE is supported");
                         return PreTokenizer(*config);
                       })};
  if (component(json, "added_tokens"))
    parts.added_tokens =
        read_added_tokens(json_fields::array(json, "added_tokens"), parts.normalize, parts.bpe.vocabulary());
  with_context("post_processor", [&] {
    bool template_seen = false;
    if (const Json* config = component(json, "post_processor")) read_post_processor(*config, parts, template_seen);
  });
  with_context("decoder", [&] {
    bool byte_level_seen = false;
    if (const Json* config = component(json, "decoder")) check_decoder(*config, byte_level_seen);
    if (!byte_level_seen) fail(ErrorCode::unsupported, "it is missing, expected ByteLevel");
  });
  return parts;
}

}  // namespace cajal
