#include "backends/cpu/shard_sampler.h"

#include <algorithm>

#include "backends/cpu/kernels/linear_ref.h"
#include "base/error.h"
#include "distributed/communicator.h"

namespace cajal::cpu {
namespace {

constexpr std::int64_t kChunk = 16;  // rows of which ranks tell each other at once

std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

}  // namespace

ShardSampler::ShardSampler(Communicator& group, const VocabularyShares& shares, std::int64_t max_rows)
    : group_(group), shares_(shares), sampling_(size(max_rows)), choices_(size(max_rows)) {
  CAJAL_CHECK(shares.dtype == DType::f32 || shares.dtype == DType::bf16);
  first_id_ = std::min(shares.vocab_size, shares.shard_size * group.rank());
  tokens_ = std::min(shares.shard_size, shares.vocab_size - first_id_);
  const std::int64_t rows = std::min(max_rows, kChunk), ranks = group.size();
  const std::int64_t packets = rows * PacketRoom{kMostCandidates, kMostTopLogprobs}.bytes();
  if (shares.dtype != DType::f32) wide_.resize(size(rows * tokens_));
  heads_.resize(size(rows)), all_heads_.resize(size(rows * ranks));
  packets_.resize(size(packets)), all_packets_.resize(size(packets * ranks));
  of_row_.reserve(size(ranks));
  scratch_.reserve(size(ranks * kMostCandidates));
}

ShardLogits ShardSampler::shard_of(const std::byte* logits, std::int64_t row, std::int64_t in_chunk) {
  const std::byte* from = logits + row * shares_.shard_size * static_cast<std::int64_t>(size_of(shares_.dtype));
  if (shares_.dtype == DType::f32) return {{reinterpret_cast<const float*>(from), size(tokens_)}, first_id_};
  return {{wide_.data() + in_chunk * tokens_, size(tokens_)}, first_id_};
}

PacketRoom ShardSampler::room_for(std::int64_t first, std::int64_t rows, bool& any) const {
  PacketRoom room;
  for (const RowSampling& how : std::span(sampling_).subspan(size(first), size(rows))) {
    if (how.how == ChooseHow::on_host) continue;
    any = any || how.how == ChooseHow::draw || how.num_logprobs >= 0;
    room.candidates = std::max(room.candidates, candidates_needed(how, shares_.vocab_size));
    room.top = std::max<std::int64_t>(room.top, how.num_logprobs);
  }
  return room;
}

void ShardSampler::choose_chunk(std::int64_t first, std::int64_t rows, const std::byte* logits, ThreadPool& pool) {
  const std::int64_t ranks = group_.size();
  pool.parallel_for(rows, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      if (shares_.dtype != DType::f32)
        for (std::int64_t k = 0; k < tokens_; ++k)
          wide_[size(i * tokens_ + k)] = load_element(logits, (first + i) * shares_.shard_size + k, shares_.dtype);
      heads_[size(i)] = head_of(shard_of(logits, first + i, i));
    }
  });
  const auto heads = std::span(heads_).first(size(rows));
  const auto all_heads = std::span(all_heads_).first(size(rows * ranks));
  group_.all_gather(std::as_bytes(heads), std::as_writable_bytes(all_heads));
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t r = 1; r < ranks; ++r) {
      const ShardHead pair[] = {all_heads[size(i)], all_heads[size(r * rows + i)]};
      all_heads[size(i)] = merge_heads(pair);
    }
    heads_[size(i)] = all_heads[size(i)];
  }

  bool any = false;
  const PacketRoom room = room_for(first, rows, any);
  const std::int64_t bytes = any ? room.bytes() : 0;
  if (any) {
    pool.parallel_for(rows, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        describe(sampling_[size(first + i)], shard_of(logits, first + i, i), heads_[size(i)], shares_.vocab_size,
                 Packet(packets_.data() + i * bytes, room));
    });
    group_.all_gather(std::span(packets_).first(size(rows * bytes)),
                      std::span(all_packets_).first(size(rows * bytes * ranks)));
  }
  for (std::int64_t i = 0; i < rows; ++i) {
    of_row_.clear();
    for (std::int64_t r = 0; r < ranks && any; ++r)
      of_row_.emplace_back(all_packets_.data() + (r * rows + i) * bytes, room);
    choices_[size(first + i)] =
        decide(sampling_[size(first + i)], heads_[size(i)], of_row_, shares_.vocab_size, scratch_);
  }
}

bool ShardSampler::choose(std::int64_t rows, const std::byte* logits, ThreadPool& pool) {
  CAJAL_CHECK(rows <= std::ssize(sampling_));
  for (std::int64_t first = 0; first < rows; first += kChunk)
    choose_chunk(first, std::min(kChunk, rows - first), logits, pool);
  return std::none_of(choices_.begin(), choices_.begin() + rows,
                      [](const RowChoice& choice) { return choice.status == ChoiceStatus::on_host; });
}

}  // namespace cajal::cpu
