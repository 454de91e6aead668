#pragma once
// Attention of decode_persistent, in the class of attention.h. A unit is one row, one kv head (and at most 16 of its heads) and
// one piece of the cache; four warps do it, a block of 64 positions each, whose keys and values come through the ring. Where a
// row has one piece its result is final; else a warp for each row, head and 32 columns merges the pieces.
#include "backends/cuda/kernels/persistent_units.cuh"

namespace cajal::cuda {

// A block of 64 rows in slots: rows 0 to 31 and 32 to 63 at `half`, 16-byte chunks as the copy engine swaps them.
template <int D>
struct Slots {
  static constexpr int kCount = D / 64;  // of a block of keys or of values
  std::uint32_t half[2];
  __device__ std::uint32_t at(int row, int chunk) const {
    return half[row / 32] + chunk / 8 * (kSlotBytes / 2) + row % 32 * 128 + ((chunk ^ row) & 7) * 16;
  }
};

// As block_scores and block_values of attention_block.cuh, for keys and values in slots.
template <int D>
__device__ void scores_in_slots(std::uint32_t q, const Slots<D>& k, float (&s)[kBlock / 8][4]) {
  const int lane = threadIdx.x % 32, matrix = lane / 8, in = lane % 8;
#pragma unroll
  for (int n = 0; n < kBlock / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) s[n][e] = 0;
#pragma unroll
  for (int step = 0; step < D / 16; ++step) {
    std::uint32_t x[4];
    ldmatrix_x4(x, q + row_chunk<D>((matrix & 1) * 8 + in, step * 2 + matrix / 2));
#pragma unroll
    for (int n = 0; n < kBlock / 8; n += 2) {
      std::uint32_t y[4];
      ldmatrix_x4(y, k.at((n + matrix / 2) * 8 + in, step * 2 + (matrix & 1)));
      mma_16816(s[n], x, y[0], y[1]);
      mma_16816(s[n + 1], x, y[2], y[3]);
    }
  }
}
template <int D>
__device__ void values_in_slots(const float (&p)[kBlock / 8][4], const Slots<D>& v, float (&o)[D / 8][4]) {
  const int lane = threadIdx.x % 32, matrix = lane / 8, in = lane % 8;
#pragma unroll
  for (int j = 0; j < D / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) o[j][e] = 0;
#pragma unroll
  for (int step = 0; step < kBlock / 16; ++step) {
    const float(&a)[4] = p[2 * step], (&b)[4] = p[2 * step + 1];
    const std::uint32_t x[4] = {pack_bf16(a[0], a[1]), pack_bf16(a[2], a[3]), pack_bf16(b[0], b[1]),
                                pack_bf16(b[2], b[3])};
#pragma unroll
    for (int j = 0; j < D / 8; j += 2) {
      std::uint32_t y[4];
      ldmatrix_x4_trans(y, v.at(step * 16 + (matrix & 1) * 8 + in, j + matrix / 2));
      mma_16816(o[j], x, y[0], y[1]);
      mma_16816(o[j + 1], x, y[2], y[3]);
    }
  }
}

// What the norm and the rotation of eight elements of a head need besides them.
struct HeadConstants {
  uint4 weight, cosines, sines;
};
template <int D>
__device__ HeadConstants head_constants(const void* weight, const DecodeArgs& a, int row, int sub) {
  const uint4* table = static_cast<const uint4*>(a.table) + row * (D / 8) + sub % (D / 16);
  return {__ldg(static_cast<const uint4*>(weight) + sub), table[0], table[D / 16]};
}

// Norm and rotation of a head whose eight elements from sub * 8 on a lane has; D / 8 neighbouring lanes have the head.
template <int D>
__device__ __forceinline__ uint4 norm_rope(const uint4& raw, const HeadConstants& constants, float epsilon, int sub) {
  float e[8], w[8], cosines[8], sines[8];
  unpack8(raw, e);
  unpack8(constants.weight, w);
  unpack8(constants.cosines, cosines);
  unpack8(constants.sines, sines);
  float squares = add_squares(e, 0);
#pragma unroll
  for (int step = D / 16; step > 0; step /= 2) squares += __shfl_xor_sync(~0u, squares, step);
  const float factor = norm_factor(squares, D, epsilon);
  uint4 out;
  bf16* to = reinterpret_cast<bf16*>(&out);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float mine = rounded<bf16>(normed<bf16>(e[i], factor, w[i]));
    const float other = __shfl_xor_sync(~0u, mine, D / 16);
    to[i] = store<bf16>(rotated<bf16>(mine, cosines[i], other, sub < D / 16 ? -sines[i] : sines[i]));
  }
  return out;
}

