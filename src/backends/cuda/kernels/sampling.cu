#include "backends/cuda/kernels/sampling.h"

#include <cooperative_groups.h>

#include "backends/cuda/kernels/device.cuh"
#include "backends/cuda/kernels/launch.cuh"

namespace cajal::cuda {
namespace {

constexpr int kThreads = 512, kWarps = kThreads / 32, kPerLoad = 8;
constexpr int kClusterBlocks = 8;  // that share a row, on sm_90
// Tokens by how far they are below the largest: those in the last bin weigh nothing.
constexpr int kBins = 2048, kBinsPerNat = 64, kBinsPerThread = kBins / kThreads;
constexpr int kMostCandidates = 2048, kCandidatesPerThread = kMostCandidates / kThreads;

// A token in the order of likelihood, the lower id first among equals: the larger, the sooner.
using Rank = unsigned long long;
__device__ Rank rank_of(float value, std::int32_t id) {
  const std::uint32_t bits = __float_as_uint(value + 0.0f);  // -0 is 0
  const std::uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return static_cast<Rank>(ordered) << 32 | ~static_cast<std::uint32_t>(id);
}
__device__ std::int32_t id_of(Rank rank) { return static_cast<std::int32_t>(~static_cast<std::uint32_t>(rank)); }
__device__ float value_of(Rank rank) {
  const auto ordered = static_cast<std::uint32_t>(rank >> 32);
  return __uint_as_float(ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered);
}

struct Draw {
  double score;
  std::int32_t id;  // -1: none
};

struct Shared {
  Rank best;  // of this block's tokens
  int not_finite;
  Draw draw;
  unsigned long long sum;  // of weights
  int last_bin;            // the last that holds candidates, or kBins
  int num_candidates, kept;
  Rank warp_ranks[kWarps];
  int warp_flags[kWarps];
  Draw warp_draws[kWarps];
  unsigned long long warp_sums[kWarps];
  unsigned counts[kBins];
  unsigned long long weights[kBins];
  Rank candidates[kMostCandidates];
};

// The blocks that work on one row.
template <int kBlocks>
struct Team {
  static __device__ int rank() { return static_cast<int>(blockIdx.x) % kBlocks; }
  static __device__ void sync() {
#if __CUDA_ARCH__ >= 900
    if constexpr (kBlocks > 1) {
      cooperative_groups::this_cluster().sync();
      return;
    }
#endif
    __syncthreads();
  }
  static __device__ Shared& of(Shared& mine, int rank) {
#if __CUDA_ARCH__ >= 900
    if constexpr (kBlocks > 1) return *cooperative_groups::this_cluster().map_shared_rank(&mine, rank);
#endif
    return mine;
  }
};

template <class T>
struct Row {
  const T* logits;
  std::int32_t begin, end;  // this block's tokens
  float temperature;

  __device__ float value(float logit) const { return temperature == 1.0f ? logit : logit / temperature; }
  // body(eight values, the id of the first, how many of them there are)
  template <class Body>
  __device__ void for_each_eight(const Body& body) const {
    for (std::int32_t i = begin + static_cast<std::int32_t>(threadIdx.x) * kPerLoad; i < end;
         i += kThreads * kPerLoad) {
      float x[kPerLoad];
      load8(logits + i, end - i, x);
      body(x, i, min(kPerLoad, end - i));
    }
  }
  template <class Body>
  __device__ void for_each(const Body& body) const {
    for_each_eight([&](const float(&x)[kPerLoad], std::int32_t first, int n) {
#pragma unroll
      for (int j = 0; j < kPerLoad; ++j)
        if (j < n) body(x[j], first + j);
    });
  }
};

__device__ int lane() { return static_cast<int>(threadIdx.x) % 32; }
__device__ int warp() { return static_cast<int>(threadIdx.x) / 32; }

// Sums over the block, by thread: of those in front. `all` is that of all.
__device__ unsigned long long sum_before(unsigned long long mine, unsigned long long* warp_sums,
                                         unsigned long long& all) {
  unsigned long long through = mine;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const unsigned long long other = __shfl_up_sync(~0u, through, step);
    if (lane() >= step) through += other;
  }
  __syncthreads();
  if (lane() == 31) warp_sums[warp()] = through;
  __syncthreads();
  unsigned long long before = through - mine;
  all = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    if (w < warp()) before += warp_sums[w];
    all += warp_sums[w];
  }
  return before;
}

