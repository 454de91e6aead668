#include "distributed/thread_group.h"

#include <atomic>
#include <exception>
#include <numeric>
#include <thread>

#include "base/error.h"
#include "base/thread_pool.h"
#include "distributed/shared_communicator.h"

namespace cajal {

std::vector<std::unique_ptr<Communicator>> make_thread_group(int size, const ThreadGroupOptions& options) {
  CAJAL_CHECK(size >= 1, size, " ranks");
  const auto region = SharedRegion::create(SharedCommunicator::region_bytes_for(size));
  SharedCommunicator::Place place;
  place.offset = SharedCommunicator::make_group(*region, size);
  place.members.resize(static_cast<std::size_t>(size));
  std::iota(place.members.begin(), place.members.end(), 0);
  place.timeout = options.timeout;
  place.crowded = size > (options.cores > 0 ? options.cores : available_cores());
  std::vector<std::unique_ptr<Communicator>> group;
  for (place.rank = 0; place.rank < size; ++place.rank)
    group.push_back(std::make_unique<SharedCommunicator>(region, place));
  return group;
}

void run_thread_group(int size, const std::function<void(Communicator&)>& body, const ThreadGroupOptions& options) {
  auto group = make_thread_group(size, options);
  std::exception_ptr first;
  std::atomic<bool> taken{false};
  const auto run = [&](Communicator& comm) {
    const auto keep = [&](std::exception_ptr e, const char* why) {
      if (!taken.exchange(true)) first = std::move(e);
      comm.abandon(detail::join("ended with an error: ", why));
    };
    try {
      with_context(detail::join("rank ", comm.rank()), [&] { body(comm); });
    } catch (const Error& e) {
      keep(std::current_exception(), e.message().c_str());
    } catch (const std::exception& e) {
      keep(std::current_exception(), e.what());
    }
  };
  std::vector<std::thread> threads;
  threads.reserve(group.size());
  for (auto& comm : group)
    threads.emplace_back([&run, &comm] {
      run(*comm);
      comm.reset();  // whoever still waits for this rank hears that it has left
    });
  for (auto& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

}  // namespace cajal
