#include "engine/speculation/prompt_lookup_drafter.h"

#include <algorithm>
#include <limits>

#include "base/error.h"

namespace cajal {
namespace {

constexpr std::int64_t kMostGuesses = 256, kLargestNgram = 32;

void check_range(const char* name, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value < least || value > most)
    fail(ErrorCode::invalid_argument, name, " is ", value, ", expected ", least, " to ", most);
}

// Where each n-gram of one size ended last: an open hash table of ends (one past the n-gram's last token), 0 for an empty
// place. Whether two n-grams are the same is decided by their tokens, never by their hashes.
class NgramTable {
 public:
  explicit NgramTable(std::size_t n) : n_(n) {}

  // `end` is greater than in any call before.
  void insert(std::span<const std::int32_t> tokens, std::size_t end) {
    if (2 * (num_ngrams_ + 1) > ends_.size()) grow(tokens);
    place(tokens, end);
  }
  // The last end of the n-gram that ends at `end`, or 0.
  std::size_t find(std::span<const std::int32_t> tokens, std::size_t end) const {
    if (ends_.empty()) return 0;
    std::size_t i = first_place(tokens, end);
    for (int probe = 0; probe < kMaxProbes && ends_[i]; ++probe, i = (i + 1) & (ends_.size() - 1))
      if (is_same(tokens, ends_[i], end)) return ends_[i];
    return 0;
  }

 private:
  // A table half full never needs so many. Somebody who makes tokens collide on purpose misses a guess and costs no time.
  static constexpr int kMaxProbes = 256;
  static constexpr std::size_t kFirstSize = 64;

  bool is_same(std::span<const std::int32_t> tokens, std::size_t a, std::size_t b) const {
    return std::equal(tokens.begin() + static_cast<std::ptrdiff_t>(a - n_),
                      tokens.begin() + static_cast<std::ptrdiff_t>(a),
                      tokens.begin() + static_cast<std::ptrdiff_t>(b - n_));
  }
  std::size_t first_place(std::span<const std::int32_t> tokens, std::size_t end) const {
    std::uint64_t hash = 0x9e3779b97f4a7c15u;
    for (const std::int32_t token : tokens.subspan(end - n_, n_)) {
      hash = (hash ^ static_cast<std::uint32_t>(token)) * 0xff51afd7ed558ccdu;
      hash ^= hash >> 32;
    }
    return static_cast<std::size_t>(hash) & (ends_.size() - 1);
  }
  void place(std::span<const std::int32_t> tokens, std::size_t end) {
    std::size_t i = first_place(tokens, end);
    for (int probe = 0; probe < kMaxProbes; ++probe, i = (i + 1) & (ends_.size() - 1)) {
      if (ends_[i] && !is_same(tokens, ends_[i], end)) continue;
      num_ngrams_ += ends_[i] == 0;
      ends_[i] = static_cast<std::uint32_t>(end);
      return;
    }
  }
  void grow(std::span<const std::int32_t> tokens) {
    std::vector<std::uint32_t> older(std::max(kFirstSize, 2 * ends_.size()));
    older.swap(ends_);
    num_ngrams_ = 0;
    for (const std::uint32_t end : older)
      if (end) place(tokens, end);
  }

  std::size_t n_;
  std::size_t num_ngrams_ = 0;
  std::vector<std::uint32_t> ends_;  // as many as a power of two
};

}  // namespace

// The tokens of a sequence and the last occurrences of their n-grams.
class PromptLookupDrafter::Index {
 public:
  Index(std::int64_t min_size, std::int64_t max_size) : min_size_(static_cast<std::size_t>(min_size)) {
    for (std::int64_t n = min_size; n <= max_size; ++n) tables_.emplace_back(static_cast<std::size_t>(n));
  }

  std::uint64_t last_call = 0;