template <int D>
class UnitRunner {
 public:
  __device__ UnitRunner(Consumer& c, const Exchange& at, const Phase& phase, const Unit& u)
      : c_(c),
        at_(at),
        layer_(phase.layer),
        l_(phase),
        u_(u),
        team_(c.warp() / kTeamWarps),
        w_(c.warp() % kTeamWarps),
        q_(shared_address(decode_shared().q[team_])) {}

  __device__ void run() {
    const bool there = u_.meets(w_);
    find_patches(there);
    place_queries();
    Slots<D> keys{}, values{};
    int before = 0;
    for (int b = 0; b < w_; ++b) before += u_.meets(b);
    const Cursor k(c_.ring(), c_.position + before * Slots<D>::kCount);
    const Cursor v(c_.ring(), c_.position + (u_.blocks() + before) * Slots<D>::kCount);
    if (there) {
      keys = wait_block(k);
      patch(keys, true);
    }
    sync_some(2 + team_, kTeamThreads);  // queries are there
    if (there) {
      const Span spans[2] = {u_.span, u_.span};
      Partial<D> part;
      float s[kBlock / 8][4];
      scores_in_slots<D>(q_, keys, s);
      release_block(k);
      block_softmax(s, c_.a.scale * kLog2E, u_.piece * kPiece + w_ * kBlock, spans, part.m, part.l);
      values = wait_block(v);
      patch(values, false);
      clear_beyond(values);
      __syncwarp();
      values_in_slots<D>(s, values, part.o);
      release_block(v);
      leave(part, shared_address(c_.x()) + (team_ * kTeamWarps + w_) * unit_heads(c_.a) * D * 4);
    }
    sync_some(2 + team_, kTeamThreads);
    merge_blocks();
    sync_some(2 + team_, kTeamThreads);
  }

 private:
  static constexpr int kHeadLanes = D / 8, kTogether = 32 / kHeadLanes;  // heads that a warp does at once

  __device__ Slots<D> wait_block(Cursor c) const {
    Slots<D> s;
    s.half[0] = wait_full(c_.ring(), c_.known, c);
    if constexpr (D == 128) {
      c.advance(c_.ring(), 1);
      s.half[1] = wait_full(c_.ring(), c_.known, c);
    } else {
      s.half[1] = s.half[0] + kSlotBytes / 2;
    }
    return s;
  }
  // The copy engine writes next to what ordinary stores may have written.
  __device__ void release_block(Cursor c) const {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncwarp();
    if (c_.lane() != 0) return;
    for (int i = 0; i < Slots<D>::kCount; ++i, c.advance(c_.ring(), 1)) release(c_.ring(), c);
  }

  // Rows of this step whose positions lie in the warp's block: the cache does not have them yet.
  __device__ void find_patches(bool there) {
    const int first = u_.piece * kPiece + w_ * kBlock, last = min(first + kBlock, u_.span.end);
    const bool mine = there && c_.lane() < c_.rows &&
                      decode_shared().sequence[c_.lane()] == decode_shared().sequence[u_.row] &&
                      decode_shared().position[c_.lane()] >= first && decode_shared().position[c_.lane()] < last;
    patches_ = __ballot_sync(~0u, mine);
  }
  // The row of the step that this lane's part of the warp patches n-th, or -1.
  __device__ int patch_row(int n) const {
    unsigned mask = patches_;
    for (int i = n * kTogether + c_.lane() / kHeadLanes; i > 0; --i) mask &= mask - 1;
    return __ffs(static_cast<int>(mask)) - 1;
  }
  __device__ const bf16* fresh(int row, bool key) const {
    return at_.qkv(layer_) + static_cast<std::int64_t>(row) * at_.qkv_columns() +
           (c_.a.num_heads + (key ? 0 : c_.a.num_kv_heads) + u_.kv_head) * D + c_.lane() % kHeadLanes * 8;
  }

