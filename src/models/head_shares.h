#pragma once
// How the heads of grouped-query attention are shared out, for every number of heads, kv heads and ranks.
#include <cstdint>

#include "graph/op.h"

namespace cajal {

// What each rank has: as many kv heads, and as many q heads for each of them, as every other. Some may be zeros, which
// change no result: the columns of o_proj that they meet are zeros too.
struct HeadShares {
  std::int64_t q_heads = 0, kv_heads = 0;  // on a rank
  Sharding q, kv;                          // of the rows of q_proj, and of k_proj and v_proj
  Sharding o;                              // of the columns of o_proj
};

// A rank has the fewest kv heads that are possible, ceil(num_kv_heads / tp), since the cache is what grows. Where that
// leaves ranks over, the q heads of a kv head go to several ranks, each with a copy of it, as evenly as they can.
//
// Where tp divides the kv heads this is a plain cut, and where it is a multiple of them NxD's REPLICATE_TO_TP_DEGREE:
// copies of kv heads, and zeros at the end of each group of q heads. Elsewhere NxD's CONVERT_TO_MHA gives every q head a
// kv head of its own; this never takes more memory than that, in weights or in cache (tests/models/head_shares_test.cpp).
// Error(invalid_argument) if num_kv_heads does not divide num_heads.
HeadShares share_heads(int num_heads, int num_kv_heads, int head_dim, int tp);

}  // namespace cajal
