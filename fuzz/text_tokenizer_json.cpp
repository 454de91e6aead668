// Arbitrary bytes as tokenizer.json: an Error or a tokenizer, never a crash; and what loads keeps the laws.
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

using namespace cajal;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const Tokenizer tokenizer = Tokenizer::from_json({reinterpret_cast<const char*>(data), size}, "fuzz");
    for (const std::string_view text : {"", "hello  world\n <s> ab", "e\u0301 \u4f60 it's 123", "<s><s> x"})
      for (const bool parse : {false, true}) {
        const auto ids = tokenizer.encode(text, {.add_special_tokens = parse, .parse_special = parse});
        Detokenizer detokenizer(tokenizer, parse);
        std::string streamed;
        for (const std::int32_t id : ids) {
          CAJAL_CHECK(tokenizer.contains(id));
          streamed += detokenizer.push(id);
        }
        CAJAL_CHECK(streamed + detokenizer.flush() == tokenizer.decode(ids, parse));
      }
    for (std::int32_t id = -1; id <= tokenizer.vocab_size() && id < 1000; ++id) {
      const std::string token = tokenizer.token(id);
      CAJAL_CHECK(tokenizer.contains(id) || token.empty());
    }
  } catch (const Error&) {
  }
  return 0;
}
