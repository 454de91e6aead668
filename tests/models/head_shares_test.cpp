#include "models/head_shares.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "models/layers.h"

namespace cajal {
namespace {

// The units of each share; those of a plain cut written out.
std::vector<int> units_of(const Sharding& sharding, int tp, int units) {
  if (!sharding.units.empty()) return sharding.units;
  std::vector<int> all;
  for (int rank = 0; rank < tp; ++rank) {
    const int share = rank * sharding.parts / tp, each = units / sharding.parts;
    for (int i = 0; i < each; ++i) all.push_back(share * each + i);
  }
  return all;
}

// NxD's heads on a rank, of q and of k, by its two strategies.
struct NxdHeads {
  int q, kv;
};
NxdHeads nxd_heads(int heads, int kv_heads, int tp) {
  const int q = ceil_div(heads, tp) * tp;
  const bool plain = kv_heads >= tp && kv_heads % tp == 0;
  const int kv = heads == kv_heads ? q : plain ? kv_heads : tp % kv_heads == 0 ? tp : q;
  return {q / tp, kv / tp};
}

// body(heads, kv_heads, tp) for all there are.
template <class Body>
void for_all(const Body& body) {
  for (int heads = 1; heads <= 64; ++heads)
    for (int kv_heads = 1; kv_heads <= heads; ++kv_heads)
      for (int tp = 1; tp <= 16 && heads % kv_heads == 0; ++tp) body(heads, kv_heads, tp);
}

TEST(HeadShares, GiveEveryHeadToOneRankBesideTheKvHeadThatItReads) {
  for_all([](int heads, int kv_heads, int tp) {
    const HeadShares shares = share_heads(heads, kv_heads, 8, tp);
    const std::vector<int> q = units_of(shares.q, tp, heads), kv = units_of(shares.kv, tp, kv_heads);
    ASSERT_EQ(std::ssize(q), shares.q_heads * tp);
    ASSERT_EQ(std::ssize(kv), shares.kv_heads * tp);
    std::multiset<int> given;
    for (std::size_t i = 0; i < q.size(); ++i) {
      if (q[i] < 0) continue;
      given.insert(q[i]);
      // What attention on that rank takes for its kv head: j * q_heads / kv_heads onwards are kv head j's.
      const auto rank = static_cast<std::int64_t>(i) / shares.q_heads,
                 place = static_cast<std::int64_t>(i) % shares.q_heads;
      const std::int64_t j = rank * shares.kv_heads + place / (shares.q_heads / shares.kv_heads);
      ASSERT_EQ(kv[static_cast<std::size_t>(j)], q[i] / (heads / kv_heads)) << heads << ' ' << kv_heads << ' ' << tp;
    }
    ASSERT_EQ(given.size(), static_cast<std::size_t>(heads)) << heads << ' ' << kv_heads << ' ' << tp;
    ASSERT_EQ(std::set<int>(given.begin(), given.end()).size(), given.size());
  });
}

TEST(HeadShares, AreNxdsWhereDegreesDivideAndTakeNoMoreElsewhere) {
  for_all([](int heads, int kv_heads, int tp) {
    const HeadShares shares = share_heads(heads, kv_heads, 8, tp);
    const NxdHeads nxd = nxd_heads(heads, kv_heads, tp);
    if (kv_heads % tp == 0 || tp % kv_heads == 0) {
      ASSERT_EQ(shares.q_heads, nxd.q) << heads << ' ' << kv_heads << ' ' << tp;
      ASSERT_EQ(shares.kv_heads, nxd.kv) << heads << ' ' << kv_heads << ' ' << tp;
    }
    ASSERT_LE(shares.kv_heads, nxd.kv) << heads << ' ' << kv_heads << ' ' << tp;
    ASSERT_LE(shares.q_heads + shares.kv_heads, nxd.q + nxd.kv) << heads << ' ' << kv_heads << ' ' << tp;
  });
}

TEST(HeadShares, AreListedOnlyWhereAPlainCutIsNotEnough) {
  EXPECT_EQ(share_heads(32, 8, 128, 4).q, (Sharding{.dim = 0, .parts = 4}));
  EXPECT_EQ(share_heads(32, 8, 128, 4).kv, (Sharding{.dim = 0, .parts = 4}));
  EXPECT_EQ(share_heads(32, 8, 128, 4).o, (Sharding{.dim = 1, .parts = 4}));
  EXPECT_EQ(share_heads(32, 4, 128, 8).kv, (Sharding{.dim = 0, .parts = 4}));
  EXPECT_EQ(share_heads(32, 4, 128, 8).q, (Sharding{.dim = 0, .parts = 8}));
  // NxD's interleaved padding: zeros behind each group.
  EXPECT_THAT(share_heads(10, 2, 4, 4).q.units, testing::ElementsAre(0, 1, 2, 3, 4, -1, 5, 6, 7, 8, 9, -1));
  // 16 heads in 8 groups on 3 ranks: three groups each, and one of zeros.
  const HeadShares three = share_heads(16, 8, 4, 3);
  EXPECT_EQ(three.q_heads, 6);
  EXPECT_EQ(three.kv_heads, 3);
  EXPECT_THAT(three.kv.units, testing::ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, -1));
  EXPECT_EQ(three.o.dim, 1);
}

TEST(HeadShares, RefuseGroupsOfDifferentSizes) {
  try {
    share_heads(6, 4, 8, 2);
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.message(),
                testing::HasSubstr("num_attention_heads 6 are not shared evenly by num_key_value_heads 4"));
  }
}

