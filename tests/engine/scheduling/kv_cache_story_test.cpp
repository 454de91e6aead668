// Long random stories: the manager beside the slow cache, on a memory where each token's place says what was written there.
#include <gtest/gtest.h>

#include <random>

#include "base/error.h"
#include "engine/scheduling/slow_kv_cache.h"

namespace cajal {
namespace {

using Tokens = std::vector<std::int32_t>;

struct StoryCase {
  std::int64_t block_size = 4;
  BlockHash (*hash)(BlockHash, std::span<const std::int32_t>) = nullptr;
  std::int64_t num_slots = 0;
  bool enable_prefix_caching = true;
  const char* name = "";
  friend std::ostream& operator<<(std::ostream& out, const StoryCase& c) { return out << c.name; }
};

BlockHash all_equal(BlockHash, std::span<const std::int32_t>) { return 7; }
BlockHash two_bits(BlockHash parent, std::span<const std::int32_t> tokens) {
  return (parent * 5 + static_cast<std::uint32_t>(tokens.back())) & 3;
}

// What keys and values of a token depend on.
struct Cell {
  std::int32_t token = -1;
  std::uint64_t before = 0;  // all tokens before it, and the salt
  bool operator==(const Cell&) const = default;
};

std::uint64_t salt_hash(const std::string& salt) { return std::hash<std::string>()(salt); }
std::uint64_t after(std::uint64_t before, std::int32_t token) {
  return (before + static_cast<std::uint32_t>(token) + 1) * 0x9E3779B97F4A7C15u;
}

// The names that are left when events are played back.
struct Events {
  std::multimap<BlockHash, std::pair<BlockHash, Tokens>> stored;
  std::string problem;

  void on(const KVCacheEvent& e) {
    if (e.kind == KVCacheEvent::Kind::all_blocks_cleared) return stored.clear();
    if (e.kind == KVCacheEvent::Kind::block_stored) {
      if (e.parent_block_hash != 0 && !stored.contains(e.parent_block_hash)) problem = "stored before its parent";
      stored.insert({e.block_hash, {e.parent_block_hash, Tokens(e.token_ids.begin(), e.token_ids.end())}});
      return;
    }
    const auto [begin, end] = stored.equal_range(e.block_hash);
    const auto found = std::find_if(begin, end, [&](const auto& s) { return s.second.first == e.parent_block_hash; });
    if (found == end)
      problem = "removed what is not stored";
    else
      stored.erase(found);
  }
  // All tokens up to the end of each block; only where hashes are names.
  std::multiset<Tokens> names() const {
    std::multiset<Tokens> all;
    for (const auto& [hash, block] : stored) {
      Tokens tokens = block.second;
      for (BlockHash parent = block.first; parent != 0;) {
        const auto& [grandparent, before] = stored.find(parent)->second;
        tokens.insert(tokens.begin(), before.begin(), before.end());
        parent = grandparent;
      }
      all.insert(tokens);
    }
    return all;
  }
};

class Story {
 public:
  Story(const StoryCase& c, unsigned seed)
      : rng_(seed), case_(c), options_(options_of(c, events_)), kv_(options_), slow_(options_) {
    memory_.resize(static_cast<std::size_t>(options_.num_blocks * options_.block_size));
  }

  void play_scene() {
    const std::uint64_t id = rng_() % 9;
    const auto s = sequences_.find(id);
    const std::uint64_t what = rng_() % 100;
    if (what < 12)
      step();
    else if (what == 12 && random(5) == 0)
      kv_.clear_prefix_cache(), slow_.clear();
    else if (s == sequences_.end())
      what < 75 || sequences_.empty() ? add(id) : fork(id);
    else if (what < 25)
      release(id);
    else if (s->second.planned > s->second.computed)
      ;  // its next tokens wait for the step
    else if (what < 32)
      rewind(id);
    else if (what < 40)
      commit(id);
    else
      extend(id);
  }

  std::string find_problem() const {
    if (auto problem = kv_.find_inconsistency(); !problem.empty()) return problem;
    if (kv_.num_available_blocks() != slow_.num_available())
      return detail::join(kv_.num_available_blocks(), " blocks available, not ", slow_.num_available());
    if (!events_.problem.empty()) return events_.problem;
    if (events_.stored.size() != slow_.names().size())
      return detail::join(events_.stored.size(), " names, not ", slow_.names().size());
    if (case_.hash == nullptr && events_.names() != slow_.names()) return "other names than there should be";
    return find_wrong_memory();
  }

