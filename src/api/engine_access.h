#pragma once
// What `cajal serve` needs of an engine and the library does not show: ranks that are processes, and what became of them.
#include <memory>
#include <string>

#include "api/public.h"

namespace cajal {
class RankTeam;
}

namespace cajal::v1 {

struct EngineAccess {
  // As Engine(config), on ranks that are there already and must outlive it. The degrees are theirs.
  static std::unique_ptr<Engine> open(const EngineConfig& config, RankTeam& ranks);
  // Why it can take no more requests until it is opened anew: which rank is lost, say. Empty while it can. Any thread.
  static std::string failure(const Engine& engine);
};

}  // namespace cajal::v1
