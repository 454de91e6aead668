#include "http/server.h"

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <csignal>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "http/connection.h"
#include "http/tls.h"

namespace cajal::http {
namespace {

namespace asio = boost::asio;
using Tcp = asio::ip::tcp;

constexpr std::chrono::milliseconds kAcceptPause{100};

}  // namespace

struct Server::Impl {
  Impl(const ServerOptions& o, Handler h, ErrorPage e)
      : options(o),
        handler(std::move(h)),
        error_page(std::move(e)),
        acceptor(io),
        pause(io),
        drain_timer(io),
        signals(io),
        pool{io, options, handler, error_page, {}, false, {}} {
    listen();
  }

  void listen();
  void accept();
  void on_accepted(const boost::system::error_code& error, Tcp::socket socket);
  void stop();
  void drain(std::chrono::nanoseconds timeout);
  void wait_for_signal(std::function<void(int)> callback);

  const ServerOptions options;
  const Handler handler;
  const ErrorPage error_page;
  asio::io_context io{1};
  Tcp::acceptor acceptor;
  asio::steady_timer pause, drain_timer;
  asio::signal_set signals;
  ConnectionPool pool;
  std::atomic<std::size_t> num_connections = 0;
};

void Server::Impl::listen() {
  try {
    Tcp::resolver resolver(io);
    const auto found =
        resolver.resolve(options.host, std::to_string(options.port), asio::ip::resolver_base::numeric_service);
    const Tcp::endpoint endpoint = found.begin()->endpoint();
    acceptor.open(endpoint.protocol());
    acceptor.set_option(Tcp::acceptor::reuse_address(true));
    acceptor.bind(endpoint);
    acceptor.listen();
  } catch (const boost::system::system_error& e) {
    fail(ErrorCode::unavailable, "cannot listen on ", options.host, " port ", options.port, ": ", e.code().message(),
         remedy("choose another --port or --host, or end the program that has it"));
  }
}

void Server::Impl::accept() {
  acceptor.async_accept([this](const auto& error, Tcp::socket socket) { on_accepted(error, std::move(socket)); });
}

void Server::Impl::on_accepted(const boost::system::error_code& error, Tcp::socket socket) {
  if (error == asio::error::operation_aborted) return;
  if (error) {  // no descriptors are left, perhaps: some will be, soon
    pause.expires_after(kAcceptPause);
    pause.async_wait([this](const auto& e) {
      if (!e) accept();
    });
    return;
  }
  // Those that only wait for another request give way: who keeps many open keeps nobody out.
  if (pool.connections.size() >= options.max_connections) pool.close_longest_idle();
  if (pool.connections.size() < options.max_connections) {
    auto stream = options.tls ? tls_server_stream(std::move(socket), *options.tls) : plain_stream(std::move(socket));
    auto connection = std::make_shared<Connection>(pool, std::move(stream));
    pool.connections.insert(connection);
    connection->start();
  }
  num_connections = pool.connections.size();
  accept();
}

void Server::Impl::stop() {
  boost::system::error_code ignored;
  acceptor.close(ignored);
  pool.on_idle = {};
  const std::vector<std::shared_ptr<Connection>> all(pool.connections.begin(), pool.connections.end());
  for (const auto& connection : all) connection->close();
  num_connections = 0;
  io.stop();
}

void Server::Impl::drain(std::chrono::nanoseconds timeout) {
  if (pool.draining) return;
  pool.draining = true;
  // Posted, so that who has ended its exchange is done with it.
  pool.on_idle = [this] {
    num_connections = pool.connections.size();
    asio::post(io, [this] {
      if (pool.draining && !pool.has_exchange()) stop();
    });
  };
  drain_timer.expires_after(std::chrono::duration_cast<asio::steady_timer::duration>(timeout));
  drain_timer.async_wait([this](const auto& error) {
    if (!error) stop();
  });
  const std::vector<std::shared_ptr<Connection>> all(pool.connections.begin(), pool.connections.end());
  for (const auto& connection : all)
    if (connection->is_idle()) connection->close();
  pool.on_idle();
}

void Server::Impl::wait_for_signal(std::function<void(int)> callback) {
  signals.async_wait([this, callback = std::move(callback)](const auto& error, int number) {
    if (error) return;
    callback(number);
    wait_for_signal(callback);
  });
}

Server::Server(const ServerOptions& options, Handler handler, ErrorPage error_page)
    : impl_(std::make_unique<Impl>(options, std::move(handler), std::move(error_page))) {
  impl_->pool.on_idle = [impl = impl_.get()] { impl->num_connections = impl->pool.connections.size(); };
}

Server::~Server() { impl_->stop(); }

std::uint16_t Server::port() const { return impl_->acceptor.local_endpoint().port(); }

std::string Server::url() const {
  const std::string& host = impl_->options.host;
  return detail::join(impl_->options.tls ? "https://" : "http://",
                      host.find(':') == std::string::npos ? host : "[" + host + "]", ":", port());
}

void Server::run() {
  impl_->accept();
  while (!impl_->io.stopped()) {
    try {
      impl_->io.run();
    } catch (const std::exception& e) {
      log_warning("serving goes on after ", e.what());
    }
  }
}

void Server::stop() {
  asio::post(impl_->io, [impl = impl_.get()] { impl->stop(); });
}

void Server::drain(std::chrono::nanoseconds timeout) {
  asio::post(impl_->io, [impl = impl_.get(), timeout] { impl->drain(timeout); });
}

void Server::on_signals(std::function<void(int)> callback) {
  impl_->signals.add(SIGINT);
  impl_->signals.add(SIGTERM);
  impl_->wait_for_signal(std::move(callback));
}

std::size_t Server::num_connections() const { return impl_->num_connections; }

}  // namespace cajal::http
