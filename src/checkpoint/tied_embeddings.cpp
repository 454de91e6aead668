#include "checkpoint/tied_embeddings.h"

#include <algorithm>
#include <cstring>

#include "base/log.h"

namespace cajal {
namespace {

bool same_bits(const CheckpointTensor& a, const CheckpointTensor& b) {
  if (a.tensor->dtype != b.tensor->dtype || a.tensor->shape != b.tensor->shape) return false;
  constexpr std::uint64_t kStep = std::uint64_t{1} << 20;
  std::vector<std::byte> from_a(kStep), from_b(kStep);
  for (std::uint64_t at = 0; at < a.tensor->size; at += kStep) {
    const std::size_t n = std::min(kStep, a.tensor->size - at);
    a.file->read(*a.tensor, at, std::span(from_a).first(n));
    b.file->read(*b.tensor, at, std::span(from_b).first(n));
    if (std::memcmp(from_a.data(), from_b.data(), n) != 0) return false;
  }
  return true;
}

}  // namespace

EmbeddingSources resolve_tied_embeddings(const Checkpoint& checkpoint, bool tie_word_embeddings) {
  EmbeddingSources sources;
  if (!tie_word_embeddings) return sources;
  const auto embedding = checkpoint.find(sources.embedding), head = checkpoint.find(sources.head);
  if (!embedding && !head) checkpoint.require(sources.embedding);  // throws
  if (embedding && head && !same_bits(*embedding, *head)) {
    log_warning(checkpoint.path(), ": tie_word_embeddings is true, but ", sources.embedding, " and ", sources.head,
                " differ; each is used for itself, as Transformers 5 does");
    return sources;
  }
  sources.shared = true;
  (embedding ? sources.head : sources.embedding) = embedding ? sources.embedding : sources.head;
  return sources;
}

}  // namespace cajal