__device__ Draw better(const Draw& a, const Draw& b, std::int32_t argmax) {
  if (b.id < 0 || (a.id >= 0 && a.score > b.score)) return a;
  if (a.id < 0 || b.score > a.score) return b;
  if (a.id == argmax || b.id == argmax) return a.id == argmax ? a : b;
  return a.id < b.id ? a : b;
}
// The block's best, in shared.draw.
__device__ void reduce_draws(Draw mine, std::int32_t argmax, Shared& shared) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    const Draw other{__shfl_xor_sync(~0u, mine.score, step), __shfl_xor_sync(~0u, mine.id, step)};
    mine = better(mine, other, argmax);
  }
  if (lane() == 0) shared.warp_draws[warp()] = mine;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int w = 1; w < kWarps; ++w) mine = better(mine, shared.warp_draws[w], argmax);
    shared.draw = mine;
  }
  __syncthreads();
}

__device__ double score_of(float value, std::int32_t id, const DrawKey& key) {
  const PhiloxBlock block = key.bits(static_cast<std::uint32_t>(id) / 4);
  return static_cast<double>(value) + gumbel_of(block.words[id % 4]);
}

// Of all tokens, without filters. Ends with the team's best in every thread of block 0.
template <int kBlocks, class T>
__device__ Draw draw_from_all(const Row<T>& row, Rank largest, const DrawKey& key, Shared& shared) {
  constexpr double kMaxGumbel = 22.9;  // above every sample
  const std::int32_t argmax = id_of(largest);
  Draw best{score_of(value_of(largest), argmax, key), argmax};
  row.for_each_eight([&](const float(&x)[kPerLoad], std::int32_t first, int n) {
#pragma unroll
    for (int half = 0; half < kPerLoad; half += 4) {
      float v[4];
      bool any = false;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        v[j] = row.value(x[half + j]);
        any |= half + j<n&& static_cast<double>(v[j]) + kMaxGumbel> best.score;
      }
      if (!any) continue;
      const PhiloxBlock block = key.bits(static_cast<std::uint32_t>(first + half) / 4);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (half + j >= n || !(static_cast<double>(v[j]) + kMaxGumbel > best.score)) continue;
        best = better(best, {static_cast<double>(v[j]) + gumbel_of(block.words[j]), first + half + j}, argmax);
      }
    }
  });
  reduce_draws(best, argmax, shared);
  Team<kBlocks>::sync();
  if (Team<kBlocks>::rank() == 0)
    for (int b = 0; b < kBlocks; ++b) best = better(best, Team<kBlocks>::of(shared, b).draw, argmax);
  return best;
}

__device__ int bin_of(float largest, float value) {
  return static_cast<int>(fminf((largest - value) * kBinsPerNat, static_cast<float>(kBins - 1)));
}

// Candidates of the row, all that are at least as likely as the last one that is wanted, sorted in block 0's memory.
struct Wanted {
  std::int32_t count;  // so many of the most likely, ties of the last included; 0: by top_p
  double top_p;
  float least;  // or simply those of at least this value, where count is 0 and top_p is 1
  __device__ bool by_bins() const { return count > 0 || top_p < 1; }
};