  int num_evicted() const { return static_cast<int>(kv_.statistics().evicted_blocks); }
  int num_hits() const { return static_cast<int>(kv_.statistics().prefix_hits); }
  int num_copied() const { return static_cast<int>(kv_.statistics().copied_blocks); }
  int num_refused = 0;
  std::string trouble;  // what the two disagreed about

 private:
  struct Sequence {
    std::string salt;
    Tokens tokens;
    std::int64_t computed = 0, planned = 0;  // tokens in the cache, and after the next step
  };

  static KVCacheOptions options_of(const StoryCase& c, Events& events) {
    KVCacheOptions o;
    o.max_blocks_per_seq = 6;
    o.num_blocks = c.num_slots ? 1 + c.num_slots * o.max_blocks_per_seq : 17;
    o.block_size = c.block_size;
    o.enable_prefix_caching = c.enable_prefix_caching;
    o.num_slots = c.num_slots;
    o.hash = c.hash;
    o.on_event = [&events](const KVCacheEvent& e) { events.on(e); };
    return o;
  }

  template <class T>
  void expect_equal(const T& ours, const T& theirs, const char* what) {
    if (!(ours == theirs)) trouble = detail::join(what, " differs from the slow cache");
  }
  std::int64_t random(std::int64_t below) {
    return static_cast<std::int64_t>(rng_() % static_cast<std::uint64_t>(below));
  }

  // Whole blocks are alike or not, so that many sequences begin alike.
  void append_tokens(Tokens& tokens, std::int64_t count) {
    for (; count > 0; --count) {
      const bool begins = std::ssize(tokens) % options_.block_size == 0;
      tokens.push_back(begins || random(10 * options_.block_size) == 0 ? static_cast<std::int32_t>(rng_() % 3 == 0)
                                                                       : tokens.back());
    }
  }

  void add(std::uint64_t id) {
    Sequence s;
    if (random(6) == 0) s.salt = random(2) ? "a" : "some longer salt of another tenant";
    const std::int64_t blocks = random(options_.max_blocks_per_seq);
    append_tokens(s.tokens, blocks * options_.block_size + (random(3) ? random(options_.block_size) : 0));
    expect_equal(kv_.find_prefix(s.tokens, s.salt), slow_.find(s.tokens, s.salt), "find_prefix");
    const auto found = kv_.add(id, s.tokens, s.salt);
    expect_equal(found, slow_.add(id, s.tokens, s.salt), "add");
    num_refused += !found;
    if (!found) return;
    s.computed = s.planned = *found;
    sequences_[id] = std::move(s);
  }

  void fork(std::uint64_t child) {
    const auto parent = std::next(sequences_.begin(), random(std::ssize(sequences_)));
    const std::int64_t count = random(4) ? parent->second.computed : random(parent->second.computed + 1);
    const bool done = kv_.fork(parent->first, child, count);
    expect_equal(done, slow_.fork(parent->first, child, count), "fork");
    num_refused += !done;
    if (!done) return;
    Sequence s = parent->second;
    s.tokens.resize(static_cast<std::size_t>(count));
    s.computed = s.planned = count;
    sequences_[child] = std::move(s);
  }

  bool plan(std::uint64_t id, std::int64_t first, std::int64_t end) {
    const bool done = kv_.reserve(id, first, end);
    expect_equal(done, slow_.reserve(id, first, end), "reserve");
    num_refused += !done;
    if (done) sequences_[id].computed = first, sequences_[id].planned = end;
    return done;
  }

  void extend(std::uint64_t id) {
    Sequence& s = sequences_[id];
    const std::int64_t end = s.computed + 1 + random(options_.block_size + 2);
    append_tokens(s.tokens, end - std::ssize(s.tokens));
    plan(id, s.computed, end);
  }

  void rewind(std::uint64_t id) {
    Sequence& s = sequences_[id];
    const Tokens before = s.tokens;
    const std::int64_t first = random(s.computed + 1), end = first + random(options_.block_size * 2);
    s.tokens.resize(static_cast<std::size_t>(first));
    append_tokens(s.tokens, end - first);
    if (!plan(id, first, end)) s.tokens = before;
  }

