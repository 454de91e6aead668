#include <boost/asio/buffer.hpp>
#include <boost/asio/write.hpp>
#include <utility>

#include "http/stream.h"

namespace cajal::http {
namespace {

namespace asio = boost::asio;

class PlainStream final : public Stream {
 public:
  explicit PlainStream(Socket socket) : socket_(std::move(socket)) {}

  void greet(std::function<void(Greeting, const std::string&)> done) override { done(Greeting::done, {}); }
  void read_some(std::span<char> into, ReadDone done) override {
    socket_.async_read_some(asio::buffer(into.data(), into.size()), std::move(done));
  }
  void write(std::string_view bytes, Done done) override {
    asio::async_write(socket_, asio::buffer(bytes.data(), bytes.size()),
                      [done = std::move(done)](const auto& error, std::size_t) { done(error); });
  }
  void shutdown_send(std::shared_ptr<void>) override {
    boost::system::error_code ignored;
    socket_.shutdown(Socket::shutdown_send, ignored);
  }
  void close() override {
    boost::system::error_code ignored;
    socket_.close(ignored);
  }
  Socket& socket() override { return socket_; }

 private:
  Socket socket_;
};

}  // namespace

std::unique_ptr<Stream> plain_stream(Stream::Socket socket) { return std::make_unique<PlainStream>(std::move(socket)); }

}  // namespace cajal::http
