// consumer_cpp MODEL: prints what follows tokens 1, 2, 3, and holds a few promises while it is at it.
#include <cstdio>
#include <vector>

#include "cajal/cajal.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  try {
    cajal::Engine engine({.model = argv[1], .threads = 1});
    std::vector<std::int32_t> streamed;
    cajal::GenerateOptions options;
    options.on_delta = [&](const cajal::Delta& delta) {
      streamed.insert(streamed.end(), delta.token_ids.begin(), delta.token_ids.end());
    };
    const auto result = engine.generate(std::vector<std::int32_t>{1, 2, 3}, {.max_tokens = 8}, options);
    if (streamed != result.completions[0].token_ids) return 1;
    for (const std::int32_t id : streamed) std::printf("%d ", id);
    std::printf("%s\n", cajal::to_string(result.completions[0].finish_reason));
  } catch (const cajal::Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
  try {
    cajal::Engine engine({.model = "/no/such/folder"});
  } catch (const cajal::Error& e) {  // thrown by the library, caught here: its type is one
    return e.code() == cajal::ErrorCode::not_found ? 0 : 1;
  }
  return 1;
}