  void commit(std::uint64_t id) {
    const Sequence& s = sequences_.at(id);
    const Tokens tokens(s.tokens.begin(), s.tokens.begin() + s.computed);
    kv_.commit(id, tokens);
    slow_.commit(id, tokens);
  }

  void release(std::uint64_t id) {
    kv_.release(id);
    slow_.release(id);
    sequences_.erase(id);
  }

  static void copy_blocks(std::vector<Cell>& memory, const KVCacheManager& kv) {
    for (const BlockCopy& c : kv.pending_copies())
      std::copy_n(memory.begin() + c.from * kv.block_size(), kv.block_size(), memory.begin() + c.to * kv.block_size());
  }

  void step() {
    copy_blocks(memory_, kv_);
    kv_.clear_pending_copies();
    for (auto& [id, s] : sequences_) {
      std::uint64_t before = salt_hash(s.salt);
      for (std::int64_t p = 0; p < s.planned; before = after(before, s.tokens[static_cast<std::size_t>(p++)]))
        if (p >= s.computed)
          memory_[static_cast<std::size_t>(kv_.slot(id, p))] = {s.tokens[static_cast<std::size_t>(p)], before};
      if (s.planned == s.computed) continue;
      s.computed = s.planned;
      if (random(5) > 0) commit(id);
    }
  }

  // Would every sequence read its own tokens in the next step?
  std::string find_wrong_memory() const {
    std::vector<Cell> memory = memory_;
    copy_blocks(memory, kv_);
    for (const auto& [id, s] : sequences_) {
      std::uint64_t before = salt_hash(s.salt);
      const auto table = kv_.block_table(id);
      for (std::int64_t p = 0; p < s.computed; before = after(before, s.tokens[static_cast<std::size_t>(p++)])) {
        const auto at = table[static_cast<std::size_t>(p / options_.block_size)] * options_.block_size;
        if (memory[static_cast<std::size_t>(at + p % options_.block_size)] !=
            Cell{s.tokens[static_cast<std::size_t>(p)], before})
          return detail::join("sequence ", id, " does not read its token ", p);
      }
    }
    return {};
  }

  std::mt19937 rng_;
  StoryCase case_;
  Events events_;
  KVCacheOptions options_;
  KVCacheManager kv_;
  SlowKVCache slow_;
  std::vector<Cell> memory_;
  std::map<std::uint64_t, Sequence> sequences_;
};

class KVCacheStory : public ::testing::TestWithParam<StoryCase> {};

TEST_P(KVCacheStory, IsThatOfTheSlowCacheAndEverySequenceReadsItsOwnTokens) {
  int evicted = 0, hits = 0, copied = 0, refused = 0;
  for (unsigned seed = 0; seed < (GetParam().block_size > 8 ? 2 : 4); ++seed) {
    Story story(GetParam(), seed);
    for (int i = 0; i < 5000; ++i) {
      story.play_scene();
      ASSERT_EQ(story.trouble + story.find_problem(), "") << "after scene " << i << " of story " << seed;
    }
    evicted += story.num_evicted(), hits += story.num_hits(), copied += story.num_copied(),
        refused += story.num_refused;
  }
  // A story in which nothing happens proves nothing.
  const bool caching = GetParam().enable_prefix_caching && GetParam().num_slots == 0;
  EXPECT_EQ(evicted > 50 && hits > 500, caching) << evicted << " evicted, " << hits << " hits";
  EXPECT_GT(copied, GetParam().block_size > 1 ? 50 : -1);
  EXPECT_GT(refused, 20);
}

INSTANTIATE_TEST_SUITE_P(Pools, KVCacheStory,
                         ::testing::Values(StoryCase{.block_size = 1, .name = "BlocksOf1"},
                                           StoryCase{.block_size = 2, .name = "BlocksOf2"},
                                           StoryCase{.block_size = 4, .name = "BlocksOf4"},
                                           StoryCase{.block_size = 64, .name = "BlocksOf64"},
                                           StoryCase{.block_size = 2, .hash = all_equal, .name = "AllHashesEqual"},
                                           StoryCase{.block_size = 4, .hash = two_bits, .name = "HashesOf2Bits"},
                                           StoryCase{.block_size = 4, .num_slots = 5, .name = "Slots"},
                                           StoryCase{.enable_prefix_caching = false, .name = "NoPrefixCaching"}),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace cajal
