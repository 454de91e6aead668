#pragma once
// tokenizer.json, checked and made into the parts of a Tokenizer. What is not implemented is refused by name.
#include <cstdint>
#include <vector>

#include "base/json.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/pre_tokenizer.h"

namespace cajal {

struct TokenizerParts {
  Bpe bpe;                 // its vocabulary holds the added tokens too
  bool normalize = false;  // to NFC
  PreTokenizer pre_tokenizer;
  std::vector<AddedToken> added_tokens = {};
  std::vector<std::int32_t> before = {}, after = {};  // what the post-processor puts around the text
};

// Error(data_loss, unsupported) names the key.
TokenizerParts read_tokenizer_json(const Json& json);

}  // namespace cajal
