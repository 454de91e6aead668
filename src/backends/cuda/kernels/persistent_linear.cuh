#pragma once
// The linear operations of decode_persistent. Weights are the 16 rows of m16n8k16 and tokens its 8 columns (two times 8 for
// more than 8 rows): the class does not mind which operand stands where.
#include "backends/cuda/kernels/persistent_ring.cuh"

namespace cajal::cuda {

// What a consumer thread carries from operation to operation.
struct Consumer {
  const DecodeArgs& a;
  const DecodeKernel& kernel;
  int rows, half;    // half: of the exchange
  int position = 0;  // of the block in its sequence of slots
  Known known{};

  __device__ Ring ring() const { return {kernel.slots}; }
  __device__ bf16* x() const {  // activations in shared memory
    return reinterpret_cast<bf16*>(decode_memory + kStateBytes + kernel.slots * kSlotBytes);
  }
  __device__ static int warp() { return static_cast<int>(threadIdx.x) / 32; }
  __device__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }
};

__device__ inline void put(bf16* to, float v) {
  const bf16 rounded_v = store<bf16>(v);
  asm volatile("st.relaxed.gpu.global.u16 [%0], %1;" ::"l"(to), "h"(*reinterpret_cast<const std::uint16_t*>(&rounded_v))
               : "memory");
}
__device__ inline float get(const bf16* from) {
  std::uint16_t v;
  asm volatile("ld.relaxed.gpu.global.u16 %0, [%1];" : "=h"(v) : "l"(from) : "memory");
  return load(*reinterpret_cast<const bf16*>(&v));
}

__device__ inline void unpack8(const uint4& raw, float (&out)[8]) {
  const bf16* e = reinterpret_cast<const bf16*>(&raw);
#pragma unroll
  for (int i = 0; i < 8; ++i) out[i] = load(e[i]);
}

// Columns begin .. begin + count of all rows.
__device__ inline void stage_plain(const Consumer& c, const Activations& in, int begin, int count) {
  const int groups = count / 8;
  int row = static_cast<int>(threadIdx.x) / groups, group = static_cast<int>(threadIdx.x) % groups;
#pragma unroll 1
  while (row < in.rows) {
    const bf16* from[4] = {};
    bf16* to[4] = {};
    int n = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (row < in.rows) {
        from[i] = in.row(row) + begin + group * 8;
        to[i] = c.x() + row * (count + 8) + group * 8;
        n = i + 1;
        group += kConsumerThreads;
        while (group >= groups) group -= groups, ++row;
      }
    }
    uint4 v[4];
    poll(v, n, in.wait, [&](int i) { return from[i]; });
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (i < n) *reinterpret_cast<uint4*>(to[i]) = v[i];
  }
}

// All rows, normed, kTeam warps a row; the order of sums is rms_norm's: kSumLanes lanes.
template <int kTeam>
__device__ void stage_normed(const Consumer& c, const Activations& in) {
  constexpr int kLanes = kTeam * 32, kSums = 4 / kTeam;
  const int team = c.warp() / kTeam, at = threadIdx.x % kLanes, groups = in.columns / 8;
  const uint4* weight = static_cast<const uint4*>(in.norm);
  uint4 w[4];  // those of the first groups, on their way before the activations are there
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (at + i * kLanes < groups) w[i] = __ldg(weight + at + i * kLanes);
  for (int row = team; row < in.rows; row += kConsumers / kTeam) {
    const bf16* from = in.row(row);
    bf16* to = c.x() + row * (in.columns + 8);
    float sums[kSums] = {};
    for (int first = at; first < groups; first += 4 * kLanes) {
      const int n = min(4, (groups - first + kLanes - 1) / kLanes);
      uint4 v[4];
      poll(v, n, in.wait, [&](int i) { return from + (first + i * kLanes) * 8; });
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (i >= n) continue;
        float e[8];
        unpack8(v[i], e);
        sums[i % kSums] = add_squares(e, sums[i % kSums]);
        *reinterpret_cast<uint4*>(to + (first + i * kLanes) * 8) = v[i];
      }
    }
    float s[4];
    if constexpr (kTeam == 4) {
      sums[0] = warp_sum(sums[0]);
      if (c.lane() == 0) decode_shared().squares[c.warp()] = sums[0];
      sync_some(2 + team, kLanes);
#pragma unroll
      for (int i = 0; i < 4; ++i) s[i] = decode_shared().squares[team * 4 + i];
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) s[i] = warp_sum(sums[i % kSums]);
    }
    const float factor = norm_factor((s[0] + s[1]) + (s[2] + s[3]), in.columns, in.epsilon);
    for (int first = at; first < groups; first += 4 * kLanes) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int g = first + i * kLanes;
        if (g >= groups) continue;
        uint4& there = *reinterpret_cast<uint4*>(to + g * 8);
        float e[8], by[8];
        unpack8(there, e);
        unpack8(first == at ? w[i] : __ldg(weight + g), by);
        uint4 raw;
        bf16* out = reinterpret_cast<bf16*>(&raw);
