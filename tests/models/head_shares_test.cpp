#include "models/head_shares.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/checked.h"
#include "base/error.h"

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

}  // namespace
}  // namespace cajal