// Block 0 finds the last bin; `total` of all weights is only known if they were counted.
template <int kBlocks>
__device__ void find_last_bin(const Wanted& wanted, Shared& shared) {
  unsigned long long own[kBinsPerThread], sum = 0;
#pragma unroll
  for (int i = 0; i < kBinsPerThread; ++i) {
    const int bin = static_cast<int>(threadIdx.x) * kBinsPerThread + i;
    own[i] = 0;
    for (int b = 0; b < kBlocks; ++b) {
      const Shared& of = Team<kBlocks>::of(shared, b);
      own[i] += wanted.count > 0 ? of.counts[bin] : of.weights[bin];
    }
    sum += own[i];
  }
  unsigned long long total = 0, before = sum_before(sum, shared.warp_sums, total);
  if (threadIdx.x == 0) shared.last_bin = kBins, shared.sum = total;
  __syncthreads();
  const auto wants_more = [&](unsigned long long through) {
    return wanted.count > 0 ? through < static_cast<unsigned long long>(wanted.count)
                            : top_p_keeps(through, wanted.top_p, total);
  };
#pragma unroll
  for (int i = 0; i < kBinsPerThread; ++i) {
    const unsigned long long through = before + own[i];
    if (wants_more(before) && !wants_more(through))
      shared.last_bin = static_cast<int>(threadIdx.x) * kBinsPerThread + i;
    before = through;
  }
  __syncthreads();
}

__device__ void sort_candidates(Shared& shared) {
  int size = 1;
  while (size < shared.num_candidates) size *= 2;
  for (int i = static_cast<int>(threadIdx.x); i < size; i += kThreads)
    if (i >= shared.num_candidates) shared.candidates[i] = 0;
  __syncthreads();
  for (int run = 2; run <= size; run *= 2)
    for (int step = run / 2; step > 0; step /= 2) {
      for (int i = static_cast<int>(threadIdx.x); i < size; i += kThreads) {
        const int other = i ^ step;
        if (other <= i) continue;
        const Rank a = shared.candidates[i], b = shared.candidates[other];
        const bool descending = (i & run) == 0;
        if (descending ? a < b : a > b) shared.candidates[i] = b, shared.candidates[other] = a;
      }
      __syncthreads();
    }
}

// False if there are more than fit, and then block 0 alone knows it. Every block of the team comes here.
template <int kBlocks, class T>
__device__ bool find_candidates(const Row<T>& row, float largest, const Wanted& wanted, Shared& shared) {
  using Blocks = Team<kBlocks>;
  for (int i = static_cast<int>(threadIdx.x); i < kBins; i += kThreads) shared.counts[i] = 0, shared.weights[i] = 0;
  if (threadIdx.x == 0) shared.num_candidates = 0, shared.last_bin = kBins - 1;
  __syncthreads();
  if (wanted.by_bins()) {
    row.for_each([&](float logit, std::int32_t) {
      const float value = row.value(logit);
      const int bin = bin_of(largest, value);
      if (bin == kBins - 1) return;
      if (wanted.count > 0)
        atomicAdd(&shared.counts[bin], 1u);
      else
        atomicAdd(&shared.weights[bin], static_cast<unsigned long long>(
                                            exp_weight(static_cast<double>(value) - static_cast<double>(largest))));
    });
    Blocks::sync();
    if (Blocks::rank() == 0) find_last_bin<kBlocks>(wanted, shared);
  }
  Blocks::sync();
  Shared& first = Blocks::of(shared, 0);
  const int last_bin = first.last_bin;
  if (last_bin < kBins)
    row.for_each([&](float logit, std::int32_t id) {
      const float value = row.value(logit);
      if (wanted.by_bins() ? bin_of(largest, value) > last_bin : value < wanted.least) return;
      const int at = atomicAdd(&first.num_candidates, 1);
      if (at < kMostCandidates) first.candidates[at] = rank_of(value, id);
    });
  Blocks::sync();
  if (Blocks::rank() != 0) return true;
  if (last_bin == kBins || shared.num_candidates > kMostCandidates) return false;
  sort_candidates(shared);
  return true;
}

// Of `n` sorted candidates those in front that `keeps`: they are one run. In every thread.
template <class Keeps>
__device__ int count_kept(int n, const Keeps& keeps, Shared& shared) {
  if (threadIdx.x == 0) shared.kept = 0;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads)
    if (keeps(i)) atomicMax(&shared.kept, i + 1);
  __syncthreads();
  const int kept = shared.kept;
  __syncthreads();  // everybody has it, before it changes
  return kept;
}

