#include "graph/bucket.h"

#include <gtest/gtest.h>

namespace cajal {
namespace {

constexpr BucketLimits kLimits{.max_num_seqs = 8,
                               .max_model_len = 130,
                               .max_context_length = 100,
                               .prefill_chunk_size = 32,
                               .speculation_length = 4};

TEST(Buckets, HaveTheRowsThatTheirUseNeeds) {
  EXPECT_EQ(bucket_for(GraphKind::context_encoding, kLimits), (Bucket{100, 1, 3, 1}));
  EXPECT_EQ(bucket_for(GraphKind::chunked_prefill, kLimits), (Bucket{32, 1, 3, 1}));
  EXPECT_EQ(bucket_for(GraphKind::token_generation, kLimits), (Bucket{8, 8, 3, 8}));
  EXPECT_EQ(bucket_for(GraphKind::speculation, kLimits), (Bucket{32, 8, 3, 32}));
  EXPECT_EQ(bucket_for(GraphKind::encoding, kLimits), (Bucket{32, 8, 3, 32}));
}

TEST(GraphKinds, ReadTheirOwnNames) {
  for (const auto kind : {GraphKind::context_encoding, GraphKind::chunked_prefill, GraphKind::token_generation,
                          GraphKind::speculation, GraphKind::encoding})
    EXPECT_EQ(graph_kind_from_string(to_string(kind)), kind);
  EXPECT_EQ(graph_kind_from_string("decode"), std::nullopt);
}

}  // namespace
}  // namespace cajal