  // Normed and rotated into shared memory, zeros below them. The first fresh key and value are asked for along with them.
  __device__ void place_queries() {
    const int sub = c_.lane() % kHeadLanes, patch = patch_row(0);
    const HeadConstants constants = head_constants<D>(l_.q_norm, c_.a, u_.row, sub);
    key_constants_ = head_constants<D>(l_.k_norm, c_.a, max(patch, 0), sub);
#pragma unroll 1
    for (int first = 0; first < 16; first += kTeamWarps * kTogether) {
      const int head = first + w_ * kTogether + c_.lane() / kHeadLanes;
      uint4 done{};
      if (first < u_.heads) {
        const bf16* q = at_.qkv(layer_) + static_cast<std::int64_t>(u_.row) * at_.qkv_columns() +
                        (u_.first_head + min(head, u_.heads - 1)) * D + sub * 8;
        uint4 v[3] = {};
        const bf16 *key = fresh(max(patch, 0), true), *value = fresh(max(patch, 0), false);
        poll(v,
             first == 0 && patch >= 0 ? 3
             : head < u_.heads        ? 1
                                      : 0,
             true, [&](int i) { return i == 0   ? q
                                       : i == 1 ? key
                                                : value; });
        __syncwarp();
        if (first == 0) key_ = v[1], value_ = v[2];
        done = norm_rope<D>(v[0], constants, c_.a.epsilon, sub);
        if (head >= u_.heads) done = {0, 0, 0, 0};
      }
      store_shared(q_ + row_chunk<D>(head, sub), done);
    }
  }
  __device__ static void store_shared(std::uint32_t to, const uint4& v) {
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
                 : "memory");
  }

  // Fresh keys or values into the block; those of the unit's own row also into the cache.
  __device__ void patch(const Slots<D>& to, bool key) {
    const int sub = c_.lane() % kHeadLanes;
#pragma unroll 1
    for (int n = 0; n * kTogether < __popc(patches_); ++n) {
      const int row = patch_row(n);
      uint4 v[1] = {key ? key_ : value_};
      if (n > 0) {
        if (key) key_constants_ = head_constants<D>(l_.k_norm, c_.a, max(row, 0), sub);
        poll(v, row >= 0 ? 1 : 0, true, [&](int) { return fresh(row, key); });
        __syncwarp();
      }
      if (key) v[0] = norm_rope<D>(v[0], key_constants_, c_.a.epsilon, sub);
      if (row < 0) continue;
      store_shared(to.at(decode_shared().position[row] % kBlock, sub), v[0]);
      if (row != u_.row || !u_.first_part) continue;
      const int slot = decode_shared().slot[row];
      uint4* cache = static_cast<uint4*>(key ? l_.k_cache : l_.v_cache);
      cache[((static_cast<std::int64_t>(slot / kBlock) * c_.a.num_kv_heads + u_.kv_head) * kBlock + slot % kBlock) *
                kHeadLanes +
            sub] = v[0];
    }
    __syncwarp();
  }
  // What lies beyond the row's end may be anything: its probability is zero, and zero times that must be zero.
  __device__ void clear_beyond(const Slots<D>& values) const {
    const int first = u_.piece * kPiece + w_ * kBlock;
#pragma unroll 1
    for (int i = max(0, u_.span.end - first) * kHeadLanes + c_.lane(); i < kBlock * kHeadLanes; i += 32)
      store_shared(values.at(i / kHeadLanes, i % kHeadLanes), {0, 0, 0, 0});
  }

  // The block's result where activations were.
  __device__ void leave(const Partial<D>& p, std::uint32_t to) {
    if (c_.lane() == 0) decode_shared().results[team_][w_] = to;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = c_.lane() / 4 + h * 8;
      if (row >= u_.heads) continue;
      if (c_.lane() % 4 == 0)
        decode_shared().piece_m[team_][w_][row] = p.m[h], decode_shared().piece_l[team_][w_][row] = p.l[h];
#pragma unroll
      for (int j = 0; j < D / 8; ++j)
        asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to + (row * D + j * 8 + c_.lane() % 4 * 2) * 4),
                     "f"(p.o[j][2 * h]), "f"(p.o[j][2 * h + 1])
                     : "memory");
    }
  }

  __device__ void merge_blocks() {
    const int at = threadIdx.x % kTeamThreads, d = at % D;
#pragma unroll 1
    for (int head = at / D; head < u_.heads; head += kTeamThreads / D) {
      Merged sum;
#pragma unroll
      for (int b = 0; b < kBlocksPerPiece; ++b) {
        if (!u_.meets(b)) continue;
        float o;
        asm volatile("ld.shared.f32 %0, [%1];"
                     : "=f"(o)
                     : "r"(decode_shared().results[team_][b] + (head * D + d) * 4)
                     : "memory");
        sum.add(decode_shared().piece_m[team_][b][head], decode_shared().piece_l[team_][b][head], o);
      }
      const int h = u_.first_head + head;
      if (u_.pieces == 1) {
        Merged total;
        total.add(sum.m, sum.l, sum.o);
        put(at_.attention(layer_) + static_cast<std::int64_t>(u_.row) * at_.attention_columns() + h * D + d,
            total.o / total.l);
        continue;
      }
      const Partials partials(c_.a, layer_);
      put(partials.o_at(u_.row, h, u_.piece) + d, sum.o);
      if (d % 32 == 0) {
        float* ml = partials.ml_at(u_.row, h, d / 32, u_.piece);
        put(ml, sum.m);
        put(ml + 1, sum.l);
      }
    }
  }

  Consumer& c_;
  const Exchange& at_;
  const int layer_;
  const Phase& l_;
  const Unit& u_;
  const int team_, w_;
  const std::uint32_t q_;
  unsigned patches_ = 0;
  uint4 key_{}, value_{};
  HeadConstants key_constants_{};
};

