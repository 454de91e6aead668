#pragma once
// From what src/ throws to what the library throws.
#include <exception>
#include <utility>

#include "api/public.h"

namespace cajal {

// What is being handled, as the library reports it. To be called in a catch block.
api::Error current_error();

// Runs `body`; whatever it throws leaves as an api::Error.
template <class Body>
decltype(auto) guarded(Body&& body) {
  try {
    return std::forward<Body>(body)();
  } catch (...) {
    throw current_error();
  }
}

}  // namespace cajal
