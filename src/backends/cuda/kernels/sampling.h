#pragma once
// Chooses tokens where the logits are: the same tokens as engine/sampler.h, and sums of the same bits, whatever the number of
// rows. All of a row's order comes from the tokens themselves: maxima, integer sums, sorting.
#include "backends/cuda/kernels/rows.h"
#include "backends/sampling.h"

namespace cajal::cuda {

struct ChooseArgs {
  const void* logits;           // [rows, vocab_size]
  const RowSampling* sampling;  // [rows], which may be the host's pinned memory
  RowChoice* choices;           // [rows], likewise
  Rows rows;
  std::int32_t vocab_size;
  Element element;
};
void choose_tokens(const ChooseArgs& args, int sm, cudaStream_t stream);

}  // namespace cajal::cuda
