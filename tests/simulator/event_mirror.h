#pragma once
// What a router of requests believes to be in the cache, from nothing but the cache's events.
#include <cstdint>
#include <string>
#include <unordered_map>

#include "engine/scheduling/kv_cache_manager.h"

namespace cajal::simulator {

class EventMirror {
 public:
  void hear(const KVCacheEvent& event);

  // The first event that makes no sense after those before it, or an empty text.
  const std::string& error() const { return error_; }

 private:
  struct Block {
    BlockHash parent = 0;
    std::int64_t num_children = 0;
  };
  std::unordered_map<BlockHash, Block> blocks_;
  std::string error_;
};

}  // namespace cajal::simulator
