#pragma once
// The sketch of a head's weight: from fewer bytes than the head has, which tokens could have the largest logits.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "backends/backend.h"
#include "backends/cpu/kernels/sketch.h"
#include "base/thread_pool.h"
#include "tensor/tensor.h"

namespace cajal::cpu {

class HeadSketch {
 public:
  // What the environment variable CAJAL_HEAD_SKETCH=on|off says; a word that it does not know is Error(invalid_argument).
  static bool wanted();
  // Of heads that pay for it: matrices of at least 8 bits a weight, too large for a cache, on a processor that can.
  static bool pays_for(const TensorType& head, std::uint32_t isa);
  static SketchLayout layout_of(const TensorType& head);

  // `memory` has layout_of(head).bytes(), of which none is touched before make().
  HeadSketch(const TensorType& head, std::unique_ptr<Buffer> memory);

  const SketchLayout& layout() const { return layout_; }
  bool made() const { return made_; }
  // Of the head's weight, as stored.
  void make(const std::byte* weight, ThreadPool& pool);

  // What bound() reads.
  ThreadPool::Upcoming upcoming() const { return {bytes(), layout_.tiles(), layout_.tile_bytes()}; }
  // Of all tiles, for each input.
  void bound(const SketchInput* inputs, int num_inputs, const SketchBounds* bounds, ThreadPool& pool) const;
  // Bounds of one input that are not below the threshold become lower where they can.
  void refine(const SketchInput& input, float threshold, const SketchBounds& bounds, ThreadPool& pool) const;

 private:
  const std::byte* bytes() const { return memory_->host_view().data(); }

  TensorType head_;
  SketchLayout layout_;
  std::unique_ptr<Buffer> memory_;
  bool made_ = false;
};

}  // namespace cajal::cpu