#pragma unroll
        for (int k = 0; k < 8; ++k) out[k] = store<bf16>(normed<bf16>(e[k], factor, by[k]));
        there = raw;
      }
    }
  }
}

// Part of a task: slots from `first` on, `apart` positions from one to the next.
struct Run {
  Cursor first;
  int apart, length;        // length: of all slots together, in k
  std::uint32_t low, high;  // this lane's addresses of the activations: tokens 0 to 7 and 8 to 15
};
struct Sums {
  float of[2][4];
  Known known;
};

template <bool kTwo>
__device__ __forceinline__ Sums multiply_run(const Ring& ring, const Run& run, Sums sums) {
  const int lane = threadIdx.x % 32;
  const std::uint32_t corner = (lane / 8 & 1) * (kSlotBytes / 2) + lane / 16 * 128 + lane % 8 * 16;
  struct Fragments {
    std::uint32_t w0[4], w1[4], t[4], u[4];
  };
  Cursor cursor = run.first;
  std::uint32_t low = run.low, high = run.high;
  const auto fetch = [&](std::uint32_t at, Fragments& f) {
    ldmatrix_x4(f.w0, at);
    ldmatrix_x4(f.t, low);
    if constexpr (kTwo) ldmatrix_x4(f.u, high);
    ldmatrix_x4(f.w1, at + 256);
    low += 64, high += 64;
  };
  const auto multiply = [&](const Fragments& f) {
    mma_16816(sums.of[0], f.w0, f.t[0], f.t[1]);
    if constexpr (kTwo) mma_16816(sums.of[1], f.w0, f.u[0], f.u[1]);
    mma_16816(sums.of[0], f.w1, f.t[2], f.t[3]);
    if constexpr (kTwo) mma_16816(sums.of[1], f.w1, f.u[2], f.u[3]);
  };
  // The next fragments are on their way while the last are multiplied, from slot to slot. A loop that stays one, since the
  // compiler would put loads just before their use.
  Fragments f;
  std::uint32_t at = wait_full(ring, sums.known, cursor) + corner;
  fetch(at, f);
  for (int left = run.length;; left -= kSlotK) {
#pragma unroll 1
    for (int steps = min(left, kSlotK) / 32 - 1; steps > 0; --steps) {
      Fragments next;
      at += 512;
      fetch(at, next);
      multiply(f);
      f = next;
    }
    if (left <= kSlotK) break;
    const Cursor done = cursor;
    cursor.advance(ring, run.apart);
    Fragments next;
    at = wait_full(ring, sums.known, cursor) + corner;
    fetch(at, next);
    multiply(f);
    f = next;
    __syncwarp();
    if (lane == 0) release(ring, done);
  }
  multiply(f);
  __syncwarp();
  if (lane == 0) release(ring, cursor);
  return sums;
}

// One number of a result. For residual results `previous` is at hand.
__device__ inline void finish(const Output& out, int token, int n, float sum, float previous) {
  if (out.bias) sum = sum + load(static_cast<const bf16*>(out.bias)[n]);
  bf16* to = out.y + static_cast<std::int64_t>(token) * out.columns + n;
  if (out.kind == Epilogue::residual)
    put(to, previous + rounded<bf16>(sum));
  else if (out.kind == Epilogue::logits)
    *to = store<bf16>(sum);
  else
    put(to, sum);
}

