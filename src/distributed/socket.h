#pragma once
// Stream sockets between ranks: IPv4, IPv6, and a machine's own (abstract Unix) ones. None blocks: whoever waits polls, with
// a deadline.
#include <chrono>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace cajal {

using Deadline = std::chrono::steady_clock::time_point;

struct Endpoint {
  std::string host;  // a name or an address, or several after each other with commas between, of which one will do
  int port = 0;
  std::string local_name;  // where it is not empty: a name on this machine instead
  std::string text() const;
};

class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() { close(); }
  Socket(Socket&& other) noexcept;
  Socket& operator=(Socket&& other) noexcept;

  int fd() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  void close();

  enum class Status { done, would_block, closed };
  // What is there, at most `into.size()` bytes; `got` says how many.
  Status receive(std::span<char> into, std::size_t& got);
  Status send(std::string_view bytes, std::size_t& sent);
  // The whole of it; false where the other side is gone or does not take it before the deadline.
  bool send_all(std::string_view bytes, Deadline deadline);

  int local_port() const;
  std::string local_address() const;
  std::string peer_address() const;  // both numeric, without the port; empty on a machine's own sockets

 private:
  int fd_ = -1;
};

// Listens at the endpoint: at its host's address where that is one of this machine's, else at every address. Port 0 takes
// any that is free. Error(unavailable) says which address and why.
Socket listen_at(const Endpoint& at);
// The next connection that waits, if one does. Local ones of other users are turned away.
std::optional<Socket> accept_from(const Socket& listener);
// Tries until the deadline, for the other side may start later. Error(unavailable) names the endpoint and the last reason.
Socket connect_to(const Endpoint& to, Deadline deadline);
// Waits until the descriptor has something to read, or until the deadline: false.
bool wait_readable(int fd, Deadline deadline);
// Every address of this machine but the loopback's, with commas between.
std::string own_addresses();

}  // namespace cajal
