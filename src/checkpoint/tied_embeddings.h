#pragma once
// Whether the output head is the embedding table. Both checkpoint and configuration have a say, and they may disagree.
#include <string>

#include "checkpoint/checkpoint.h"

namespace cajal {

// The names to declare the two weights with. Shared: both are the same name, and one parameter serves both uses.
struct EmbeddingSources {
  bool shared = false;
  std::string embedding = "model.embed_tokens.weight";
  std::string head = "lm_head.weight";
};

// Transformers 5's rule. Configuration says untied: separate. It says tied: shared with whichever of the two is there; if
// both are, they are compared bit by bit (in bounded memory), equal means shared, and different means separate, with a
// warning, because the checkpoint then was trained or edited untied. With neither: Error(not_found).
EmbeddingSources resolve_tied_embeddings(const Checkpoint& checkpoint, bool tie_word_embeddings);

}  // namespace cajal
