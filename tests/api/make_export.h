#pragma once
// Exports for tests of the public interface, whose names would clash with those of what makes them.
#include <string>

namespace cajal::testing {

// Of two sequences of 64 tokens, prompts of at most 16.
void make_export(const std::string& model, const std::string& output);

}  // namespace cajal::testing
