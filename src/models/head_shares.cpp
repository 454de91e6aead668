#include "models/head_shares.h"

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"

namespace cajal {

HeadShares share_heads(int num_heads, int num_kv_heads, int head_dim, int tp) {
  if (num_heads < 1 || num_kv_heads < 1 || num_heads % num_kv_heads != 0)
    fail(ErrorCode::invalid_argument, "num_attention_heads ", num_heads,
         " are not shared evenly by num_key_value_heads ", num_kv_heads);
  CAJAL_CHECK(tp >= 1 && head_dim >= 1);
  const int group = num_heads / num_kv_heads;       // q heads of a kv head
  const int kv_heads = ceil_div(num_kv_heads, tp);  // on a rank
  const int copies = kv_heads * tp / num_kv_heads;  // of each kv head
  const int q_of_copy = ceil_div(group, copies);
  const int chunks = ceil_div(group, q_of_copy);  // of a group that have q heads at all
  HeadShares shares{.q_heads = std::int64_t{kv_heads} * q_of_copy, .kv_heads = kv_heads, .q = {}, .kv = {}, .o = {}};
  shares.q = {.dim = 0, .parts = tp, .unit = head_dim};
  shares.kv = shares.q;
  bool plain_q = true;
  for (int place = 0; place < kv_heads * tp; ++place) {
    const int kv = place / copies, chunk = place % copies;
    const bool used = kv < num_kv_heads && chunk < chunks;
    shares.kv.units.push_back(kv < num_kv_heads ? kv : -1);
    for (int i = 0; i < q_of_copy; ++i) {
      const int in_group = chunk * q_of_copy + i;
      const int q = used && in_group < group ? kv * group + in_group : -1;
      plain_q = plain_q && q == static_cast<int>(shares.q.units.size());
      shares.q.units.push_back(q);
    }
  }
  if (plain_q && static_cast<int>(shares.q.units.size()) == num_heads) shares.q = {.dim = 0, .parts = tp};
  if (copies == 1 && kv_heads * tp == num_kv_heads) shares.kv = {.dim = 0, .parts = tp};
  if (kv_heads == 1 && copies * num_kv_heads == tp) shares.kv = {.dim = 0, .parts = num_kv_heads};
  shares.o = shares.q;
  shares.o.dim = 1;
  return shares;
}

}  // namespace cajal