__device__ inline void finish_tile(const Consumer& c, const Output& out, int tile, const float (&acc)[2][4],
                                   const float (&previous)[2][4]) {
#pragma unroll
  for (int g = 0; g < 2; ++g)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int token = g * 8 + c.lane() % 4 * 2 + e % 2;
      if (token >= c.rows) continue;
      if (out.kind == Epilogue::silu_mul) {
        if (e < 2)
          put(out.y + token * out.columns + tile * 8 + c.lane() / 4,
              rounded<bf16>(silu(rounded<bf16>(acc[g][e]))) * rounded<bf16>(acc[g][e + 2]));
      } else {
        finish(out, token, tile * 16 + c.lane() / 4 + e / 2 * 8, acc[g][e], previous[g][e]);
      }
    }
}

__device__ inline float sum_parts(const float (*sums)[16][16], int parts, int n, int token) {
  float s[kConsumers];
#pragma unroll
  for (int i = 0; i < kConsumers; ++i) s[i] = i < parts ? sums[i][n][token] : 0.0f;
  if (parts == 2) return s[0] + s[1];
  const float low = (s[0] + s[1]) + (s[2] + s[3]);
  return parts == 4 ? low : low + ((s[4] + s[5]) + (s[6] + s[7]));
}

// The parts of a tile, which neighbouring warps have summed, as a balanced tree; the first warp writes.
__device__ inline void finish_parts(const Consumer& c, const Linear& op, const Output& out, int tile,
                                    const float (&acc)[2][4], float first_previous) {
#pragma unroll
  for (int g = 0; g < 2; ++g)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      decode_shared().sums[c.warp()][c.lane() / 4 + e / 2 * 8][g * 8 + c.lane() % 4 * 2 + e % 2] = acc[g][e];
  const int id = 4 + (c.warp() >> op.shift), first = c.warp() & ~(op.parts - 1);
  sync_some(id, op.parts * 32);
  const int begin = (c.warp() - first) * 32 + c.lane();
  for (int i = begin; i < c.rows * 16; i += op.parts * 32) {
    const int token = i / 16, n = tile * 16 + i % 16;
    float previous = first_previous;
    if (i != begin && out.kind == Epilogue::residual)
      previous = get(out.previous + static_cast<std::int64_t>(token) * out.columns + n);
    finish(out, token, n, sum_parts(decode_shared().sums + first, op.parts, i % 16, token), previous);
  }
  sync_some(id, op.parts * 32);
}

__device__ inline void fetch_previous(const Consumer& c, const Output& out, int tile, float (&previous)[2][4]) {
#pragma unroll
  for (int g = 0; g < 2; ++g)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int token = g * 8 + c.lane() % 4 * 2 + e % 2, n = tile * 16 + c.lane() / 4 + e / 2 * 8;
      previous[g][e] = out.kind == Epilogue::residual && token < c.rows
                           ? get(out.previous + static_cast<std::int64_t>(token) * out.columns + n)
                           : 0.0f;
    }
}

// What the first number that this thread will write for a tile in parts is added to.
__device__ inline float fetch_first_previous(const Consumer& c, const Linear& op, const Output& out, int tile) {
  const int i = (c.warp() & (op.parts - 1)) * 32 + c.lane();
  if (out.kind != Epilogue::residual || i >= c.rows * 16) return 0.0f;
  return get(out.previous + static_cast<std::int64_t>(i / 16) * out.columns + tile * 16 + i % 16);
}

__device__ inline const Phase& wait_phase(int step) {
  volatile int& planned = decode_shared().planned;
  for (Patience patience; planned <= step; patience.spend()) {
  }
  __threadfence_block();
  return decode_shared().phases[step % 2];
}
// Called where all consumers have left the phase before.
__device__ inline void begin_phase(int step) { *const_cast<volatile int*>(&decode_shared().begun) = step; }

