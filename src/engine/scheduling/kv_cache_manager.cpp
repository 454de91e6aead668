#include "engine/scheduling/kv_cache_manager.h"

#include <algorithm>

#include "base/checked.h"

namespace cajal {
namespace {

PrefixIndex::Options index_options(const KVCacheOptions& o) {
  const bool used = o.enable_prefix_caching && o.num_slots == 0;
  return {o.num_blocks, used ? o.block_size : 0, o.hash, o.on_event};
}

std::int64_t length_of(std::span<const std::int32_t> tokens) { return std::ssize(tokens); }

}  // namespace

KVCacheManager::KVCacheManager(const KVCacheOptions& options) : options_(options), names_(index_options(options)) {
  const KVCacheOptions& o = options_;
  CAJAL_CHECK(o.num_blocks >= 2 && o.max_blocks_per_seq >= 1 && o.block_size >= 1 && o.num_slots >= 0, o.num_blocks,
              " blocks of ", o.block_size, " tokens, ", o.max_blocks_per_seq, " a sequence, ", o.num_slots, " slots");
  CAJAL_CHECK(o.num_slots == 0 || o.num_blocks == 1 + o.num_slots * o.max_blocks_per_seq, o.num_slots, " slots of ",
              o.max_blocks_per_seq, " blocks in a pool of ", o.num_blocks);
  checked_cast<std::int32_t>(checked_mul(o.num_blocks, o.block_size, "tokens in the cache"), "tokens in the cache");
  if (o.num_slots > 0) options_.enable_prefix_caching = false;
  max_blocks_ = std::min(o.max_blocks_per_seq, o.num_blocks - 1);
  blocks_.resize(static_cast<std::size_t>(o.num_blocks));
  for (auto s = static_cast<std::int32_t>(o.num_slots); s-- > 0;) free_slots_.push_back(s);
  if (o.num_slots > 0) return;
  free_.reserve(blocks_.size());
  for (auto b = static_cast<std::int32_t>(o.num_blocks) - 1; b > kSpareBlock; --b) free_.push_back(b);
}

// Sequences.

std::int32_t KVCacheManager::find(SequenceId id) const {
  return ids_.find(id, [&](std::int32_t i) { return sequences_[static_cast<std::size_t>(i)].id == id; });
}

const KVCacheManager::Sequence& KVCacheManager::sequence(SequenceId id) const {
  const std::int32_t i = find(id);
  CAJAL_CHECK(i != ProbeTable::kNone, "sequence ", id, " is unknown");
  return sequences_[static_cast<std::size_t>(i)];
}

KVCacheManager::Sequence& KVCacheManager::sequence(SequenceId id) {
  return const_cast<Sequence&>(std::as_const(*this).sequence(id));
}

void KVCacheManager::make_room_for_sequence() {
  ids_.reserve(ids_.size() + 1);
  if (!free_sequences_.empty()) return;
  Sequence s;
  s.table.resize(static_cast<std::size_t>(max_blocks_));
  if (sequences_.size() == sequences_.capacity()) sequences_.reserve(std::max<std::size_t>(8, 2 * sequences_.size()));
  free_sequences_.reserve(sequences_.capacity());
  sequences_.push_back(std::move(s));
  free_sequences_.push_back(static_cast<std::int32_t>(sequences_.size() - 1));
}

void KVCacheManager::make_room_for_copies(std::int64_t count) {
  const std::size_t needed = copies_.size() + static_cast<std::size_t>(count);
  if (needed > copies_.capacity()) copies_.reserve(std::max(needed, 2 * copies_.capacity()));
}

// There is room.
KVCacheManager::Sequence& KVCacheManager::start(SequenceId id, std::int32_t salt) noexcept {
  const std::int32_t i = free_sequences_.back();
  free_sequences_.pop_back();
  ids_.insert(id, i);
  Sequence& s = sequences_[static_cast<std::size_t>(i)];
  s.id = id;
  s.living = true;
  s.may_name = options_.enable_prefix_caching;
  s.salt = salt;
  s.num_blocks = s.num_committed = s.num_full = s.num_named = s.first_private = 0;
  if (options_.num_slots > 0) take_slot(s);
  return s;
}

void KVCacheManager::take_slot(Sequence& s) noexcept {
  const std::int64_t slot = free_slots_.back();
  free_slots_.pop_back();
  for (s.num_blocks = 0; s.num_blocks < max_blocks_; ++s.num_blocks) {
    const auto b = static_cast<std::int32_t>(1 + slot * max_blocks_ + s.num_blocks);
    block(b).num_users = 1;
    s.table[static_cast<std::size_t>(s.num_blocks)] = b;
  }
}

// Blocks.

// One must be available.
std::int32_t KVCacheManager::take_block() noexcept {
  std::int32_t b = block(kSpareBlock).newer;
  if (!free_.empty()) {
    b = free_.back();
    free_.pop_back();
  } else {  // it has no named children: they were used no later than it, and stand before it in the list
    unlink_unused(b);
    names_.erase(b);
    ++statistics_.evicted_blocks;
  }
  block(b).num_users = 1;
  return b;
}

void KVCacheManager::use(std::int32_t b) noexcept {
  if (block(b).num_users++ == 0) unlink_unused(b);
}

// Of several blocks of a sequence the last goes first, so that children stand before their parents among the unused.
void KVCacheManager::drop(std::int32_t b) noexcept {
  if (--block(b).num_users > 0) return;
  if (names_.contains(b))
    append_unused(b);
  else
    free_.push_back(b);
}

void KVCacheManager::append_unused(std::int32_t b) noexcept {
  const std::int32_t newest = block(kSpareBlock).older;
  block(b).older = newest;
  block(b).newer = kSpareBlock;
  block(newest).newer = block(kSpareBlock).older = b;
  ++num_unused_;
}

void KVCacheManager::unlink_unused(std::int32_t b) noexcept {
  block(block(b).older).newer = block(b).newer;
  block(block(b).newer).older = block(b).older;
  --num_unused_;
}

// There is room. Later owners of either block write after all copies are done, and copies are done in the order of the
// list, so the list stays right when one of them changes hands before it is taken.
void KVCacheManager::copy(std::int32_t from, std::int32_t to) noexcept {
  copies_.push_back({from, to});
  ++statistics_.copied_blocks;
}

std::int64_t KVCacheManager::num_available_blocks() const {
  if (options_.num_slots > 0) return std::ssize(free_slots_) * max_blocks_;
  return std::ssize(free_) + num_unused_;
}

// Finding what is named.

template <class Visit>
void KVCacheManager::visit_run(std::int32_t salt, std::span<const std::int32_t> tokens, const Visit& visit) const {
  const auto size = static_cast<std::size_t>(options_.block_size);
  PrefixIndex::Parent parent = PrefixIndex::salt_parent(salt);
  for (std::int64_t i = 0; i < std::min(max_blocks_, length_of(tokens) / options_.block_size); ++i) {
    const std::int32_t b = names_.find(parent, tokens.subspan(static_cast<std::size_t>(i) * size, size));
    if (b == PrefixIndex::kNoBlock) return;
    visit(b);
    parent = b;
  }
}

std::int64_t KVCacheManager::find_prefix(std::span<const std::int32_t> tokens, std::string_view salt) const {
  const std::int32_t number = options_.enable_prefix_caching ? names_.find_salt(salt) : ProbeTable::kNone;
  if (number < 0) return 0;
  std::int64_t run = 0;
  visit_run(number, tokens, [&](std::int32_t) { ++run; });
  if (run == 0 || run * options_.block_size < length_of(tokens)) return run * options_.block_size;
  // Is there a block for the copy? If the last of the run is unused, it is there itself; if it is used, so are all before
  // it, and taking them makes nothing scarcer.
  return num_available_blocks() > 0 ? length_of(tokens) - 1 : (run - 1) * options_.block_size;
}

std::optional<std::int64_t> KVCacheManager::add(SequenceId id, std::span<const std::int32_t> tokens,
                                                std::string_view salt) {
  CAJAL_CHECK(!contains(id), "sequence ", id, " lives already");
  if (options_.num_slots > 0 && free_slots_.empty()) return std::nullopt;
  make_room_for_sequence();
  make_room_for_copies(1);
  if (!options_.enable_prefix_caching) {
    start(id, 0);
    return 0;
  }
  Sequence& s = start(id, names_.hold_salt(salt));
  s.num_committed = take_run(s, tokens);
  statistics_.prefix_queries += length_of(tokens);
  statistics_.prefix_hits += s.num_committed;
  return s.num_committed;
}

// Gives how many tokens it found.
std::int64_t KVCacheManager::take_run(Sequence& s, std::span<const std::int32_t> tokens) noexcept {
  const std::int64_t size = options_.block_size;
  std::int64_t run = 0;
  visit_run(s.salt, tokens, [&](std::int32_t b) { s.table[static_cast<std::size_t>(run++)] = b; });
  const bool full = run > 0 && run * size == length_of(tokens);
  const std::int64_t shared = run - full;
  for (std::int64_t i = 0; i < shared; ++i) use(s.table[static_cast<std::size_t>(i)]);
  s.num_blocks = s.num_full = s.num_named = s.first_private = shared;
  if (!full || size == 1 || num_available_blocks() == 0) return shared * size;

  // The last token will be computed again, in a copy. If nothing else is available than the block itself, it loses its
  // name instead.
  std::int32_t& last = s.table[static_cast<std::size_t>(shared)];
  if (block(last).num_users == 0) {  // to the end that is evicted last
    unlink_unused(last);
    append_unused(last);
  }
  const std::int32_t mine = take_block();
  if (mine != last) copy(last, mine);
  last = mine;
  ++s.num_blocks;
  return length_of(tokens) - 1;
}

// Sharing and writing.

bool KVCacheManager::fork(SequenceId parent, SequenceId child, std::int64_t num_tokens) {
  CAJAL_CHECK(!contains(child), "sequence ", child, " lives already");
  CAJAL_CHECK(num_tokens >= 0 && blocks_for(num_tokens) <= sequence(parent).num_blocks, num_tokens,
              " tokens of sequence ", parent, " are more than are reserved");
  const bool slots = options_.num_slots > 0;
  const std::int64_t shared = slots ? 0 : num_tokens / options_.block_size, used = blocks_for(num_tokens);
  if (slots ? free_slots_.empty() : used - shared > num_available_blocks()) return false;
  make_room_for_sequence();
  make_room_for_copies(used - shared);

  Sequence& from = sequence(parent);
  Sequence& s = start(child, from.salt);
  if (options_.enable_prefix_caching) names_.hold_salt(from.salt);
  s.may_name = from.may_name;
  s.num_committed = std::min(from.num_committed, num_tokens);
  s.num_full = s.num_committed / options_.block_size;
  s.num_named = std::min(from.num_named, s.num_full);
  s.first_private = shared;
  from.first_private = std::max(from.first_private, shared);
  for (std::int64_t i = 0; i < used; ++i) {
    const std::int32_t theirs = from.table[static_cast<std::size_t>(i)];
    std::int32_t& mine = s.table[static_cast<std::size_t>(i)];
    if (i < shared) {
      use(mine = theirs);
    } else {
      if (!slots) mine = take_block();
      copy(theirs, mine);
    }
  }
  if (!slots) s.num_blocks = used;
  return true;
}

bool KVCacheManager::reserve(SequenceId id, std::int64_t first_written, std::int64_t num_tokens) {
  Sequence& s = sequence(id);
  CAJAL_CHECK(0 <= first_written && first_written <= num_tokens, "tokens ", first_written, " to ", num_tokens);
  const std::int64_t wanted = blocks_for(num_tokens);
  if (wanted > max_blocks_) return false;
  const std::int64_t first = first_written / options_.block_size;
  if (first < s.first_private && options_.num_slots == 0) return reserve_again(s, first_written, wanted);
  if (wanted > s.num_blocks) {
    if (wanted - s.num_blocks > num_available_blocks()) return false;
    while (s.num_blocks < wanted) s.table[static_cast<std::size_t>(s.num_blocks++)] = take_block();
  }
  s.num_committed = std::min(s.num_committed, first_written);
  s.num_full = std::min(s.num_full, first);
  return true;
}

// Goes back into blocks that are named or that others may have, too.
bool KVCacheManager::reserve_again(Sequence& s, std::int64_t first_written, std::int64_t num_blocks) {
  const std::int64_t first = first_written / options_.block_size;
  std::int64_t needed = std::max<std::int64_t>(0, num_blocks - s.num_blocks), gained = 0;
  for (std::int64_t i = first; i < s.num_blocks; ++i) {
    const std::int32_t b = s.table[static_cast<std::size_t>(i)];
    if (i < num_blocks && is_private(b)) continue;
    needed += i < num_blocks;
    gained += block(b).num_users == 1;
  }
  if (needed > num_available_blocks() + gained) return false;
  make_room_for_copies(1);

  const std::int32_t old = s.table[static_cast<std::size_t>(first)];
  for (std::int64_t i = s.num_blocks; i-- > first;) {
    std::int32_t& b = s.table[static_cast<std::size_t>(i)];
    if (i < num_blocks && is_private(b)) continue;
    drop(b);
    b = kSpareBlock;  // none, for now
  }
  for (std::int64_t i = first; i < num_blocks; ++i) {
    std::int32_t& b = s.table[static_cast<std::size_t>(i)];
    if (i < s.num_blocks && b != kSpareBlock) continue;
    b = take_block();
    // Only the first has tokens that stay. It may have got the very same block, which was evicted last of all.
    if (i == first && first_written % options_.block_size != 0 && b != old) copy(old, b);
  }
  s.num_blocks = num_blocks;
  s.num_committed = std::min(s.num_committed, first_written);
  s.num_full = std::min(s.num_full, first);
  s.num_named = std::min(s.num_named, first);
  s.first_private = first;
  return true;
}

void KVCacheManager::commit(SequenceId id, std::span<const std::int32_t> tokens) {
  Sequence& s = sequence(id);
  if (length_of(tokens) <= s.num_committed) return;
  CAJAL_CHECK(blocks_for(length_of(tokens)) <= s.num_blocks, length_of(tokens), " tokens of sequence ", id,
              " are more than are reserved");
  s.num_committed = length_of(tokens);
  if (s.num_committed - s.num_full * options_.block_size >= options_.block_size) name_full_blocks(s, tokens);
}

void KVCacheManager::name_full_blocks(Sequence& s, std::span<const std::int32_t> tokens) noexcept {
  const auto size = static_cast<std::size_t>(options_.block_size);
  const std::int64_t num_full = s.num_committed / options_.block_size;
  for (std::int64_t& i = s.num_full; i < num_full; ++i) {
    if (!s.may_name || s.num_named < i) continue;  // the parent has no name, or it is that of a block of another
    const std::int32_t b = s.table[static_cast<std::size_t>(i)];
    const auto parent = i > 0 ? s.table[static_cast<std::size_t>(i - 1)] : PrefixIndex::salt_parent(s.salt);
    const auto contents = tokens.subspan(static_cast<std::size_t>(i) * size, size);
    const std::int32_t known = names_.find(parent, contents);
    CAJAL_CHECK(known == b || !names_.contains(b), "tokens of sequence ", s.id, " differ from those committed before");
    if (known == PrefixIndex::kNoBlock) names_.insert(b, parent, contents);
    s.num_named += known == PrefixIndex::kNoBlock || known == b;
  }
  s.first_private = std::max(s.first_private, s.num_full);
}

void KVCacheManager::release(SequenceId id) noexcept {
  const std::int32_t number = find(id);
  if (number == ProbeTable::kNone) return;
  Sequence& s = sequences_[static_cast<std::size_t>(number)];
  if (options_.num_slots > 0) {
    for (const std::int32_t b : s.table) block(b).num_users = 0;
    free_slots_.push_back(static_cast<std::int32_t>((s.table.front() - 1) / max_blocks_));
  } else {
    for (std::int64_t i = s.num_blocks; i-- > 0;) drop(s.table[static_cast<std::size_t>(i)]);
  }
  if (options_.enable_prefix_caching) names_.release_salt(s.salt);
  s.living = false;
  ids_.erase(id, number);
  free_sequences_.push_back(number);  // there is room for all
}

void KVCacheManager::clear_prefix_cache() noexcept {
  if (!options_.enable_prefix_caching) return;
  while (num_unused_ > 0) {
    const std::int32_t b = block(kSpareBlock).newer;
    unlink_unused(b);
    free_.push_back(b);
  }
  names_.clear();
  for (Sequence& s : sequences_) {
    s.may_name = false;
    s.num_named = 0;
  }
}

std::span<const std::int32_t> KVCacheManager::block_table(SequenceId id) const {
  const Sequence& s = sequence(id);
  return std::span(s.table).first(static_cast<std::size_t>(s.num_blocks));
}

std::int32_t KVCacheManager::slot(SequenceId id, std::int64_t position) const {
  const Sequence& s = sequence(id);
  const std::int64_t i = position / options_.block_size;
  CAJAL_CHECK(position >= 0 && i < s.num_blocks, "position ", position, " of sequence ", id, " is not reserved");
  const std::int64_t b = s.table[static_cast<std::size_t>(i)];
  return static_cast<std::int32_t>(b * options_.block_size + position % options_.block_size);
}

}  // namespace cajal