  std::int64_t num_tokens() const { return static_cast<std::int64_t>(tokens_.size()); }
  bool is_prefix_of(std::span<const std::int32_t> tokens) const {
    return tokens_.size() <= tokens.size() && std::equal(tokens_.begin(), tokens_.end(), tokens.begin());
  }
  // Takes what `tokens` has more. The n-grams at the very end are left for later: nothing has followed them yet.
  void extend(std::span<const std::int32_t> tokens) {
    const std::size_t known = tokens_.size();
    tokens_.insert(tokens_.end(), tokens.begin() + static_cast<std::ptrdiff_t>(known), tokens.end());
    for (std::size_t end = std::max<std::size_t>(known, 1); end < tokens_.size(); ++end)
      for (std::size_t t = 0; t < tables_.size() && min_size_ + t <= end; ++t) tables_[t].insert(tokens_, end);
  }
  // Where the longest of the n-grams at the end ended before, or 0.
  std::size_t find_longest() const {
    for (std::size_t t = tables_.size(); t-- > 0;) {
      if (min_size_ + t > tokens_.size()) continue;
      if (const std::size_t end = tables_[t].find(tokens_, tokens_.size())) return end;
    }
    return 0;
  }
  void copy_from(std::size_t end, std::int64_t count, std::vector<std::int32_t>& into) const {
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i)
      into.push_back(end + i < tokens_.size() ? tokens_[end + i] : into[end + i - tokens_.size()]);
  }

 private:
  std::size_t min_size_;
  std::vector<NgramTable> tables_;  // of sizes min_size_, min_size_ + 1, …
  std::vector<std::int32_t> tokens_;
};

PromptLookupDrafter::PromptLookupDrafter(const PromptLookupOptions& options) : options_(options) {
  check_range("prompt_lookup_num_tokens", options.prompt_lookup_num_tokens, 1, kMostGuesses);
  check_range("max_matching_ngram_size", options.max_matching_ngram_size, 1, kLargestNgram);
  check_range("min_matching_ngram_size", options.min_matching_ngram_size, 1, options.max_matching_ngram_size);
  check_range("max_indexed_tokens", options.max_indexed_tokens, 0, std::numeric_limits<std::int64_t>::max());
}

PromptLookupDrafter::~PromptLookupDrafter() = default;

void PromptLookupDrafter::propose(std::span<const DraftContext> contexts, std::span<Draft> drafts) {
  CAJAL_CHECK(contexts.size() == drafts.size());
  ++calls_;
  for (std::size_t i = 0; i < contexts.size(); ++i) {
    drafts[i].clear();
    const std::int64_t wanted = std::min(contexts[i].max_tokens, options_.prompt_lookup_num_tokens);
    if (wanted <= 0 || contexts[i].tokens.empty()) continue;
    const Index& index = refresh(contexts[i]);
    if (const std::size_t end = index.find_longest()) index.copy_from(end, wanted, drafts[i].tokens);
    drop_least_recently_used(contexts[i].sequence);
  }
}

PromptLookupDrafter::Index& PromptLookupDrafter::refresh(const DraftContext& context) {
  auto& index = indexes_[context.sequence];
  if (!index || !index->is_prefix_of(context.tokens)) {  // new, or it went back and took another way
    if (index) num_indexed_tokens_ -= index->num_tokens();
    index = std::make_unique<Index>(options_.min_matching_ngram_size, options_.max_matching_ngram_size);
  }
  num_indexed_tokens_ -= index->num_tokens();
  index->extend(context.tokens);
  num_indexed_tokens_ += index->num_tokens();
  index->last_call = calls_;
  return *index;
}

void PromptLookupDrafter::drop_least_recently_used(std::uint64_t kept) {
  while (num_indexed_tokens_ > options_.max_indexed_tokens && indexes_.size() > 1) {
    auto oldest = indexes_.end();
    for (auto it = indexes_.begin(); it != indexes_.end(); ++it)
      if (it->first != kept && (oldest == indexes_.end() || it->second->last_call < oldest->second->last_call))
        oldest = it;
    num_indexed_tokens_ -= oldest->second->num_tokens();
    indexes_.erase(oldest);
  }
}

void PromptLookupDrafter::forget(std::uint64_t sequence) noexcept {
  const auto it = indexes_.find(sequence);
  if (it == indexes_.end()) return;
  num_indexed_tokens_ -= it->second->num_tokens();
  indexes_.erase(it);
}

}  // namespace cajal
