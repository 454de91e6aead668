#include "text/vocabulary.h"

#include <bit>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "text/byte_level.h"

namespace cajal {
namespace {

__extension__ using Wide = unsigned __int128;

std::uint64_t fold(std::uint64_t a, std::uint64_t b) {
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

template <class Word>
std::uint64_t load(const char* at) {
  Word word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

// Two overlapping loads cover every length up to 16, so that the hash of a word costs two multiplications.
std::uint64_t hash_of(std::string_view bytes) {
  constexpr std::uint64_t kOdd1 = 0x9e3779b97f4a7c15, kOdd2 = 0xd1b54a32d192ed03;
  const std::size_t n = bytes.size();
  const char* p = bytes.data();
  std::uint64_t a = 0, b = 0, state = n * kOdd1;
  if (n > 16)
    for (std::size_t at = 0; at + 16 < n; at += 16)
      state = fold(load<std::uint64_t>(p + at) ^ kOdd1, load<std::uint64_t>(p + at + 8) ^ state);
  if (n >= 8) {
    a = load<std::uint64_t>(n > 16 ? p + n - 16 : p);
    b = load<std::uint64_t>(p + n - 8);
  } else if (n >= 4) {
    a = load<std::uint32_t>(p);
    b = load<std::uint32_t>(p + n - 4);
  } else if (n > 0) {
    a = static_cast<unsigned char>(p[0]);
    b = static_cast<std::uint64_t>(static_cast<unsigned char>(p[n / 2])) << 8 | static_cast<unsigned char>(p[n - 1]);
  }
  return fold(a ^ kOdd2, b ^ state);
}

}  // namespace

Vocabulary::Vocabulary(std::size_t model_tokens) {
  entries_.reserve(model_tokens);
  text_.reserve(model_tokens * 8);
  slots_.resize(std::bit_ceil(model_tokens + model_tokens / 2 + 2));
}

void Vocabulary::store(std::string_view token, std::string_view bytes, bool literal, std::int64_t id) {
  if (id < 0 || id >= kMaxIds)
    fail(ErrorCode::data_loss, "token \"", token, "\" has id ", id, ", expected 0..", kMaxIds - 1);
  if (contains(static_cast<std::int32_t>(id)))
    fail(ErrorCode::data_loss, "tokens \"", this->token(static_cast<std::int32_t>(id)), "\" and \"", token,
         "\" both have id ", id);
  const auto index = static_cast<std::size_t>(id);
  if (index >= entries_.size()) entries_.resize(index + 1);
  entries_[index] = {checked_cast<std::uint32_t>(text_.size(), "bytes of all tokens"),
                     checked_cast<std::uint32_t>(bytes.size(), "bytes of a token"), true, literal};
  text_ += bytes;
}

void Vocabulary::add(std::string_view token, std::int64_t id) {
  const std::optional<std::string> bytes = from_byte_alphabet(token);
  if (bytes ? find_bytes(*bytes) >= 0 : others_.count(std::string(token)) > 0)
    fail(ErrorCode::data_loss, "token \"", token, "\" stands twice");
  CAJAL_CHECK(++model_tokens_ < slots_.size(), "more tokens than announced");
  store(token, bytes ? *bytes : token, !bytes, id);
  if (!bytes) {
    others_.emplace(token, static_cast<std::int32_t>(id));
    return;
  }
  const std::uint64_t hash = hash_of(*bytes);
  std::size_t at = hash & (slots_.size() - 1);
  while (slots_[at].id >= 0) at = (at + 1) & (slots_.size() - 1);
  slots_[at] = {static_cast<std::uint32_t>(hash >> 32), static_cast<std::int32_t>(id)};
}

void Vocabulary::add_outside_model(std::string_view name, std::string_view token, std::int64_t id) {
  const std::optional<std::string> bytes = from_byte_alphabet(token);
  store(token, bytes ? *bytes : token, !bytes, id);
  others_.emplace(name, static_cast<std::int32_t>(id));
}

std::optional<std::int32_t> Vocabulary::find(std::string_view token) const {
  if (const std::optional<std::string> bytes = from_byte_alphabet(token))
    if (const std::int32_t id = find_bytes(*bytes); id >= 0) return id;
  if (others_.empty()) return std::nullopt;
  const auto it = others_.find(std::string(token));
  return it == others_.end() ? std::nullopt : std::optional(it->second);
}

std::int32_t Vocabulary::find_bytes(std::string_view bytes) const {
  const std::uint64_t hash = hash_of(bytes);
  const auto tag = static_cast<std::uint32_t>(hash >> 32);
  for (std::size_t at = hash & (slots_.size() - 1); slots_[at].id >= 0; at = (at + 1) & (slots_.size() - 1))
    if (slots_[at].tag == tag && this->bytes(slots_[at].id) == bytes) return slots_[at].id;
  return -1;
}

std::string_view Vocabulary::bytes(std::int32_t id) const {
  if (!contains(id)) return {};
  const Entry& entry = entries_[static_cast<std::size_t>(id)];
  return std::string_view(text_).substr(entry.offset, entry.length);
}

std::string Vocabulary::token(std::int32_t id) const {
  if (!contains(id)) return {};
  return entries_[static_cast<std::size_t>(id)].literal ? std::string(bytes(id)) : to_byte_alphabet(bytes(id));
}

}  // namespace cajal
