#include "simulator/event_mirror.h"

#include "simulator/allocation_faults.h"

namespace cajal::simulator {

void EventMirror::hear(const KVCacheEvent& event) {
  const AllocationFaults::Pause pause;
  const auto known = blocks_.find(event.block_hash);
  const auto parent = blocks_.find(event.parent_block_hash);
  switch (event.kind) {
    case KVCacheEvent::Kind::all_blocks_cleared: blocks_.clear(); return;
    case KVCacheEvent::Kind::block_stored:
      if (known != blocks_.end()) error_ = "a block is stored that is stored";
      if (event.parent_block_hash && parent == blocks_.end()) error_ = "a block is stored without its parent";
      if (event.token_ids.empty()) error_ = "a block is stored without tokens";
      if (parent != blocks_.end()) ++parent->second.num_children;
      blocks_[event.block_hash] = {event.parent_block_hash, 0};
      return;
    case KVCacheEvent::Kind::block_removed:
      if (known == blocks_.end()) {
        error_ = "a block is removed that is not stored";
        return;
      }
      if (known->second.num_children) error_ = "a block is removed before its children";
      if (const auto its = blocks_.find(known->second.parent); its != blocks_.end()) --its->second.num_children;
      blocks_.erase(known);
  }
}

}  // namespace cajal::simulator
