// The client and TLS, each against our own server.
#include "http/client.h"

#include <gmock/gmock.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>

#include "base/error.h"
#include "http/http_client.h"
#include "http/server.h"
#include "http/tls.h"

namespace cajal::http {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

// A certificate for localhost and its key, by the program openssl; empty if that is not here.
std::string certificate_folder() {
  static const std::string folder = [] {
    std::string path = (std::filesystem::temp_directory_path() / "cajal-tls-XXXXXX").string();
    if (!::mkdtemp(path.data())) return std::string();
    const std::string command =
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost "
        "-addext subjectAltName=DNS:localhost -keyout " +
        path + "/key.pem -out " + path + "/cert.pem 2>/dev/null";
    if (std::system(command.c_str()) == 0) return path;
    std::filesystem::remove_all(path);
    return std::string();
  }();
  static const struct Remover {
    ~Remover() {
      if (!folder_.empty()) std::filesystem::remove_all(folder_);
    }
    std::string folder_;
  } remover{folder};
  return folder;
}

class Running {
 public:
  explicit Running(Server::Handler handler, ServerOptions options = {}) {
    options.port = 0;
    server_ = std::make_unique<Server>(options, std::move(handler), [](const BadRequest& why) {
      return Response{.status = why.status, .body = why.message};
    });
    thread_ = std::thread([this] { server_->run(); });
  }
  ~Running() {
    server_->stop();
    thread_.join();
  }
  std::uint16_t port() const { return server_->port(); }
  std::string url() const { return server_->url(); }

 private:
  std::unique_ptr<Server> server_;
  std::thread thread_;
};

void echo(const std::shared_ptr<Exchange>& exchange) {
  Request& request = exchange->request();
  if (request.path == "/stream") {
    exchange->begin_stream({.content_type = "text/plain"}, "");
    for (int i = 0; i < 50; ++i) exchange->write("piece " + std::to_string(i) + "\n");
    return exchange->finish();
  }
  exchange->respond({.body = request.method + " " + request.path + " " + request.body});
}

struct Reply {
  int status = 0, num_ends = 0;
  std::string body, error;
};
ReplyHandler into(Reply& reply) {
  return {.on_head = [&reply](int status) { reply.status = status; },
          .on_body = [&reply](std::string_view piece) { reply.body += piece; },
          .on_end =
              [&reply](const std::string& error) {
                reply.error = error;
                ++reply.num_ends;
              }};
}

Reply ask(Client& client, const std::string& path, const std::string& body = {}) {
  Reply reply;
  client.send(body.empty() ? "GET" : "POST", path, {}, body, into(reply));
  client.run();
  EXPECT_EQ(reply.num_ends, 1);
  return reply;
}

// Plain and through TLS.
class ClientAndServer : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (!GetParam()) return;
    const std::string folder = certificate_folder();
    if (folder.empty()) GTEST_SKIP() << "the program openssl is not here";
    server_options.tls = tls_for_server({.certfile = folder + "/cert.pem", .keyfile = folder + "/key.pem"});
  }
  ClientOptions options(const Running& server) const {
    ClientOptions o;
    o.server = parse_url((GetParam() ? "https://localhost:" : "http://127.0.0.1:") + std::to_string(server.port()));
    if (GetParam()) o.tls = tls_for_client(true, certificate_folder() + "/cert.pem");
    return o;
  }
  ServerOptions server_options;
};
INSTANTIATE_TEST_SUITE_P(Over, ClientAndServer, ::testing::Bool(),
                         [](const auto& tls) { return tls.param ? "Tls" : "Plain"; });

TEST_P(ClientAndServer, ExchangeManyThingsAtOnceAndOneAfterAnother) {
  const Running server(echo, server_options);
  Client client(options(server));
  for (int round = 0; round < 3; ++round) {
    std::vector<Reply> replies(40);
    for (std::size_t i = 0; i < replies.size(); ++i)
      client.send("POST", "/" + std::to_string(i), {{"A", "b"}}, std::string(i * 1000 + 1, 'x'), into(replies[i]));
    client.run();
    for (std::size_t i = 0; i < replies.size(); ++i) {
      EXPECT_EQ(replies[i].error, "");
      EXPECT_EQ(replies[i].status, 200);
      EXPECT_EQ(replies[i].body, "POST /" + std::to_string(i) + " " + std::string(i * 1000 + 1, 'x'));
    }
  }
}

TEST_P(ClientAndServer, PassStreamsOnWhole) {
  const Running server(echo, server_options);
  Client client(options(server));
  for (int i = 0; i < 3; ++i) {
    const Reply reply = ask(client, "/stream");
    EXPECT_EQ(reply.error, "");
    EXPECT_TRUE(reply.body.starts_with("piece 0\npiece 1\n") && reply.body.ends_with("piece 49\n")) << reply.body;
  }
}

