#include "engine/request.h"

#include <cstddef>

namespace cajal {

const char* to_string(FinishReason reason) {
  static constexpr const char* kNames[] = {"stop", "length", "interrupted", "numerical_error", "deadline_exceeded",
                                           "error"};
  return kNames[static_cast<std::size_t>(reason)];
}

}  // namespace cajal