// Block 0 draws from the sorted candidates what the filters leave. `all_weights` counts without top-k.
__device__ Draw draw_from_candidates(const RowSampling& s, bool has_top_k, float largest, Shared& shared) {
  const auto value = [&](int i) { return value_of(shared.candidates[i]); };
  const std::int32_t argmax = id_of(shared.candidates[0]);
  const unsigned long long all_weights = shared.sum;
  int n = shared.num_candidates;
  if (has_top_k && s.top_k < n) {
    const float kth = value(s.top_k - 1);
    n = count_kept(
        n, [&](int i) { return value(i) >= kth; }, shared);
  }
  if (s.top_p < 1) {
    unsigned long long own[kCandidatesPerThread], sum = 0, total = 0;
#pragma unroll
    for (int i = 0; i < kCandidatesPerThread; ++i) {
      const int at = static_cast<int>(threadIdx.x) * kCandidatesPerThread + i;
      own[i] = at < n ? exp_weight(static_cast<double>(value(at)) - static_cast<double>(largest)) : 0;
      sum += own[i];
    }
    unsigned long long before = sum_before(sum, shared.warp_sums, total);
    if (!has_top_k) total = all_weights;
    if (threadIdx.x == 0) shared.kept = 1;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kCandidatesPerThread; ++i) {
      const int at = static_cast<int>(threadIdx.x) * kCandidatesPerThread + i;
      if (at < n && top_p_keeps(before, s.top_p, total)) atomicMax(&shared.kept, at + 1);
      before += own[i];
    }
    __syncthreads();
    n = shared.kept;
    __syncthreads();
  }
  const double least = static_cast<double>(largest) + s.log_min_p;
  n = count_kept(
      n, [&](int i) { return !(static_cast<double>(value(i)) < least); }, shared);
  Draw best{0, -1};
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) {
    const std::int32_t id = id_of(shared.candidates[i]);
    best = better(best, {score_of(value(i), id, s.key), id}, argmax);
  }
  reduce_draws(best, argmax, shared);
  return shared.draw;
}

// The team's largest logit, or 0 if one is not finite.
template <int kBlocks, class T>
__device__ Rank find_largest(const Row<T>& row, Shared& shared) {
  Rank best = 0;
  bool not_finite = false;
  row.for_each([&](float logit, std::int32_t id) {
    not_finite |= !isfinite(logit);
    best = max(best, rank_of(logit, id));
  });
#pragma unroll
  for (int step = 16; step > 0; step /= 2) best = max(best, __shfl_xor_sync(~0u, best, step));
  const int any = __any_sync(~0u, not_finite);
  if (lane() == 0) shared.warp_ranks[warp()] = best, shared.warp_flags[warp()] = any;
  __syncthreads();
  if (threadIdx.x == 0) {
    int flags = 0;
    for (int w = 0; w < kWarps; ++w) best = max(best, shared.warp_ranks[w]), flags |= shared.warp_flags[w];
    shared.best = best, shared.not_finite = flags;
  }
  Team<kBlocks>::sync();
  int flags = 0;
  for (int b = 0; b < kBlocks; ++b) {
    const Shared& of = Team<kBlocks>::of(shared, b);
    best = max(best, of.best), flags |= of.not_finite;
  }
  return flags ? 0 : best;
}

template <int kBlocks, class T>
__device__ unsigned long long sum_weights(const Row<T>& row, float largest, Shared& shared) {
  unsigned long long sum = 0, all = 0;
  row.for_each(
      [&](float logit, std::int32_t) { sum += exp_weight(static_cast<double>(logit) - static_cast<double>(largest)); });
  sum_before(sum, shared.warp_sums, all);
  if (threadIdx.x == 0) shared.sum = all;
  Team<kBlocks>::sync();
  all = 0;
  if (Team<kBlocks>::rank() == 0)
    for (int b = 0; b < kBlocks; ++b) all += Team<kBlocks>::of(shared, b).sum;
  Team<kBlocks>::sync();  // others read it, before it changes
  return all;
}

