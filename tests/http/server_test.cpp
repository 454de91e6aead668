#include "http/server.h"

#include <gmock/gmock.h>

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "http/http_client.h"

namespace cajal::http {
namespace {

using namespace std::chrono_literals;
using testing::Answer;
using testing::ask;
using testing::Client;

// A server on a free port, running on a thread of its own.
class Running {
 public:
  explicit Running(Server::Handler handler, ServerOptions options = {}) : server_(free_port(options), handler, page) {
    thread_ = std::thread([this] { server_.run(); });
  }
  ~Running() {
    server_.stop();
    thread_.join();
  }
  Server& server() { return server_; }
  std::uint16_t port() const { return server_.port(); }

 private:
  static ServerOptions free_port(ServerOptions options) {
    options.port = 0;
    return options;
  }
  static Response page(const BadRequest& why) { return {.status = why.status, .body = why.message}; }
  Server server_;
  std::thread thread_;
};

void echo(const std::shared_ptr<Exchange>& exchange) {
  Request& request = exchange->request();
  exchange->respond({.body = request.method + " " + request.path + " " + request.body});
}

TEST(Server, AnswersOneRequestAfterAnotherOnAConnection) {
  Running running(echo);
  Client client(running.port());
  for (const std::string body : {"one", "two"}) {
    client.send_request("POST", "/a", body);
    const Answer answer = client.read_answer();
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body, "POST /a " + body);
    EXPECT_EQ(answer.header("Connection"), "keep-alive");
    EXPECT_NE(answer.header("Date"), "");
  }
  client.send_request("HEAD", "/b");
  EXPECT_EQ(client.read_answer(false).header("Content-Length"), "8");
  client.send_request("GET", "/c", {}, "Connection: close\r\n");
  EXPECT_EQ(client.read_answer().header("Connection"), "close");
  EXPECT_EQ(client.read_to_end(), "");
}

TEST(Server, AnswersRequestsSentAheadInTheirOrder) {
  Running running(echo);
  Client client(running.port());
  for (int i = 0; i < 20; ++i) client.send_request("POST", "/" + std::to_string(i), "x");
  for (int i = 0; i < 20; ++i) EXPECT_EQ(client.read_answer().body, "POST /" + std::to_string(i) + " x");
}

TEST(Server, TellsAClientThatWaitsToSendItsBody) {
  Running running(echo);
  Client client(running.port());
  client.send("POST /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  EXPECT_EQ(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("hi");
  EXPECT_EQ(client.read_answer().body, "POST /a hi");
}

TEST(Server, StreamsWhatAnyThreadWritesPieceByPiece) {
  std::vector<std::thread> writers;
  Running running([&](const std::shared_ptr<Exchange>& exchange) {
    writers.emplace_back([exchange] {
      exchange->begin_stream({.content_type = "text/event-stream"}, ": ping\n\n");
      for (int i = 0; i < 100; ++i) exchange->write(std::to_string(i) + ";");
      exchange->finish();
    });
  });
  std::string expected;
  for (int i = 0; i < 100; ++i) expected += std::to_string(i) + ";";
  Client client(running.port());
  for (int round = 0; round < 2; ++round) {
    client.send_request("GET", "/");
    const Answer answer = client.read_answer();
    EXPECT_EQ(answer.body, expected);
    EXPECT_EQ(answer.header("Content-Type"), "text/event-stream");
  }
  Client old(running.port());
  old.send("GET / HTTP/1.0\r\n\r\n");
  EXPECT_EQ(old.read_answer().body, expected);
  for (std::thread& writer : writers) writer.join();
}

TEST(Server, PingsAStreamInWhichNothingHappens) {
  std::shared_ptr<Exchange> kept;
  Running running(
      [&](const std::shared_ptr<Exchange>& exchange) {
        kept = exchange;
        exchange->begin_stream({.content_type = "text/event-stream"}, ": ping\n\n");
      },
      {.ping_interval = 10ms});
  Client client(running.port());
  client.send_request("GET", "/");
  EXPECT_EQ(client.read_head().status, 200);
  EXPECT_EQ(client.read_chunk(), ": ping\n\n");
  EXPECT_EQ(client.read_chunk(), ": ping\n\n");
  kept->finish();
  EXPECT_EQ(client.read_chunk(), "");
}

// Of an exchange that is never answered by itself.
class Unanswered {
 public:
  void take(const std::shared_ptr<Exchange>& exchange) {
    exchange->on_gone([this] { gone_.set_value(); });
    exchange->on_over([this](const Outcome& outcome) { over_.set_value(outcome); });
    taken_.set_value(exchange);
  }
  std::shared_ptr<Exchange> wait() { return taken_.get_future().get(); }
  bool is_gone() { return gone_.get_future().wait_for(20s) == std::future_status::ready; }
  Outcome outcome() { return over_.get_future().get(); }

 private:
  std::promise<std::shared_ptr<Exchange>> taken_;
  std::promise<void> gone_;
  std::promise<Outcome> over_;
};

TEST(Server, SeesAClientLeaveBeforeAndDuringItsAnswer) {
  for (const bool streaming : {false, true}) {
    Unanswered unanswered;
    Running running([&](const auto& exchange) { unanswered.take(exchange); });
    Client client(running.port());
    client.send_request("POST", "/", "x");
    const auto exchange = unanswered.wait();
    if (streaming) exchange->begin_stream({}, "");
    EXPECT_FALSE(exchange->gone());
    client.close();
    EXPECT_TRUE(unanswered.is_gone());
    const Outcome outcome = unanswered.outcome();
    EXPECT_TRUE(outcome.client_gone);
    EXPECT_EQ(outcome.status, streaming ? 200 : 0);
    EXPECT_TRUE(exchange->gone());
    if (streaming)
      exchange->finish();
    else
      exchange->respond({});  // into the void
    bool told = false;
    exchange->on_gone([&] { told = true; });
    EXPECT_TRUE(told);
  }
}

TEST(Server, DropsAClientThatDoesNotRead) {
  Unanswered unanswered;
  Running running([&](const auto& exchange) { unanswered.take(exchange); }, {.max_unsent_bytes = 1 << 20});
  Client client(running.port(), 4096);
  client.send_request("GET", "/");
  const auto exchange = unanswered.wait();
  exchange->begin_stream({}, "");
  const std::string piece(64 << 10, 'x');
  int pieces = 0;
  while (!exchange->gone() && ++pieces < 10000) exchange->write(piece);
  EXPECT_LT(pieces, 10000);
  EXPECT_TRUE(unanswered.is_gone());
  EXPECT_TRUE(unanswered.outcome().client_gone);
}

TEST(Server, DropsAClientThatTakesNothingForLong) {
  Unanswered unanswered;
  Running running([&](const auto& exchange) { unanswered.take(exchange); }, {.write_timeout = 50ms});
  Client client(running.port(), 4096);
  client.send_request("GET", "/");
  unanswered.wait()->respond({.body = std::string(32 << 20, 'x')});
  EXPECT_TRUE(unanswered.outcome().client_gone);
}

TEST(Server, EndsRequestsThatComeTooSlowly) {
  Running running(echo, {.head_timeout = 60ms, .body_timeout = 60ms, .idle_timeout = 60ms});
  Client idle(running.port());
  EXPECT_EQ(idle.read_to_end(), "");
  Client head(running.port());
  head.send("GET / HT");
  std::thread trickle([&] {
    for (int i = 0; i < 10; ++i) {
      std::this_thread::sleep_for(20ms);
      head.send("T");
    }
  });
  EXPECT_EQ(head.read_answer().status, 408);
  trickle.join();
  Client body(running.port());
  body.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc");
  const Answer answer = body.read_answer();
  EXPECT_EQ(answer.status, 408);
  EXPECT_EQ(answer.header("Connection"), "close");
}

TEST(Server, AnswersWhatIsNoRequestAndCloses) {
  Running running(echo, {.limits = {.body_bytes = 1000}});
  Client garbage(running.port());
  garbage.send("\x16\x03\x01 hello\r\n\r\n");
  EXPECT_EQ(garbage.read_answer().status, 400);
  EXPECT_EQ(garbage.read_to_end(), "");
  // The answer arrives although much more is on its way than was read.
  Client large(running.port());
  large.send_request("POST", "/", std::string(4 << 20, 'x'));
  EXPECT_EQ(large.read_answer().status, 413);
}

TEST(Server, EndsTheConnectionThatIsIdleLongestForOneBeyondItsLimit) {
  Running running(echo, {.max_connections = 2});
  Client first(running.port()), second(running.port());
  second.send_request("GET", "/2");
  EXPECT_EQ(second.read_answer().status, 200);
  first.send_request("GET", "/1");
  EXPECT_EQ(first.read_answer().status, 200);
  Client third(running.port());
  third.send_request("GET", "/3");
  EXPECT_EQ(third.read_answer().status, 200);
  EXPECT_EQ(second.read_to_end(), "");
  first.send_request("GET", "/1");
  EXPECT_EQ(first.read_answer().status, 200);
}

TEST(Server, ClosesConnectionsBeyondItsLimitWhereAllAreBusy) {
  std::mutex mutex;
  std::vector<std::shared_ptr<Exchange>> held;
  std::promise<void> both;
  Running running(
      [&](const std::shared_ptr<Exchange>& exchange) {
        const std::lock_guard lock(mutex);
        held.push_back(exchange);
        if (held.size() == 2) both.set_value();
      },
      {.max_connections = 2});
  Client first(running.port()), second(running.port());
  first.send_request("GET", "/1");
  second.send_request("GET", "/2");
  both.get_future().wait();
  Client third(running.port());
  EXPECT_EQ(third.read_to_end(), "");
  for (const auto& exchange : held) exchange->respond({.body = "late"});
  EXPECT_EQ(first.read_answer().body, "late");
  EXPECT_EQ(second.read_answer().body, "late");
}

TEST(Server, DrainsByFinishingWhatItHasBegun) {
  std::promise<std::shared_ptr<Exchange>> begun;
  Server server(
      {.port = 0},
      [&](const std::shared_ptr<Exchange>& exchange) {
        if (exchange->request().path == "/long")
          begun.set_value(exchange);
        else
          exchange->respond({.status = 503});
      },
      [](const BadRequest&) { return Response(); });
  std::thread thread([&] { server.run(); });
  Client client(server.port()), idle(server.port());
  idle.send_request("GET", "/short");
  EXPECT_EQ(idle.read_answer().status, 503);
  client.send_request("GET", "/long");
  const auto exchange = begun.get_future().get();
  server.drain(1h);
  EXPECT_EQ(idle.read_to_end(), "");
  EXPECT_EQ(ask(server.port(), "GET", "/other").status, 503);
  exchange->respond({.body = "done"});
  const Answer answer = client.read_answer();
  EXPECT_EQ(answer.body, "done");
  thread.join();
}

TEST(Server, DrainsNoLongerThanItMay) {
  Unanswered unanswered;
  Server server(
      {.port = 0}, [&](const auto& exchange) { unanswered.take(exchange); },
      [](const BadRequest&) { return Response(); });
  std::thread thread([&] { server.run(); });
  Client client(server.port());
  client.send_request("GET", "/");
  const auto exchange = unanswered.wait();
  server.drain(20ms);
  EXPECT_TRUE(unanswered.outcome().client_gone);
  thread.join();
}

TEST(Server, SaysWhatIsInTheWayOfAnAddress) {
  Running running(echo);
  try {
    Server({.port = running.port()}, echo, [](const BadRequest&) { return Response(); });
    FAIL() << "two servers have one port";
  } catch (const Error& e) {
    EXPECT_THAT(e.message(), ::testing::HasSubstr(std::to_string(running.port())));
    EXPECT_EQ(e.code(), ErrorCode::unavailable);
  }
  EXPECT_THROW(Server({.host = "256.1.1.1"}, echo, [](const BadRequest&) { return Response(); }), Error);
}

}  // namespace
}  // namespace cajal::http
