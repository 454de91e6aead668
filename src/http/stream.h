#pragma once
// The bytes of one connection, plain or through TLS, so that everything else need not know which. One thread uses it.
#include <boost/asio/ip/tcp.hpp>
#include <boost/system/error_code.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace cajal::http {

class Stream {
 public:
  using Socket = boost::asio::ip::tcp::socket;
  using Done = std::function<void(const boost::system::error_code&)>;
  using ReadDone = std::function<void(const boost::system::error_code&, std::size_t)>;
  enum class Greeting : std::uint8_t {
    done,
    plain_http,  // the client does not speak TLS; nothing was read, and socket() can be used without it
    failed,
  };
  virtual ~Stream() = default;

  // What goes before the first byte: TLS's handshake, or nothing. `why` tells what failed.
  virtual void greet(std::function<void(Greeting, const std::string& why)> done) = 0;
  // One at a time; `into` and `bytes` stay as they are until then. write() sends all of it.
  virtual void read_some(std::span<char> into, ReadDone done) = 0;
  virtual void write(std::string_view bytes, Done done) = 0;
  // Tells the other side that nothing follows; it may still be read from. `owner` of this stream lives until that is said.
  virtual void shutdown_send(std::shared_ptr<void> owner) = 0;
  virtual void close() = 0;  // whatever is under way ends with an error
  virtual Socket& socket() = 0;
};

std::unique_ptr<Stream> plain_stream(Stream::Socket socket);

}  // namespace cajal::http
