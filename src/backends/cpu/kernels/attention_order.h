#pragma once
// The order in which a row's attention is summed. It belongs to the row alone: boundaries are absolute positions, so who
// else is in the step, how rows are tiled and which thread does what cannot change a bit.
//
//   scores     q.k in f32, times scale. bf16: k in pairs, the odd one first, denormals flushed, as vdpbf16ps does; f32:
//              ascending. One fused multiply-add each.
//   a chunk    kChunk positions, in pieces of kPiece: m = max(m, scores); l = l * a + sum_tree(p), o = o * a, then the
//              values, where p = exp(score - m), a = exp(m before - m). bf16: p is rounded to bf16 before it is added, so that
//              what values are weighed with sums up to l; a p that is denormal is zero.
//   values     f32: o = fma(p, v, o) by ascending position.
//              bf16: pairs of the absolute positions 2i and 2i+1 by ascending i, of each that the row sees something of:
//              o = fma(p[2i+1], v[2i+1], o), then o = fma(p[2i], v[2i], o), denormals flushed, as vdpbf16ps does. Of a
//              position that the row does not see both p and v are zero. A denormal a is zero for o (not for l).
//   a row      its chunks by themselves, merged in ascending order: l = l1 * a1 + l2 * a2, o = fma(o2, a2, o1 * a1).
//   the end    o * (1 / l), rounded.
// A cache in 8 bits (kv_int8.h) meets queries that are rounded to 8 bits in the same way, each vector by itself:
//   scores     f32(the integers' product) * (scale of q * scale of k), times scale;
//   values     o = fma(p * scale of v, f32(integer), o); the sum l is of p alone.
// Machines with AMX have an order of their own for bf16, a chunk at a time, made of what a tile instruction does: numbers are multiplied in blocks
// of 32 from the first one on; in a block the even ones and the odd ones are two sums from zero, of fused multiply-adds in ascending order;
// both are added, and then that to the sum; denormals flushed.
//   scores     q.k so, over the elements of a head, times scale.
//   a chunk    m = max(scores), p = exp(score - m) rounded to bf16, a denormal one zero; l: term j into number j % kPiece of as
//              many sums, and sum_tree() of these; o: p.v so, over the chunk's positions.
//   a row      as above. The end: (o + 0) * (1 / l), so that blocks which a row sees nothing of cannot turn the sign of a zero.
// Positions that the row does not see take no part; their slots may hold anything.
//
// "Denormals flushed": an operand or a result that is denormal is a zero of its sign. A result counts as denormal by what it
// would round to if exponents had no end, as with the processor's flag for flushing.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace cajal::cpu {

constexpr std::int64_t kPiece = 64;
constexpr std::int64_t kChunk = 512;

inline float flushed(float f) { return std::fabs(f) < std::numeric_limits<float>::min() ? std::copysign(0.0f, f) : f; }

// The positions begin..end-1.
struct Span {
  std::int64_t begin, end;
  bool empty() const { return begin >= end; }
};

inline Span visible(std::int64_t position, std::int64_t sliding_window) {
  return {sliding_window > 0 ? std::max<std::int64_t>(0, position - sliding_window + 1) : 0, position + 1};
}
inline Span overlap(Span a, Span b) { return {std::max(a.begin, b.begin), std::min(a.end, b.end)}; }

}  // namespace cajal::cpu
