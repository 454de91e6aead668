#include "text/bpe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <set>

#include "support.h"

namespace cajal {
namespace {

using Ids = std::vector<std::int32_t>;

// A vocabulary of a few letters and random merges of what there is so far, and the definition of BPE over it.
class RandomBpe {
 public:
  explicit RandomBpe(std::uint64_t seed) {
    test::Random random(seed);
    const std::uint32_t letters = 1 + random.below(4);
    std::vector<std::string> tokens;
    for (std::uint32_t i = 0; i < letters; ++i) tokens.emplace_back(1, static_cast<char>('a' + i));
    for (std::uint32_t i = random.below(30); i > 0; --i) {
      const std::string left = tokens[random.below(static_cast<std::uint32_t>(tokens.size()))];
      const std::string right = tokens[random.below(static_cast<std::uint32_t>(tokens.size()))];
      if (!ranks_.emplace(std::pair(left, right), static_cast<int>(merges_.size())).second) continue;
      merges_.emplace_back(left, right);
      if (std::find(tokens.begin(), tokens.end(), left + right) == tokens.end()) tokens.push_back(left + right);
    }
    Vocabulary vocabulary(tokens.size());
    for (std::size_t i = 0; i < tokens.size(); ++i) vocabulary.add(tokens[i], static_cast<std::int64_t>(i));
    bpe_ = std::make_unique<Bpe>(std::move(vocabulary), merges_.size());
    for (const auto& [left, right] : merges_) bpe_->add_merge(left, right);
    letters_ = letters;
  }

  Ids fast(const std::string& text) {
    Ids ids;
    bpe_->encode(text, ids, scratch_);
    return ids;
  }

  Ids by_definition(const std::string& text) const {
    std::vector<std::string> symbols;
    for (const char c : text) symbols.emplace_back(1, c);
    for (;;) {
      int best = std::numeric_limits<int>::max();
      std::size_t where = 0;
      for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
        const auto it = ranks_.find({symbols[i], symbols[i + 1]});
        if (it != ranks_.end() && it->second < best) best = it->second, where = i;
      }
      if (best == std::numeric_limits<int>::max()) break;
      symbols[where] += symbols[where + 1];
      symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(where) + 1);
    }
    Ids ids;
    for (const std::string& symbol : symbols) ids.push_back(*bpe_->vocabulary().find(symbol));
    return ids;
  }

  std::uint32_t letters() const { return letters_; }

 private:
  std::vector<std::pair<std::string, std::string>> merges_;
  std::map<std::pair<std::string, std::string>, int> ranks_;
  std::unique_ptr<Bpe> bpe_;
  Bpe::Scratch scratch_;
  std::uint32_t letters_ = 0;
};

TEST(Bpe, MergesAsItsDefinitionSays) {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    RandomBpe bpe(seed);
    test::Random random(seed + 1000);
    for (int round = 0; round < 30; ++round) {
      std::string text;
      for (std::uint32_t n = random.below(round % 3 == 0 ? 120 : 12); n > 0; --n)
        text += static_cast<char>('a' + random.below(bpe.letters()));
      const Ids expected = bpe.by_definition(text);
      ASSERT_EQ(bpe.fast(text), expected) << "seed " << seed << ' ' << text;
      ASSERT_EQ(bpe.fast(text), expected) << "again, seed " << seed << ' ' << text;
    }
  }
}

// Steps, not seconds: the count is the same on every machine.
TEST(Bpe, CostsLittleMoreThanLinearInTheLengthOfAPiece) {
  Vocabulary vocabulary(20);
  std::string token = "x";
  for (int i = 0; i < 12; ++i, token += token) vocabulary.add(token, i);
  Bpe bpe(std::move(vocabulary), 11);
  token = "x";
  for (int i = 0; i < 11; ++i, token += token) bpe.add_merge(token, token);
  const auto steps = [&](std::size_t length) {
    Bpe::Scratch scratch;
    Ids ids;
    bpe.encode(std::string(length, 'x'), ids, scratch);
    return static_cast<double>(scratch.steps);
  };
  for (std::size_t length = 1000; length <= 512'000; length *= 2)
    EXPECT_LT(steps(2 * length) / steps(length), 2.3) << length;
  EXPECT_LT(steps(1'000'000), 64e6);
}

TEST(Bpe, TakesAWholeTokenOnlyIfMergesLeadToIt) {
  Vocabulary vocabulary(4);
  vocabulary.add("a", 0);
  vocabulary.add("b", 1);
  vocabulary.add("ab", 2);
  vocabulary.add("ba", 3);
  Bpe bpe(std::move(vocabulary), 1);
  bpe.add_merge("a", "b");
  Bpe::Scratch scratch;
  Ids ids;
  for (int i = 0; i < 2; ++i) bpe.encode("ab", ids, scratch), bpe.encode("ba", ids, scratch);
  EXPECT_EQ(ids, (Ids{2, 1, 0, 2, 1, 0}));
  ids.clear();
  bpe.set_options({.ignore_merges = true});
  bpe.encode("ba", ids, scratch);
  EXPECT_EQ(ids, Ids{3});
}

TEST(ByteAlphabet, CoversEveryByteOnce) {
  std::set<char32_t> seen;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string bytes(1, static_cast<char>(byte));
    EXPECT_EQ(from_byte_alphabet(to_byte_alphabet(bytes)), bytes);
    seen.insert(byte_to_alphabet(static_cast<std::uint8_t>(byte)));
  }
  EXPECT_EQ(seen.size(), 256u);
  EXPECT_EQ(to_byte_alphabet(" the\n"), "\u0120the\u010a");
  EXPECT_EQ(from_byte_alphabet("a b"), std::nullopt);
  EXPECT_EQ(from_byte_alphabet("\u4e2d"), std::nullopt);
}

}  // namespace
}  // namespace cajal
