#include "engine/scheduling/prefix_index.h"

#include <algorithm>
#include <bit>

#include "base/checked.h"

namespace cajal {
namespace {

constexpr std::size_t kUsualSaltLength = 64;  // bytes that a used record takes again without allocating

// Not for keeping secrets: a hit compares the contents, so that a collision costs time only.
std::uint64_t mix(std::uint64_t h, std::uint64_t word) {
  return std::rotl(h ^ (word * 0x87C37B91114253D5u), 29) * 0x9E3779B97F4A7C15u + 0x52DCE729u;
}
std::uint64_t finish(std::uint64_t h) {
  h = (h ^ (h >> 33)) * 0xFF51AFD7ED558CCDu;
  h = (h ^ (h >> 33)) * 0xC4CEB9FE1A85EC53u;
  return h ^ (h >> 33);
}

BlockHash hash_tokens(BlockHash parent, std::span<const std::int32_t> tokens) {
  std::uint64_t h = parent ^ tokens.size();
  for (const std::int32_t token : tokens) h = mix(h, static_cast<std::uint32_t>(token));
  return finish(h);
}

}  // namespace

PrefixIndex::PrefixIndex(const Options& options)
    : block_size_(static_cast<std::size_t>(options.block_size)),
      hash_(options.hash ? options.hash : hash_tokens),
      on_event_(options.on_event),
      names_(static_cast<std::size_t>(options.num_blocks)),
      tokens_(static_cast<std::size_t>(checked_mul(options.num_blocks, options.block_size, "tokens in the cache"))) {
  index_.reserve(names_.size());
  salts_.push_back({{}, hash_of_salt({}), 1});
}

// As of a block whose tokens are the bytes, whatever their number is.
BlockHash PrefixIndex::hash_of_salt(std::string_view salt) const {
  BlockHash h = 0;
  for (const char c : salt) {
    const std::int32_t token = static_cast<unsigned char>(c);
    h = hash_(h, {&token, 1});
  }
  return h;
}

std::int32_t PrefixIndex::find_salt(std::string_view salt) const {
  if (salt.empty()) return 0;
  return salt_index_.find(hash_of_salt(salt),
                          [&](std::int32_t s) { return salts_[static_cast<std::size_t>(s)].text == salt; });
}

std::int32_t PrefixIndex::hold_salt(std::string_view salt) {
  if (const std::int32_t known = find_salt(salt); known >= 0) {
    hold_salt(known);
    return known;
  }
  salt_index_.reserve(salt_index_.size() + 1);
  if (free_salts_.empty()) {
    Salt fresh;
    fresh.text.reserve(kUsualSaltLength);
    if (salts_.size() == salts_.capacity()) salts_.reserve(2 * salts_.size());
    free_salts_.reserve(salts_.capacity());
    salts_.push_back(std::move(fresh));
    free_salts_.push_back(static_cast<std::int32_t>(salts_.size() - 1));
  }
  const std::int32_t number = free_salts_.back();
  Salt& s = salts_[static_cast<std::size_t>(number)];
  s.text = salt;  // the last that may throw
  s.hash = hash_of_salt(salt);
  s.holds = 1;
  free_salts_.pop_back();
  salt_index_.insert(s.hash, number);
  return number;
}

void PrefixIndex::release_salt(std::int32_t salt) noexcept {
  Salt& s = salts_[static_cast<std::size_t>(salt)];
  if (--s.holds > 0) return;
  salt_index_.erase(s.hash, salt);
  free_salts_.push_back(salt);  // there was room for all salts when it was made
}

std::int32_t PrefixIndex::find(Parent parent, std::span<const std::int32_t> wanted, BlockHash hash) const {
  const std::int32_t block = index_.find(hash, [&](std::int32_t b) {
    return names_[static_cast<std::size_t>(b)].parent == parent && std::ranges::equal(tokens(b), wanted);
  });
  return block == ProbeTable::kNone ? kNoBlock : block;
}

void PrefixIndex::report(KVCacheEvent::Kind kind, std::int32_t block) const noexcept {
  if (!on_event_) return;
  const Name& name = names_[static_cast<std::size_t>(block)];
  const bool stored = kind == KVCacheEvent::Kind::block_stored;
  on_event_({kind, name.hash, name.parent > 0 ? parent_hash(name.parent) : 0,
             stored ? tokens(block) : std::span<const std::int32_t>()});
}

void PrefixIndex::insert(std::int32_t block, Parent parent, std::span<const std::int32_t> contents) noexcept {
  const BlockHash hash = hash_of(parent, contents);
  names_[static_cast<std::size_t>(block)] = {hash, parent, true};
  std::ranges::copy(contents, tokens_.begin() + static_cast<std::ptrdiff_t>(block) * std::ssize(contents));
  index_.insert(hash, block);
  if (parent <= 0) hold_salt(-parent);
  report(KVCacheEvent::Kind::block_stored, block);
}

void PrefixIndex::forget(std::int32_t block) noexcept {
  Name& name = names_[static_cast<std::size_t>(block)];
  index_.erase(name.hash, block);
  if (name.parent <= 0) release_salt(-name.parent);
  name.named = false;
}

void PrefixIndex::erase(std::int32_t block) noexcept {
  report(KVCacheEvent::Kind::block_removed, block);
  forget(block);
}

void PrefixIndex::clear() noexcept {
  for (std::size_t b = 0; b < names_.size(); ++b)
    if (names_[b].named) forget(static_cast<std::int32_t>(b));
  if (on_event_) on_event_({.kind = KVCacheEvent::Kind::all_blocks_cleared, .token_ids = {}});
}

std::string PrefixIndex::problem_of(std::int32_t block) const {
  const Name& name = names_[static_cast<std::size_t>(block)];
  if (name.parent > 0 ? !contains(name.parent) : salts_.at(static_cast<std::size_t>(-name.parent)).holds <= 0)
    return detail::join("named block ", block, " has the parent ", name.parent, ", which has no name");
  if (hash_of(name.parent, tokens(block)) != name.hash)
    return detail::join("block ", block, " has not the hash of its contents");
  if (const std::int32_t found = find(name.parent, tokens(block), name.hash); found != block)
    return detail::join("looking up the contents of block ", block, " gives block ", found);
  return {};
}

std::string PrefixIndex::find_inconsistency(std::span<const std::int64_t> salt_holds) const {
  std::vector<std::int64_t> holds(salts_.size());
  holds[0] = 1;
  for (std::size_t s = 0; s < salt_holds.size(); ++s) holds.at(s) += salt_holds[s];
  std::size_t num_named = 0, num_held = 0;
  for (std::size_t b = 0; b < names_.size(); ++b) {
    if (!names_[b].named) continue;
    ++num_named;
    if (auto problem = problem_of(static_cast<std::int32_t>(b)); !problem.empty()) return problem;
    if (names_[b].parent <= 0) ++holds[static_cast<std::size_t>(-names_[b].parent)];
  }
  if (num_named != index_.size()) return detail::join(num_named, " named blocks, ", index_.size(), " in the index");
  for (std::size_t s = 0; s < salts_.size(); ++s) {
    if (holds[s] != salts_[s].holds)
      return detail::join("salt ", s, " counts ", salts_[s].holds, " holds, there are ", holds[s]);
    if (holds[s] > 0 && find_salt(salts_[s].text) != static_cast<std::int32_t>(s))
      return detail::join("salt ", s, " is not found");
    num_held += holds[s] > 0;
  }
  if (num_held + free_salts_.size() != salts_.size() || num_held != salt_index_.size() + 1)
    return detail::join(num_held, " salts are held, ", free_salts_.size(), " free, of ", salts_.size());
  return {};
}

}  // namespace cajal
