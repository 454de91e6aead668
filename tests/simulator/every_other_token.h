#pragma once
// A grammar of a fake model: every other token may come, the odd and the even ones in turn, and the end at every third place.
#include <memory>

#include "engine/structured_output/grammar.h"
#include "simulator/fake_model.h"

namespace cajal::simulator {

class EveryOtherToken final : public CompiledGrammar {
 public:
  static bool allows(std::int64_t place, std::int32_t token) {
    return token == FakeModel::kEos ? place % 3 == 2 : (token + place) % 2 == 1;
  }
  std::unique_ptr<GrammarMatcher> matcher() const override { return std::make_unique<Matcher>(); }

 private:
  class Matcher final : public GrammarMatcher {
   public:
    void fill_bitmask(std::span<std::int32_t> bitmask) override {
      for (std::size_t word = 0; word < bitmask.size(); ++word) {
        std::uint32_t bits = 0;
        for (std::uint32_t i = 0; i < 32; ++i)
          if (allows(place_, static_cast<std::int32_t>(word * 32 + i))) bits |= std::uint32_t{1} << i;
        bitmask[word] = static_cast<std::int32_t>(bits);
      }
    }
    bool accept(std::int32_t token) override { return allows(place_, token) && ++place_ > 0; }
    std::int64_t count_valid(std::span<const std::int32_t> tokens) override {
      std::int64_t count = 0;
      for (const std::int32_t token : tokens)
        if (!allows(place_ + count++, token)) return count - 1;
      return count;
    }

   private:
    std::int64_t place_ = 0;
  };
};

}  // namespace cajal::simulator
