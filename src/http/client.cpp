#include "http/client.h"

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <utility>

#include "base/error.h"
#include "http/response_reader.h"
#include "http/tls.h"

namespace cajal::http {
namespace {

namespace asio = boost::asio;
using Tcp = asio::ip::tcp;
using boost::system::error_code;

struct Task {
  std::string bytes;
  ReplyHandler handler;
};

}  // namespace

struct Client::Impl {
  explicit Impl(ClientOptions o) : options(std::move(o)) { look_up(); }
  void look_up();
  void start(Task task);

  class Connection;
  const ClientOptions options;
  asio::io_context io{1};
  std::vector<Tcp::endpoint> endpoints;
  std::vector<std::shared_ptr<Connection>> idle;  // the last used at the end
  std::size_t num_pending = 0;                    // requests and timers
};

// Has at most one request under way.
class Client::Impl::Connection : public std::enable_shared_from_this<Connection> {
 public:
  explicit Connection(Impl& client) : client_(client), timer_(client.io) {}

  void start(Task task) {
    task_ = std::move(task);
    reader_ = std::make_unique<ResponseReader>();
    answered_ = told_head_ = false;
    if (stream_) {
      reused_ = true;
      return write();
    }
    set_timer(client_.options.connect_timeout, "no connection within the time for it");
    connect(0);
  }

 private:
  void connect(std::size_t which) {
    connecting_ = std::make_unique<Tcp::socket>(client_.io);
    connecting_->async_connect(client_.endpoints[which], [self = shared_from_this(), which](const error_code& error) {
      if (self->over_) return;
      if (!error) return self->greet();
      if (which + 1 < self->client_.endpoints.size()) return self->connect(which + 1);
      self->end("cannot connect to " + self->client_.options.server.authority() + ": " + error.message());
    });
  }
  void greet() {
    const ClientOptions& o = client_.options;
    error_code ignored;
    connecting_->set_option(Tcp::no_delay(true), ignored);
    stream_ = o.tls ? tls_client_stream(std::move(*connecting_), *o.tls, o.server.host)
                    : plain_stream(std::move(*connecting_));
    connecting_ = nullptr;
    stream_->greet([self = shared_from_this()](Stream::Greeting greeting, const std::string& why) {
      if (self->over_) return;
      if (greeting != Stream::Greeting::done) return self->end("the TLS handshake failed: " + why);
      self->write();
    });
  }
  void write() {
    set_timer(client_.options.silence_timeout, "nothing came for too long");
    if (task_.handler.on_sent) task_.handler.on_sent();
    stream_->write(task_.bytes, [self = shared_from_this()](const error_code& error) {
      // What the server says in spite of it is of more use; reading sees the end in any case.
      if (error && !self->over_ && !self->reading_) self->end("writing failed: " + error.message());
    });
    read();
  }
  void read() {
    if (reading_) return;
    reading_ = true;
    stream_->read_some(buffer_, [self = shared_from_this()](const error_code& error, std::size_t count) {
      self->reading_ = false;
      if (!self->over_) self->on_read(error, count);
    });
  }
  void on_read(const error_code& error, std::size_t count) {
    if (idle_) return drop();  // the server has ended it
    std::string body;
    if (count > 0) answered_ = true;
    const auto state = error ? reader_->end_of_stream() : reader_->push({buffer_.data(), count}, body);
    if (state == ResponseReader::State::failed) {
      if (error && reused_ && !answered_) return retry();
      return end(reader_->failure());
    }
    if (state != ResponseReader::State::head && !std::exchange(told_head_, true) && task_.handler.on_head)
      task_.handler.on_head(reader_->status());
    if (!body.empty() && task_.handler.on_body) task_.handler.on_body(body);
    if (state == ResponseReader::State::complete) return finish(!error && reader_->keeps_alive());
    set_timer(client_.options.silence_timeout, "nothing came for too long");
    read();
  }
  // A kept connection may end just when it is used again.
  void retry() {
    Task task = std::move(task_);
    drop();
    std::make_shared<Connection>(client_)->start(std::move(task));
  }
  void finish(bool keep) {
    const ReplyHandler handler = std::exchange(task_, {}).handler;
    timer_.cancel();
    if (keep) {
      idle_ = true;
      client_.idle.push_back(shared_from_this());
      read();
    } else {
      drop();
    }
    --client_.num_pending;
    if (handler.on_end) handler.on_end({});
  }
  void end(const std::string& error) {
    const ReplyHandler handler = std::exchange(task_, {}).handler;
    drop();
    --client_.num_pending;
    if (handler.on_end) handler.on_end(error);
  }
  void drop() {
    over_ = true;
    timer_.cancel();
    error_code ignored;
    if (connecting_) connecting_->close(ignored);
    if (stream_) stream_->close();
    std::erase(client_.idle, shared_from_this());
  }
  void set_timer(std::chrono::milliseconds time, const char* what) {
    timer_.expires_after(time);
    timer_.async_wait([self = shared_from_this(), what](const error_code& error) {
      if (!error && !self->over_ && !self->idle_) self->end(what);
    });
  }

 public:
  void wake() { idle_ = false; }
  void close() { drop(); }

 private:
  Impl& client_;
  asio::steady_timer timer_;
  std::unique_ptr<Tcp::socket> connecting_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<ResponseReader> reader_;
  std::array<char, 16 << 10> buffer_{};
  Task task_;
  bool reused_ = false, answered_ = false, told_head_ = false, reading_ = false, idle_ = false, over_ = false;
};

void Client::Impl::look_up() {
  try {
    Tcp::resolver resolver(io);
    for (const auto& found : resolver.resolve(options.server.host, std::to_string(options.server.port),
                                              asio::ip::resolver_base::numeric_service))
      endpoints.push_back(found.endpoint());
  } catch (const boost::system::system_error& e) {
    fail(ErrorCode::unavailable, "cannot find ", options.server.host, ": ", e.code().message(),
         remedy("check the name, or give an address"));
  }
}

void Client::Impl::start(Task task) {
  if (idle.empty()) return std::make_shared<Connection>(*this)->start(std::move(task));
  const auto connection = std::move(idle.back());
  idle.pop_back();
  connection->wake();
  connection->start(std::move(task));
}

Client::Client(const ClientOptions& options) : impl_(std::make_unique<Impl>(options)) {
  CAJAL_CHECK(options.server.tls == (options.tls != nullptr));
}

Client::~Client() {
  while (!impl_->idle.empty()) impl_->idle.back()->close();
}

void Client::send(std::string_view method, std::string_view path, const std::vector<Header>& headers,
                  std::string_view body, ReplyHandler handler) {
  const Url& server = impl_->options.server;
  std::string bytes = detail::join(method, " ", server.path, path, " HTTP/1.1\r\nHost: ", server.authority(), "\r\n");
  for (const Header& header : headers) bytes += header.name + ": " + header.value + "\r\n";
  if (!body.empty()) bytes += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  bytes += "\r\n";
  bytes += body;
  ++impl_->num_pending;
  impl_->start({std::move(bytes), std::move(handler)});
}

void Client::at(std::chrono::steady_clock::time_point time, std::function<void()> what) {
  auto timer = std::make_shared<asio::steady_timer>(impl_->io, time);
  ++impl_->num_pending;
  timer->async_wait([this, timer, what = std::move(what)](const error_code& error) {
    --impl_->num_pending;
    if (!error) what();
  });
}

void Client::run() {
  // Kept connections wait for their end, and so the context never runs out of work by itself.
  impl_->io.restart();
  while (impl_->num_pending > 0) impl_->io.run_one();
}

}  // namespace cajal::http
