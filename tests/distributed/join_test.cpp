#include "distributed/join.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <thread>

#include "base/error.h"
#include "distributed/forked_ranks.h"

namespace cajal {
namespace {

using std::chrono::milliseconds;
using test::ForkedRanks;
using testing::AllOf;
using testing::Each;
using testing::HasSubstr;

// A port that was free a moment ago.
int free_port() { return listen_at({.host = "127.0.0.1", .port = 0, .local_name = ""}).local_port(); }

Rendezvous at_port(int port, int rank, int size, const char* host = "127.0.0.1") {
  return {.launcher = Launcher::torchrun,
          .rank = rank,
          .world_size = size,
          .leader_address = host,
          .port = port,
          .job = ""};
}

using Change = std::function<void(int rank, Rendezvous&, JoinOptions&)>;

// What each rank prints where all join, with something changed.
std::vector<ForkedRanks::Ended> join_all(int size, const Change& change) {
  const int port = free_port();
  ForkedRanks ranks(size, [&](int rank) {
    Rendezvous where = at_port(port, rank, size);
    JoinOptions options = test::quick_options();
    change(rank, where, options);
    RankProcess::join(where, options);
  });
  return ranks.wait();
}

const auto exit_code = [](int code) { return testing::Field(&ForkedRanks::Ended::exit_code, code); };
const auto prints = [](const std::string& text) {
  return testing::Field(&ForkedRanks::Ended::output, HasSubstr(text));
};

TEST(Join, MeetsAtAPortOfIPv4OrIPv6) {
  for (const char* host : {"127.0.0.1", "::1", "localhost"})
    EXPECT_THAT(join_all(3, [&](int, Rendezvous& r, JoinOptions&) { r.leader_address = host; }), Each(exit_code(0)))
        << host;
}

TEST(Join, WhoIsMissingIsNamedOnEveryRankThatIsThere) {
  const auto ended = join_all(4, [](int rank, Rendezvous&, JoinOptions& options) {
    options.start_timeout = milliseconds(500);
    if (rank == 1 || rank == 3) ::_exit(0);
  });
  for (const std::size_t r : {0, 2})
    EXPECT_THAT(ended[r], AllOf(exit_code(1), prints("ranks 1, 3 of 4 are missing after 0.5 s"))) << r;
}

TEST(Join, RankZeroThatDoesNotAnswerIsNamed) {
  const auto ended = join_all(2, [](int rank, Rendezvous&, JoinOptions& options) {
    options.start_timeout = milliseconds(200);
    if (rank == 0) ::_exit(0);
  });
  EXPECT_THAT(ended[1], AllOf(exit_code(1), prints("rank 1 looks for rank 0: no answer from 127.0.0.1 port ")));
}

TEST(Join, ARankThatDiesWhileOthersAreStillToComeIsNamed) {
  const auto ended = join_all(3, [](int rank, Rendezvous& where, JoinOptions&) {
    if (rank == 2) ::_exit(0);  // it never comes
    if (rank == 0) return;
    Socket s = connect_to(endpoint_of(where), std::chrono::steady_clock::now() + std::chrono::seconds(5));
    s.send_all(frame(FrameType::hello, encode(Hello{.rank = 1, .world_size = 3, .facts = test::quick_options().facts})),
               std::chrono::steady_clock::now() + std::chrono::seconds(1));
    std::this_thread::sleep_for(milliseconds(100));
    std::raise(SIGKILL);
  });
  EXPECT_THAT(ended[0], AllOf(exit_code(1), prints("rank 1 died while others were still to come")));
}

TEST(Join, WhatMustBeTheSameIsRefusedWithBothValues) {
  const auto ended = join_all(3, [](int rank, Rendezvous&, JoinOptions& options) {
    if (rank == 2) options.facts[1].second = "xyz";
  });
  EXPECT_THAT(ended, Each(AllOf(exit_code(1), prints("rank 2 (127.0.0.1) has model 'xyz', rank 0 has 'abc'"))));
  EXPECT_THAT(join_all(2,
                       [](int rank, Rendezvous&, JoinOptions& options) {
                         if (rank == 0) options.facts.emplace_back("quantization", "int8");
                       }),
              Each(prints("rank 1 (127.0.0.1) has quantization '', rank 0 has 'int8'")));
}

TEST(Join, AnotherNumberOfRanksIsRefusedWithBothValues) {
  EXPECT_THAT(join_all(2, [](int rank, Rendezvous& r, JoinOptions&) { r.world_size = rank == 1 ? 3 : 2; }),
              Each(AllOf(exit_code(1), prints("was told that there are 3 ranks, rank 0 that there are 2"))));
}

TEST(Join, TwoProcessesOfOneRankAreRefused) {
  const auto ended = join_all(3, [](int rank, Rendezvous& r, JoinOptions&) { r.rank = rank == 2 ? 1 : rank; });
  EXPECT_THAT(ended, Each(AllOf(exit_code(1), prints("two processes say that they are rank 1"))));
}

TEST(Join, WhoIsNoRankDisturbsNobody) {
  const auto ended = join_all(3, [](int rank, Rendezvous& where, JoinOptions&) {
    if (rank != 2) return;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    std::vector<Socket> strangers;
    for (const std::string& says : {std::string("GET / HTTP/1.1\r\n\r\n"), std::string(), frame(FrameType::bye),
                                    frame(FrameType::hello, encode(Hello{}).substr(0, 9)),
                                    std::string("CAJ1\xff\xff\xff\xff\xff\xff\xff\xff", 12)}) {
      strangers.push_back(connect_to(endpoint_of(where), deadline));
      strangers.back().send_all(says, deadline);
    }
    std::this_thread::sleep_for(milliseconds(50));
  });
  EXPECT_THAT(ended, Each(exit_code(0)));
  EXPECT_THAT(ended[0], prints("a connection from 127.0.0.1 is turned away"));
}

// Passes bytes between rank 1 and rank 0 until it is told to lose them, as a network does that is cut: nobody is closed.
void relay(const Socket& listener, int port, const std::atomic<bool>& cut, const std::atomic<bool>& ended) {
  Socket in, out;
  while (!ended) {
    if (!in.is_open()) {
      if (auto accepted = accept_from(listener)) {
        in = std::move(*accepted);
        out = connect_to(endpoint_of(at_port(port, 0, 2)), std::chrono::steady_clock::now() + std::chrono::seconds(5));
      }
    }
    std::this_thread::sleep_for(milliseconds(1));
    if (!in.is_open()) continue;
    std::array<char, 4096> bytes;
    std::size_t got = 0;
    for (auto [from, to] : {std::pair{&in, &out}, std::pair{&out, &in}})
      if (from->receive(bytes, got) == Socket::Status::done && !cut)
        to->send_all({bytes.data(), got}, std::chrono::steady_clock::now() + std::chrono::seconds(1));
  }
}

TEST(Join, HalfOpenConnectionsAreFoundFromBothSides) {
  const int port = free_port();
  Socket listener = listen_at({.host = "127.0.0.1", .port = 0, .local_name = ""});
  const int relayed = listener.local_port();
  ForkedRanks ranks(2, [&](int rank) {
    const auto process = RankProcess::join(at_port(rank == 0 ? port : relayed, rank, 2), test::quick_options());
    const auto world = process->take_world();
    for (;;) world->barrier();
  });
  std::atomic<bool> cut{false}, ended{false};
  std::thread between([&] { relay(listener, port, cut, ended); });
  std::this_thread::sleep_for(milliseconds(300));
  cut = true;
  const auto both = ranks.wait();
  ended = true;
  between.join();
  EXPECT_THAT(both, Each(AllOf(exit_code(1), prints("has stalled: nothing was heard of it"))));
}

// Busy with something that is no collective, as loading is.
TEST(Watch, AProcessThatDoesNotEndByItselfIsEnded) {
  const auto job = test::new_job();
  ForkedRanks ranks(3, [&](int rank) {
    const auto process = RankProcess::join(test::rendezvous_at(job, rank, 3), test::quick_options());
    if (rank == 2) std::raise(SIGKILL);
    std::this_thread::sleep_for(std::chrono::seconds(60));
  });
  const auto ended = ranks.wait();
  for (const std::size_t r : {0, 1}) EXPECT_THAT(ended[r], AllOf(exit_code(1), prints("rank 2 died"))) << r;
}

TEST(Watch, AFarewellIsNoDeath) {
  const auto job = test::new_job();
  ForkedRanks ranks(3, [&](int rank) {
    const auto process = RankProcess::join(test::rendezvous_at(job, rank, 3), test::quick_options());
    std::this_thread::sleep_for(milliseconds(rank == 0 ? 100 : rank == 1 ? 0 : 400));
  });
  EXPECT_THAT(ranks.wait(), Each(exit_code(0)));
}

// Ranks keep the writing end of a pipe; it closes when the last of them has ended. Of `size` ranks three are started: of
// four, they wait for the last one.
void expect_no_orphans(int size) {
  const auto job = test::new_job();
  int alive[2];
  ASSERT_EQ(::pipe(alive), 0);
  const pid_t launcher = ::fork();
  if (launcher == 0) {
    ForkedRanks ranks(3, [&](int rank) {
      if (rank == 0 && size > 3 && ::write(alive[1], "x", 1) != 1) ::_exit(1);
      const auto process = RankProcess::join(test::rendezvous_at(job, rank, size), test::quick_options());
      if (rank == 0 && ::write(alive[1], "x", 1) != 1) ::_exit(1);
      std::this_thread::sleep_for(std::chrono::seconds(60));
    });
    ranks.wait(std::chrono::seconds(60));
    ::_exit(0);
  }
  ::close(alive[1]);
  char byte = 0;
  ASSERT_EQ(::read(alive[0], &byte, 1), 1);
  std::this_thread::sleep_for(milliseconds(200));  // until they have begun to watch
  ::kill(launcher, SIGKILL);
  ::waitpid(launcher, nullptr, 0);
  pollfd waiting{alive[0], POLLIN, 0};
  EXPECT_EQ(::poll(&waiting, 1, 50'000), 1) << "ranks are still there 50 s after their launcher was killed";
  EXPECT_EQ(::read(alive[0], &byte, 1), 0);
  ::close(alive[0]);
}

TEST(Watch, NoRankOutlivesWhoLaunchedIt) { expect_no_orphans(3); }
TEST(Watch, NoRankThatWaitsForOthersOutlivesWhoLaunchedIt) { expect_no_orphans(4); }

}  // namespace
}  // namespace cajal