// By all consumer threads of the block.
__device__ inline void run_linear(Consumer& c, int step, const Phase& phase, long long* stamp) {
  const Linear& op = phase.op;
  const Activations& in = phase.in;
  const Output& out = phase.out;
  const Share share = phase.share;
  const int tasks = share.count << op.shift;
  if (tasks == 0) {
    sync_consumers();
    if (threadIdx.x == 0) begin_phase(step);
    return;
  }
  const int room = c.kernel.x_elements / c.a.tokens.most - 8;
  const int pass = in.columns <= room ? in.columns : room / kSlotK * kSlotK;
  for (int batch = 0; batch < tasks; batch += kConsumers) {
    const int together = min(kConsumers, tasks - batch), task = batch + c.warp();
    const bool busy = c.warp() < together;
    const int tile = share.first + (task >> op.shift) * static_cast<int>(gridDim.x), part = task & (op.parts - 1);
    float previous[2][4], first_previous = 0;
    Sums sums{};
    const int chunk0 = c.position + batch * op.chunks + c.warp();
    for (int begin = 0; begin < in.columns; begin += pass) {
      if (batch == 0 || pass < in.columns) {
        sync_consumers();  // nobody reads the old activations any more
        if (threadIdx.x == 0) begin_phase(step);
        if (!in.norm)
          stage_plain(c, in, begin, min(pass, in.columns - begin));
        else if (in.rows <= 2)
          stage_normed<4>(c, in);
        else
          stage_normed<1>(c, in);
        sync_consumers();
        if (stamp) *stamp = clock64();
      }
      if (!busy) continue;
      if (begin == 0 && op.parts == 1) fetch_previous(c, out, tile, previous);
      if (begin == 0 && op.parts > 1) first_previous = fetch_first_previous(c, op, out, tile);
      const int width = min(pass, in.columns - begin), stride = width + 8;
      const auto lane_address = [&](int token) {
        return shared_address(c.x() + max(min(token, in.rows - 1), 0) * stride + part * op.part_k + c.lane() / 8 * 8);
      };
      const Run run{Cursor(c.ring(), chunk0 + begin / kSlotK * together), together, op.parts > 1 ? op.part_k : width,
                    lane_address(c.lane() % 8), lane_address(c.lane() % 8 + 8)};
      sums.known = c.known;
      sums = c.rows > 8 ? multiply_run<true>(c.ring(), run, sums) : multiply_run<false>(c.ring(), run, sums);
      c.known = sums.known;
    }
    if (!busy) continue;
    if (op.parts == 1)
      finish_tile(c, out, tile, sums.of, previous);
    else
      finish_parts(c, op, out, tile, sums.of, first_previous);
  }
  c.position += tasks * op.chunks;
}

// The other side: by one thread.
struct Producer {
  Ring ring;
  std::uint64_t policy;  // what is read once a step should leave the cache first
  Cursor cursor;
  Dealer dealer{};

  __device__ explicit Producer(const Ring& r) : ring(r), cursor(r, 0) {
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  }

  __device__ std::uint64_t* take(std::uint32_t& slot, std::uint32_t bytes) {
    if (cursor.round > 0) wait_or_trap(ring.empty(cursor.slot), (cursor.round - 1) & 1);
    std::uint64_t* full = ring.full(cursor.slot);
    barrier_expect(full, bytes);
    slot = ring.slot(cursor.slot);
    cursor.advance(ring, 1);
    return full;
  }
  __device__ void publish() { ring.filled() = cursor.position; }

  __device__ void copy(std::uint32_t to, const bf16* from, std::uint32_t bytes, std::uint64_t* full) const {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::
            "r"(to),
        "l"(from), "r"(bytes), "r"(shared_address(full)), "l"(policy)
        : "memory");
  }

  __device__ void feed(const Linear& op) {
    const Share share = dealer.deal(op.tiles);
    const int tasks = share.count * op.parts;
    for (int batch = 0; batch < tasks; batch += kConsumers) {
      const int together = min(kConsumers, tasks - batch);
      for (int chunk = 0; chunk < op.chunks; ++chunk)
        for (int w = 0; w < together; ++w) {
          const int task = batch + w, tile = share.first + (task >> op.shift) * static_cast<int>(gridDim.x);
          const int k = (task & (op.parts - 1)) * op.part_k + chunk * kSlotK;
          const auto bytes = static_cast<std::uint32_t>(op.length(chunk)) * 16;
          const bf16* from = op.weight + (static_cast<std::int64_t>(tile) * op.step * op.in_features + k) * 8;
          std::uint32_t slot;
          std::uint64_t* full = take(slot, 2 * bytes);
          copy(slot, from, bytes, full);
          copy(slot + kSlotBytes / 2, from + static_cast<std::int64_t>(op.second) * op.in_features * 8, bytes, full);
          publish();
        }
    }
  }
};

__device__ inline void prefetch(const void* from, int bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
}

}  // namespace cajal::cuda