template <int D>
__device__ __forceinline__ void attend(Consumer& c, const Exchange& at, const Phase& phase) {
  if (phase.units.count > 0) sync_consumers();  // nobody reads the activations any more
#pragma unroll 1
  for (int j = 0; j < phase.units.count; ++j) {
    const Unit unit =
        find_unit(c.a, decode_shared(), phase.window, phase.units.first + j * static_cast<int>(gridDim.x));
    if (j % 2 == c.warp() / kTeamWarps) UnitRunner<D>(c, at, phase, unit).run();
    c.position += 2 * unit.blocks() * Slots<D>::kCount;
  }
  const int per_row = c.a.num_heads * (D / 32);
#pragma unroll 1
  for (int j = c.warp(); j < phase.items.count; j += kConsumers) {
    const int item = phase.items.first + j * static_cast<int>(gridDim.x);
    int row = 0;
    while (decode_shared().merged[phase.window][row + 1] <= item / per_row) ++row;
    merge_pieces(c, at, phase, row, item % per_row / (D / 32), item % (D / 32));
  }
}

__device__ inline void copy_rows(const Producer& p, std::uint32_t to, const CUtensorMap& map, int2 at,
                                 std::uint64_t* full) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%2, "
      "%3}], "
      "[%4], %5;" ::"r"(to),
      "l"(&map), "r"(at.x), "r"(at.y), "r"(shared_address(full)), "l"(p.policy)
      : "memory");
}

template <int D>
__device__ void feed_attention(Producer& p, const DecodeArgs& a, const DecodeMaps& maps, const DecodeShared& s,
                               int layer) {
  const int rows = a.tokens.count(), window = a.layers[layer].window;
  const Share units = p.dealer.deal(s.units[window][rows]);
  for (int j = 0; j < units.count; ++j) {
    const Unit u = find_unit(a, s, window, units.first + j * static_cast<int>(gridDim.x));
    const std::int32_t* table = a.block_tables + static_cast<std::int64_t>(s.sequence[u.row]) * a.max_blocks_per_seq +
                                u.piece * kBlocksPerPiece;
#pragma unroll 1
    for (int b = 0; b < 2 * kBlocksPerPiece; ++b) {
      if (!u.meets(b % kBlocksPerPiece)) continue;
      const CUtensorMap& map = b < kBlocksPerPiece ? maps.k[layer] : maps.v[layer];
      const int row = (__ldg(table + b % kBlocksPerPiece) * a.num_kv_heads + u.kv_head) * kBlock;
#pragma unroll 1
      for (int half = 0; half < Slots<D>::kCount; ++half) {
        std::uint32_t slot;
        std::uint64_t* full = p.take(slot, kSlotBytes);
        copy_rows(p, slot, map, {0, row + half * 32}, full);
        copy_rows(p, slot + kSlotBytes / 2, map, D == 128 ? int2{64, row + half * 32} : int2{0, row + 32}, full);
        p.publish();
      }
    }
  }
  p.dealer.deal(s.merged[window][rows] * a.num_heads * (D / 32));
}

}  // namespace cajal::cuda