// What the team of one row does; the choice is made in block 0.
template <int kBlocks, class T>
__device__ void choose(const Row<T>& raw, std::int32_t vocab_size, const RowSampling& s, RowChoice& choice,
                       Shared& shared) {
  const bool leads = Team<kBlocks>::rank() == 0;
  const Rank best = find_largest<kBlocks>(raw, shared);
  choice.status = best == 0 ? ChoiceStatus::not_finite : ChoiceStatus::chosen;
  if (best == 0) return;
  choice.token_id = id_of(best), choice.largest = value_of(best);
  if (s.num_logprobs >= 0) choice.sum_of_weights = sum_weights<kBlocks>(raw, choice.largest, shared);
  if (s.num_logprobs > 0) {
    const Wanted wanted{min(s.num_logprobs, vocab_size), 1, 0};
    if (!find_candidates<kBlocks>(raw, choice.largest, wanted, shared)) choice.status = ChoiceStatus::on_host;
    choice.num_top = min(wanted.count, kMostTopLogprobs);
    if (leads && choice.status == ChoiceStatus::chosen)
      for (int i = 0; i < choice.num_top; ++i) {
        choice.top_ids[i] = id_of(shared.candidates[i]), choice.top_logits[i] = value_of(shared.candidates[i]);
      }
    Team<kBlocks>::sync();
  }
  if (s.how == ChooseHow::greedy) return;
  Row<T> row = raw;
  row.temperature = s.temperature;
  const float largest = row.value(choice.largest);
  const bool has_top_k = s.top_k > 0 && s.top_k<vocab_size, has_min_p = s.log_min_p> - 1e300;
  if (!has_top_k && !(s.top_p < 1) && !has_min_p) {
    choice.token_id = draw_from_all<kBlocks>(row, rank_of(largest, choice.token_id), s.key, shared).id;
    return;
  }
  // As few as are certain to hold all that are kept; what min-p removes is found exactly later.
  const float least = static_cast<float>(static_cast<double>(largest) + s.log_min_p);
  const Wanted wanted{has_top_k ? s.top_k : 0, s.top_p, nextafterf(least, -INFINITY)};
  if (!find_candidates<kBlocks>(row, largest, wanted, shared)) choice.status = ChoiceStatus::on_host;
  if (leads && choice.status == ChoiceStatus::chosen)
    choice.token_id = draw_from_candidates(s, has_top_k, largest, shared).id;
}

template <class T, int kBlocks>
__global__ void __launch_bounds__(kThreads) choose_kernel(ChooseArgs a) {
  __shared__ Shared shared;
  const auto index = static_cast<std::int32_t>(blockIdx.x) / kBlocks;
  // The host wrote it before the step began. All of a team take the same path.
  const RowSampling s = a.sampling[index];
  follow_previous();
  if (index >= a.rows.count()) return;
  RowChoice choice;
  if (s.how != ChooseHow::on_host) {
    const std::int32_t per_block = (a.vocab_size + kBlocks * kPerLoad - 1) / (kBlocks * kPerLoad) * kPerLoad;
    const std::int32_t begin = min(a.vocab_size, Team<kBlocks>::rank() * per_block);
    const T* logits = static_cast<const T*>(a.logits) + static_cast<std::int64_t>(index) * a.vocab_size;
    choose<kBlocks>(Row<T>{logits, begin, min(a.vocab_size, begin + per_block), 1.0f}, a.vocab_size, s, choice, shared);
    choice.logit = load(logits[choice.token_id]);
  }
  if (Team<kBlocks>::rank() == 0 && threadIdx.x == 0) a.choices[index] = choice;
  Team<kBlocks>::sync();  // nobody leaves while others look at its memory
}

}  // namespace

void choose_tokens(const ChooseArgs& a, int sm, cudaStream_t stream) {
  cudaLaunchAttribute attributes[2]{};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {kClusterBlocks, 1, 1};
  const int blocks = sm == 90 ? kClusterBlocks : 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(a.rows.most * blocks)), config.blockDim = dim3(kThreads);
  config.stream = stream;
  config.attrs = attributes;
  with_element(a.element, [&](auto zero) {
    using T = decltype(zero);
    const auto kernel = sm == 90 ? choose_kernel<T, kClusterBlocks> : choose_kernel<T, 1>;
    config.numAttrs = sm == 90 ? 2 : may_overlap(reinterpret_cast<const void*>(kernel)) ? 1 : 0;
    cudaLaunchKernelEx(&config, kernel, a);
  });
}

}  // namespace cajal::cuda