std::int64_t up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// A part of a sum of `columns` in `parts` begins with this group, in every kernel of quantised weights.
std::int64_t first_group(std::int64_t part, std::int64_t columns, std::int64_t parts, std::int64_t group) {
  return up(part * columns, parts * group);
}

TEST(FeatureShares, GiveEveryPartOfASumTheGroupsThatItHasOnOneRank) {
  for (const std::int64_t group : {32, 128})
    for (const int tp : {2, 4, 8})
      for (std::int64_t features = 16; features <= 3000; features += 16) {
        const Sharding cut = share_features(1, features, group, tp);
        if (features % (group * tp) == 0) {
          EXPECT_EQ(cut, (Sharding{.dim = 1, .parts = tp}));
          continue;
        }
        const std::int64_t share = cut.share(features), per_rank = share / group, parts = 8 / tp;
        ASSERT_EQ(share % group, 0);
        ASSERT_TRUE(keeps_groups(cut, features, group)) << features;
        EXPECT_LE(per_rank, up(features, group * tp) + parts - 1) << features << " by " << group << " on " << tp;
        for (int part = 0; part < 8; ++part) {
          const std::int64_t rank = part / parts, local = part % parts;
          std::vector<std::int64_t> expected, found;
          for (auto g = first_group(part, features, 8, group); g < first_group(part + 1, features, 8, group); ++g)
            expected.push_back(g);
          for (auto g = first_group(local, share, parts, group); g < first_group(local + 1, share, parts, group); ++g)
            if (const int unit = cut.units[static_cast<std::size_t>(rank * per_rank + g)]; unit >= 0)
              found.push_back(unit);
          EXPECT_EQ(found, expected) << features << " by " << group << " on " << tp << ", part " << part;
        }
      }
}

TEST(FeatureShares, HaveEveryGroupOnceWhereDegreesDoNotDivideEight) {
  for (const int tp : {3, 5, 6, 7})
    for (const std::int64_t features : {64, 384, 768, 1000}) {
      const Sharding cut = share_features(0, features, 32, tp);
      std::vector<int> units = cut.units;
      if (units.empty()) continue;  // equal runs of whole groups
      std::erase(units, -1);
      std::vector<int> all(static_cast<std::size_t>(up(features, 32)));
      std::iota(all.begin(), all.end(), 0);
      EXPECT_EQ(units, all) << features << " on " << tp;
    }
}

TEST(HeadShares, KeepGroupsWhereHeadsAreWholeOnes) {
  const auto keeps = [](int heads, int kv_heads, int head_dim, int tp, std::int64_t group) {
    return keeps_groups(share_heads(heads, kv_heads, head_dim, tp).o, std::int64_t{heads} * head_dim, group);
  };
  for (int tp = 1; tp <= 16; ++tp) EXPECT_TRUE(keeps(12, 4, 128, tp, 128)) << tp;
  EXPECT_TRUE(keeps(8, 2, 64, 4, 128));   // two heads a rank
  EXPECT_FALSE(keeps(8, 2, 64, 8, 128));  // one
  EXPECT_TRUE(keeps(7, 1, 64, 4, 128));   // the last rank has the last head and a zero
  EXPECT_FALSE(keeps(6, 2, 64, 2, 128));  // three
  EXPECT_FALSE(keeps(4, 4, 20, 2, 32));
  EXPECT_TRUE(keeps(4, 4, 20, 1, 32));
}

}  // namespace
}  // namespace cajal
