#pragma once
// What the engine knows of a request and of each of its sequences.
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/answer.h"
#include "engine/clock.h"
#include "engine/observability/request_timings.h"
#include "engine/request.h"
#include "engine/scheduling/kv_cache_manager.h"

namespace cajal {

using RequestId = std::uint64_t;

struct EngineRequest {
  RequestId id = 0;  // the caller's choice; no other request that is not over may have it
  SequenceRequest sequence;
  std::uint32_t n = 1;        // sequences of this one prompt; sequence i draws with (seed, sequence.sequence_index + i)
  std::int32_t priority = 0;  // the lower, the sooner
  std::optional<Clock::Time> deadline;  // what is not over by then ends as deadline_exceeded
  std::string cache_salt;               // prompts share computed blocks only under the same one
};

struct Sequence;

struct RequestState {
  EngineRequest request;
  std::uint64_t serial = 0;                          // the order of arrival
  std::vector<std::unique_ptr<Sequence>> sequences;  // null where one is over
  std::uint32_t num_unfinished = 0;
};

// A token that has been chosen and not been reported.
struct FreshToken {
  GeneratedToken token;
  std::optional<std::string> text;  // absent: not made yet
};

// Who is served first: the lower priority number, then who came first.
struct ServedBefore {
  bool operator()(const Sequence* a, const Sequence* b) const;
};
using WaitingQueue = std::set<Sequence*, ServedBefore>;

// A sequence is waiting, then running, then perhaps waiting again (preempted: its blocks are given back, and what they held
// is computed anew from its tokens), and over at last.
struct Sequence {
  Sequence(RequestState& o, std::uint32_t i, KVCacheManager::SequenceId kv_id) : owner(o), index(i), id(kv_id) {}

  RequestState& owner;
  const std::uint32_t index;  // among those of the request
  const KVCacheManager::SequenceId id;

  std::vector<std::int32_t> tokens;  // prompt and output; empty before it first runs
  std::int64_t computed = 0;         // of the tokens, those whose keys and values are in the cache
  std::optional<Answer> answer;      // from when it first runs
  std::vector<FreshToken> fresh;
  std::optional<FinishReason> finish_reason;
  std::string error;  // why, if it is one of its own; empty: there was no memory
  RequestTimings times;
  bool running = false;
  WaitingQueue::node_type place;  // in the queue, while it is not there: going back needs no memory

  const SequenceRequest& request() const { return owner.request.sequence; }
  std::int64_t prompt_length() const { return static_cast<std::int64_t>(request().prompt.size()); }
  std::int64_t length() const { return static_cast<std::int64_t>(tokens.size()); }
  std::int64_t num_output_tokens() const { return length() - prompt_length(); }
  std::int64_t remaining() const { return length() - computed; }  // rows until the next token
};

inline bool ServedBefore::operator()(const Sequence* a, const Sequence* b) const {
  if (a->owner.request.priority != b->owner.request.priority)
    return a->owner.request.priority < b->owner.request.priority;
  if (a->owner.serial != b->owner.serial) return a->owner.serial < b->owner.serial;
  return a->index < b->index;
}

}  // namespace cajal