TEST_P(ClientAndServer, GoOnWhenAKeptConnectionHasEnded) {
  server_options.idle_timeout = 20ms;
  const Running server(echo, server_options);
  Client client(options(server));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(ask(client, "/a").body, "GET /a ");
    std::this_thread::sleep_for(60ms);
  }
}

TEST_P(ClientAndServer, EndWhereverTheyAre) {
  std::shared_ptr<Exchange> held;
  {
    const Running server([&](const auto& exchange) { held = exchange; }, server_options);
    ClientOptions o = options(server);
    o.silence_timeout = 100ms;
    Client client(o);
    EXPECT_EQ(ask(client, "/").error, "nothing came for too long");
    testing::Client greeted(server.port()), greeting(server.port());  // end with the server, in the middle of a hello
    greeting.send("\x16\x03\x01");
    std::this_thread::sleep_for(20ms);
  }
  EXPECT_TRUE(held->gone());
}

TEST_P(ClientAndServer, CutOffThoseWhoDoNotBegin) {
  server_options.head_timeout = server_options.idle_timeout = 50ms;
  const Running server(echo, server_options);
  testing::Client silent(server.port());
  EXPECT_EQ(silent.read_to_end(), "");
}

TEST(Client, SaysWhyThereIsNoAnswer) {
  const Running server([](const auto& exchange) { exchange->respond({.status = 503, .body = "later"}); });
  Client good({.server = parse_url(server.url())});
  EXPECT_EQ(ask(good, "/").status, 503);
  Client nobody({.server = parse_url("http://127.0.0.1:1")});
  EXPECT_THAT(ask(nobody, "/").error, HasSubstr("cannot connect to 127.0.0.1:1"));
  Client no_tls(
      {.server = parse_url("https://127.0.0.1:" + std::to_string(server.port())), .tls = tls_for_client(false, "")});
  EXPECT_THAT(ask(no_tls, "/").error, HasSubstr("handshake failed"));
}

TEST(Client, CallsAtTheTimesThatItIsTold) {
  Client client({.server = parse_url("http://127.0.0.1:1")});
  std::string order;
  const auto now = std::chrono::steady_clock::now();
  client.at(now + 20ms, [&] { order += "b"; });
  client.at(now, [&] {
    order += "a";
    client.at(now + 30ms, [&] { order += "c"; });
  });
  client.run();
  EXPECT_EQ(order, "abc");
}

TEST(Tls, BelievesNobodyWithoutAReason) {
  const std::string folder = certificate_folder();
  if (folder.empty()) GTEST_SKIP() << "the program openssl is not here";
  const Running server(echo,
                       {.tls = tls_for_server({.certfile = folder + "/cert.pem", .keyfile = folder + "/key.pem"})});
  const std::string port = ":" + std::to_string(server.port());
  Client stranger({.server = parse_url("https://localhost" + port), .tls = tls_for_client(true, "")});
  EXPECT_THAT(ask(stranger, "/").error, HasSubstr("handshake failed"));
  Client other_name(
      {.server = parse_url("https://127.0.0.1" + port), .tls = tls_for_client(true, folder + "/cert.pem")});
  EXPECT_THAT(ask(other_name, "/").error, HasSubstr("handshake failed"));
  Client careless({.server = parse_url("https://127.0.0.1" + port), .tls = tls_for_client(false, "")});
  EXPECT_EQ(ask(careless, "/").body, "GET / ");
}

TEST(Tls, TellsWhoComesWithoutIt) {
  const std::string folder = certificate_folder();
  if (folder.empty()) GTEST_SKIP() << "the program openssl is not here";
  const Running server(echo,
                       {.tls = tls_for_server({.certfile = folder + "/cert.pem", .keyfile = folder + "/key.pem"})});
  testing::Client plain(server.port());
  plain.send_request("GET", "/");
  const testing::Answer answer = plain.read_answer();
  EXPECT_EQ(answer.status, 400);
  EXPECT_THAT(answer.body, HasSubstr("https://"));
  EXPECT_EQ(plain.read_to_end(), "");
}

TEST(Url, SaysWhereAServerIs) {
  const Url url = parse_url("https://[::1]:8443/base/");
  EXPECT_TRUE(url.tls);
  EXPECT_EQ(url.host, "::1");
  EXPECT_EQ(url.port, 8443);
  EXPECT_EQ(url.path, "/base");
  EXPECT_EQ(url.authority(), "[::1]:8443");
  EXPECT_EQ(parse_url("http://a.b").authority(), "a.b");
  EXPECT_EQ(parse_url("https://a.b").port, 443);
  for (const char* bad : {"", "a.b", "ftp://a", "http://", "http://:80", "http://a:0", "http://a:65536", "http://a:x",
                          "http://[::1", "http://[::1]x", "http://a?b", "http://u@a", "http://a b", "http://a\r\nb"})
    EXPECT_THROW(parse_url(bad), Error) << bad;
}

}  // namespace
}  // namespace cajal::http
