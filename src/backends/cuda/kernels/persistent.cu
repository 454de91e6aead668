#include "backends/cuda/kernels/persistent.h"

#include "backends/cuda/kernels/launch.cuh"
#include "backends/cuda/kernels/persistent_attention.cuh"

namespace cajal::cuda {
namespace {

// The linear operations of a step in order: four a layer, then the head.
enum class Kind : std::uint8_t { qkv, o, gate_up, down, head };
__device__ Kind kind_of(const DecodeArgs& a, int step) {
  return step == 4 * a.num_layers ? Kind::head : static_cast<Kind>(step % 4);
}
__device__ Linear linear_of(const DecodeArgs& a, int step) {
  const DecodeLayer& l = a.layers[min(step / 4, a.num_layers - 1)];
  switch (kind_of(a, step)) {
    case Kind::qkv: return make_linear(l.qkv, (a.num_heads + 2 * a.num_kv_heads) * a.head_dim, a.hidden, 1, false);
    case Kind::o: return make_linear(l.o, a.hidden, a.num_heads * a.head_dim, a.o_parts, false);
    case Kind::gate_up: return make_linear(l.gate_up, 2 * a.intermediate, a.hidden, 1, true);
    case Kind::down: return make_linear(l.down, a.hidden, a.intermediate, a.down_parts, false);
    default: return make_linear(a.head, a.vocabulary, a.hidden, 1, false);
  }
}

// What the next step will wait in. The half of this step was cleaned in the step before.
__device__ void clean(const DecodeArgs& a, int half) {
  const std::int64_t count = exchange_layer_elements(a) * a.num_layers / 8;
  uint4* to = reinterpret_cast<uint4*>(a.exchange) + half * count;
  for (std::int64_t i = blockIdx.x * kConsumerThreads + threadIdx.x; i < count; i += gridDim.x * kConsumerThreads)
    to[i] = {~0u, ~0u, ~0u, ~0u};
}

__device__ void load_step(const DecodeArgs& a, DecodeShared& shared) {
  const int i = threadIdx.x;
  if (i < a.tokens.count()) {
    shared.position[i] = a.positions[i];
    shared.sequence[i] = a.seq_indices[i];
    shared.slot[i] = a.slot_mapping[i];
  }
  if (i < a.logits_rows.count()) shared.wanted[i] = a.logits_indices[i];
}

struct Operands {
  Activations in;
  Output out;
};
__device__ Operands operands_of(const DecodeArgs& a, const Exchange& at, const int* wanted, int rows, int step) {
  const int l = min(step / 4, a.num_layers - 1);
  const DecodeLayer& layer = a.layers[l];
  const bf16* x = l == 0 ? static_cast<const bf16*>(a.x) : at.out(l - 1);
  switch (kind_of(a, step)) {
    case Kind::qkv:
      return {{x, a.hidden, rows, l > 0, nullptr, layer.input_norm, a.epsilon},
              {Epilogue::store, at.qkv(l), at.qkv_columns(), layer.qkv_bias, nullptr}};
    case Kind::o:
      return {{at.attention(l), at.attention_columns(), rows, true, nullptr, nullptr, 0},
              {Epilogue::residual, at.middle(l), a.hidden, layer.o_bias, x}};
    case Kind::gate_up:
      return {{at.middle(l), a.hidden, rows, true, nullptr, layer.post_norm, a.epsilon},
              {Epilogue::silu_mul, at.activated(l), a.intermediate, nullptr, nullptr}};
    case Kind::down:
      return {{at.activated(l), a.intermediate, rows, true, nullptr, nullptr, 0},
              {Epilogue::residual, at.out(l), a.hidden, nullptr, at.middle(l)}};
    default:
      return {{at.out(l), a.hidden, rows, true, wanted, a.final_norm, a.epsilon},
              {Epilogue::logits, static_cast<bf16*>(a.logits), a.vocabulary, nullptr, nullptr}};
  }
}

template <int D>
__device__ __forceinline__ void consume(const DecodeArgs& a, const DecodeKernel& k) {
  const int half = *a.serial & 1;
  Consumer c{a, k, a.tokens.count(), half};
  const Exchange at{a, half};
  long long* stamp = a.stamps && threadIdx.x == 0 ? reinterpret_cast<long long*>(a.stamps) +
                                                        blockIdx.x * (a.num_layers * kStampsPerLayer + kStampsBeyond)
                                                  : nullptr;
#pragma unroll 1
  for (int step = 0; step <= 4 * a.num_layers; ++step) {
    const Kind kind = kind_of(a, step);
    if (kind == Kind::head) c.rows = a.logits_rows.count();
    if (kind == Kind::head && c.rows == 0) break;
    const Phase& phase = wait_phase(step);
    if (kind == Kind::o) {
      attend<D>(c, at, phase);
      if (stamp) *stamp++ = clock64();
    }
    run_linear(c, step, phase, stamp);
    if (stamp) stamp[1] = clock64(), stamp += 2;
  }
  clean(a, half ^ 1);
}

// Writes down what consumers will do, a phase ahead of them: by one thread.
__device__ inline void plan_phases(const DecodeArgs& a) {
  DecodeShared& shared = decode_shared();
  const Exchange at{a, *a.serial & 1};
  const int tokens = a.tokens.count();
  Dealer dealer;
#pragma unroll 1
  for (int step = 0; step <= 4 * a.num_layers; ++step) {
    const Kind kind = kind_of(a, step);
    const int rows = kind == Kind::head ? a.logits_rows.count() : tokens;
    if (rows == 0) return;
    volatile int& begun = shared.begun;
    for (Patience patience; begun < step - 1; patience.spend()) __nanosleep(50);
    Phase& phase = shared.phases[step % 2];
    const int layer = min(step / 4, a.num_layers - 1);
    if (kind == Kind::o) {
      const DecodeLayer& l = a.layers[layer];
      phase.units = dealer.deal(shared.units[l.window][tokens]);
      phase.items = dealer.deal(shared.merged[l.window][tokens] * a.num_heads * (a.head_dim / 32));
      phase.layer = layer, phase.window = l.window;
      phase.q_norm = l.q_norm, phase.k_norm = l.k_norm, phase.k_cache = l.k_cache, phase.v_cache = l.v_cache;
    }
    phase.op = linear_of(a, step);
    phase.share = dealer.deal(phase.op.tiles);
    const Operands o = operands_of(a, at, shared.wanted, rows, step);
    phase.in = o.in, phase.out = o.out;
    __threadfence_block();
    *const_cast<volatile int*>(&shared.planned) = step + 1;
  }
}

template <int D>
__device__ __forceinline__ void produce(const DecodeArgs& a, const DecodeMaps& maps, const Ring& ring) {
  DecodeShared& shared = decode_shared();
  Producer p(ring);
  // Small weights, which would else wait behind the large ones when they are needed.
  for (int l = static_cast<int>(blockIdx.x); l < a.num_layers; l += static_cast<int>(gridDim.x)) {
    prefetch(a.layers[l].input_norm, a.hidden * 2), prefetch(a.layers[l].post_norm, a.hidden * 2);
    prefetch(a.layers[l].q_norm, D * 2), prefetch(a.layers[l].k_norm, D * 2);
  }
#pragma unroll 1
  for (int step = 0; step <= 4 * a.num_layers; ++step) {
    const Kind kind = kind_of(a, step);
    if (kind == Kind::o) {
      if (step == 1) wait_or_trap(&shared.ready, 0);
      feed_attention<D>(p, a, maps, shared, step / 4);
    }
    if (kind == Kind::head && a.logits_rows.count() == 0) break;
    p.feed(linear_of(a, step));
  }
}

template <int D>
__global__ void __launch_bounds__(kDecodeThreads, 1)
    decode_kernel(const __grid_constant__ DecodeArgs a, const __grid_constant__ DecodeMaps maps, DecodeKernel k) {
  DecodeShared& shared = decode_shared();
  const Ring ring{k.slots};
  if (threadIdx.x < k.slots) {
    barrier_init(shared.full + threadIdx.x, 1);
    barrier_init(shared.empty + threadIdx.x, 1);
  }
  if (threadIdx.x == 0) {
    barrier_init(&shared.ready, 1);
    shared.filled = shared.planned = shared.begun = 0;
  }
  barrier_fence_init();
  __syncthreads();
  if (threadIdx.x >= kConsumerThreads) {
    if (threadIdx.x == kConsumerThreads) produce<D>(a, maps, ring);
    if (threadIdx.x == kConsumerThreads + 32) {
      wait_or_trap(&shared.ready, 0);
      plan_phases(a);
    }
  } else {
    wait_for_previous();
    load_step(a, shared);
    sync_consumers();
    if (threadIdx.x < kMostWindows) count_units(a, shared, static_cast<int>(threadIdx.x), a.tokens.count());
    sync_consumers();
    if (threadIdx.x == 0) barrier_arrive(&shared.ready);
    consume<D>(a, k);
  }
}

int shared_bytes() {
  static const int most = [] {
    int device = 0, n = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&n, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    return n;
  }();
  return most;
}

// Room for activations: those of the hidden size must fit whole, since they are normed; others go in passes if they are many.
constexpr int kRoom = 100 * 1024 / 2;

DecodeKernel plan(const DecodeArgs& a, int grid, int shared_bytes) {
  const int rows = a.tokens.most, hidden = rows * (a.hidden + 8);
  int widest = a.hidden > a.intermediate ? a.hidden : a.intermediate;
  if (a.num_heads * a.head_dim > widest) widest = a.num_heads * a.head_dim;
  const int all = rows * (widest + 8), least = hidden > kRoom ? hidden : kRoom;
  const int results = 2 * kTeamWarps * unit_heads(a) * a.head_dim * 2;  // of attention, f32
  DecodeKernel k{};
  k.grid = grid;
  k.x_elements = all < least ? all : least;
  if (k.x_elements < results) k.x_elements = results;
  const int rest = shared_bytes - kStateBytes - k.x_elements * 2;
  k.slots = rest / kSlotBytes < kMostSlots ? rest / kSlotBytes : kMostSlots;
  k.shared_bytes = k.slots * kSlotBytes + kStateBytes + k.x_elements * 2;
  return k;
}

}  // namespace

bool decode_persistent_accepts(const DecodeArgs& a) {
  constexpr int kSharedBytes = 227 * 1024;  // of a block on sm_90
  const auto parts = [](int k, int n) { return (n == 1 || n == 2 || n == 4 || n == 8) && k % (32 * n) == 0; };
  const bool sizes = a.tokens.most >= 1 && a.tokens.most <= kMostDecodeRows && a.logits_rows.most <= a.tokens.most &&
                     a.num_layers >= 1 && a.num_layers <= kMostDecodeLayers && a.num_heads % a.num_kv_heads == 0 &&
                     (a.head_dim == 64 || a.head_dim == 128) && a.hidden % 32 == 0 && a.intermediate % 32 == 0 &&
                     a.vocabulary % 16 == 0 && parts(a.num_heads * a.head_dim, a.o_parts) &&
                     parts(a.intermediate, a.down_parts);
  if (!sizes) return false;
  const DecodeKernel k = plan(a, 1, kSharedBytes);
  const auto whole = [&](int columns) { return a.tokens.most * (columns + 8) <= k.x_elements; };
  return k.slots >= kLeastSlots && whole(a.hidden) && (a.o_parts == 1 || whole(a.num_heads * a.head_dim)) &&
         (a.down_parts == 1 || whole(a.intermediate));
}

std::size_t decode_exchange_bytes(const DecodeArgs& a) {
  const auto partials = 2 * sizeof(float) * static_cast<std::size_t>(partial_floats(a));
  return static_cast<std::size_t>(exchange_layer_elements(a)) * 2 * 2 * static_cast<std::size_t>(a.num_layers) +
         partials;
}

bool encode_cache(CUtensorMap& map, const void* cache, int head_dim) {
  using Encode = decltype(&cuTensorMapEncodeTiled);
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult result{};
  if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &result) !=
          cudaSuccess ||
      result != cudaDriverEntryPointSuccess)
    return false;
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(head_dim), cuuint64_t{1} << 31};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(head_dim) * 2};
  const cuuint32_t box[2] = {64, 32}, steps[2] = {1, 1};
  return reinterpret_cast<Encode>(entry)(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<void*>(cache), sizes,
                                         strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                         CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                                         CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

void decode_persistent(const DecodeArgs& args, const DecodeMaps& maps, cudaStream_t stream) {
  DecodeArgs a = args;
  a.exchange_elements = static_cast<std::int32_t>(exchange_layer_elements(a));
  const DecodeKernel k = plan(a, multiprocessors(), shared_bytes());
  const auto kernel = a.head_dim == 64 ? decode_kernel<64> : decode_kernel<128>;
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, k.shared_bytes);
  launch_kernel(kernel, static_cast<unsigned>(k.grid), kDecodeThreads, static_cast<std::size_t>(k.shared_bytes), stream,
                a, maps, k);
}

}  // namespace cajal::cuda
