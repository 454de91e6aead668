#include "distributed/communicator_laws.h"

#include <bit>
#include <cstdint>
#include <iterator>
#include <random>
#include <utility>
#include <vector>

#include "base/error.h"

namespace cajal::test {
namespace {

using Floats = std::vector<float>;

// What rank r holds: floats of sizes so different that another order of adding gives other bits.
Floats numbers_of(int r, std::size_t n, unsigned seed) {
  std::uint32_t state = seed * 1000003U + static_cast<std::uint32_t>(r) * 40503U + 1;
  Floats x(n);
  for (float& value : x) {
    state = state * 1664525U + 1013904223U;
    const auto mantissa = static_cast<float>(static_cast<std::int32_t>(state)) / 2147483648.0F;
    value = mantissa * static_cast<float>(1U << (state >> 7U) % 24U);
  }
  return x;
}

// Pair by pair, round by round, as the interface says it.
Floats sum_of_all(int size, std::size_t n, unsigned seed) {
  std::vector<Floats> terms;
  terms.reserve(static_cast<std::size_t>(size));
  for (int r = 0; r < size; ++r) terms.push_back(numbers_of(r, n, seed));
  while (terms.size() > 1) {
    std::vector<Floats> next;
    for (std::size_t t = 0; t + 1 < terms.size(); t += 2) {
      for (std::size_t i = 0; i < n; ++i) terms[t][i] += terms[t + 1][i];
      next.push_back(std::move(terms[t]));
    }
    if (terms.size() % 2 == 1) next.push_back(std::move(terms.back()));
    terms = std::move(next);
  }
  return terms.front();
}

std::string compare(const char* op, std::span<const float> got, std::span<const float> expected) {
  for (std::size_t i = 0; i < expected.size(); ++i)
    if (std::bit_cast<std::uint32_t>(got[i]) != std::bit_cast<std::uint32_t>(expected[i]))
      return detail::join(op, " of ", expected.size(), " floats: element ", i, " is ", got[i], ", expected ",
                          expected[i]);
  return "";
}

std::string check_all_reduce(Communicator& group, std::size_t n, unsigned seed) {
  Floats x = numbers_of(group.rank(), n, seed);
  group.all_reduce(x);
  return compare("all_reduce", x, sum_of_all(group.size(), n, seed));
}

std::string check_reduce_scatter(Communicator& group, std::size_t n, unsigned seed) {
  const auto size = static_cast<std::size_t>(group.size());
  const Floats x = numbers_of(group.rank(), n * size, seed);
  Floats mine(n);
  group.reduce_scatter(x, mine);
  const Floats sum = sum_of_all(group.size(), n * size, seed);
  return compare("reduce_scatter", mine, std::span(sum).subspan(static_cast<std::size_t>(group.rank()) * n, n));
}

std::string check_all_gather(Communicator& group, std::size_t n, unsigned seed) {
  Floats all(n * static_cast<std::size_t>(group.size())), expected;
  for (int r = 0; r < group.size(); ++r) {
    const Floats x = numbers_of(r, n, seed);
    expected.insert(expected.end(), x.begin(), x.end());
  }
  const Floats mine = numbers_of(group.rank(), n, seed);
  group.all_gather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)));
  return compare("all_gather", all, expected);
}

std::string check_all_to_all(Communicator& group, std::size_t n, unsigned seed) {
  const auto size = static_cast<std::size_t>(group.size());
  const Floats from = numbers_of(group.rank(), n * size, seed);
  Floats to(n * size), expected;
  for (int r = 0; r < group.size(); ++r) {
    const Floats theirs = numbers_of(r, n * size, seed);
    const auto* piece = theirs.data() + static_cast<std::size_t>(group.rank()) * n;
    expected.insert(expected.end(), piece, piece + n);
  }
  group.all_to_all(std::as_bytes(std::span(from)), std::as_writable_bytes(std::span(to)));
  return compare("all_to_all", to, expected);
}

std::string check_broadcast(Communicator& group, std::size_t n, unsigned seed) {
  const int root = static_cast<int>(seed) % group.size();
  Floats x = numbers_of(group.rank(), n, seed);
  group.broadcast(std::as_writable_bytes(std::span(x)), root);
  return compare("broadcast", x, numbers_of(root, n, seed));
}

// Rows and columns of a grid, with the whole group in use between theirs.
std::string check_splits(Communicator& group, unsigned seed) {
  const int columns = group.size() % 2 == 0 ? 2 : 1;
  const auto row = group.split(group.rank() / columns);
  const auto column = group.split(group.rank() % columns);
  if (row->size() != columns || row->rank() != group.rank() % columns || column->rank() != group.rank() / columns ||
      column->size() != group.size() / columns)
    return detail::join("split: rank ", group.rank(), " of ", group.size(), " is ", row->rank(), " of ", row->size(),
                        " and ", column->rank(), " of ", column->size());
  for (unsigned round = 0; round < 3; ++round)
    for (Communicator* g : {row.get(), &group, column.get()})
      if (auto broken = check_all_reduce(*g, 33, seed + round); !broken.empty()) return "after split: " + broken;
  return "";
}

}  // namespace

std::string first_broken_law(Communicator& group, unsigned seed) {
  using Check = std::string (*)(Communicator&, std::size_t, unsigned);
  constexpr Check kChecks[] = {check_all_reduce, check_reduce_scatter, check_all_gather, check_all_to_all,
                               check_broadcast};
  // Around what is sent at once, what is summed in one way or another, and the ends of pieces.
  for (const std::size_t n : {0, 1, 7, 4096, 9001})
    for (const Check check : kChecks)
      if (auto broken = check(group, n, seed); !broken.empty()) return broken;
  if (auto broken = check_all_reduce(group, 70001, seed); !broken.empty()) return broken;
  if (auto broken = check_splits(group, seed); !broken.empty()) return broken;
  std::mt19937 random(seed);
  for (unsigned round = 0; round < 40; ++round) {
    const Check check = kChecks[random() % std::size(kChecks)];
    if (auto broken = check(group, random() % 300, seed + round); !broken.empty()) return broken;
    group.barrier();
  }
  return "";
}

}  // namespace cajal::test
