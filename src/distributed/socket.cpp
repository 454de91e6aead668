#include "distributed/socket.h"

#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"

namespace cajal {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kRetryAfter = std::chrono::milliseconds(50);
constexpr auto kOneAttempt =
    std::chrono::seconds(5);  // an address that drops packets must not use up the time of others

struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

Address local_address(const std::string& name) {
  Address a;
  auto* un = reinterpret_cast<sockaddr_un*>(&a.storage);
  un->sun_family = AF_UNIX;
  const std::size_t n = std::min(name.size(), sizeof un->sun_path - 1);
  std::memcpy(un->sun_path + 1, name.data(), n);  // the first byte stays 0: a name that no file stands for
  a.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + n);
  return a;
}

std::vector<Address> resolve(const Endpoint& endpoint, bool passive, std::string& why) {
  if (!endpoint.local_name.empty()) return {local_address(endpoint.local_name)};
  std::vector<Address> result;
  std::string_view hosts = endpoint.host;
  do {
    const auto comma = hosts.find(',');
    const std::string host(hosts.substr(0, comma));
    hosts.remove_prefix(comma == std::string_view::npos ? hosts.size() : comma + 1);
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = passive ? AI_PASSIVE : 0;
    addrinfo* found = nullptr;
    const int error =
        getaddrinfo(host.empty() ? nullptr : host.c_str(), std::to_string(endpoint.port).c_str(), &hints, &found);
    if (error != 0) {
      why = gai_strerror(error);
      continue;
    }
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
    for (const addrinfo* a = found; a != nullptr; a = a->ai_next) {
      Address& address = result.emplace_back();
      std::memcpy(&address.storage, a->ai_addr, a->ai_addrlen);
      address.length = a->ai_addrlen;
    }
  } while (!hosts.empty());
  return result;
}

Socket make_socket(int family) {
  Socket s(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  if (s.is_open() && family != AF_UNIX) ::setsockopt(s.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return s;
}

// Listens there, or says why not in errno.
Socket try_listen(const Address& address) {
  Socket s = make_socket(address.storage.ss_family);
  const int on = 1, off = 0;
  if (!s.is_open()) return s;
  ::setsockopt(s.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (address.storage.ss_family == AF_INET6) ::setsockopt(s.fd(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (::bind(s.fd(), address.get(), address.length) != 0 || ::listen(s.fd(), 256) != 0) {
    const int reason = errno;
    s.close();
    errno = reason;
  }
  return s;
}

Socket try_connect(const Address& address, Deadline deadline, std::string& why) {
  Socket s = make_socket(address.storage.ss_family);
  if (s.is_open() && ::connect(s.fd(), address.get(), address.length) == 0) return s;
  int reason = errno;
  if (s.is_open() && reason == EINPROGRESS) {
    pollfd waiting{s.fd(), POLLOUT, 0};
    const auto until = std::min(deadline, Clock::now() + kOneAttempt);
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count();
    reason = ETIMEDOUT;
    if (::poll(&waiting, 1, static_cast<int>(std::max<long>(left, 0))) > 0) {
      socklen_t size = sizeof reason;
      ::getsockopt(s.fd(), SOL_SOCKET, SO_ERROR, &reason, &size);
    }
    if (reason == 0) return s;
  }
  why = std::strerror(reason);
  return {};
}

bool is_of_this_user(const Socket& local) {
  ucred other{};
  socklen_t size = sizeof other;
  return ::getsockopt(local.fd(), SOL_SOCKET, SO_PEERCRED, &other, &size) == 0 && other.uid == ::geteuid();
}

std::string numeric(const sockaddr* address, socklen_t length) {
  char text[NI_MAXHOST] = "";
  if (getnameinfo(address, length, text, sizeof text, nullptr, 0, NI_NUMERICHOST) != 0) return "";
  // An IPv4 peer of a socket that takes both.
  const std::string_view mapped = "::ffff:";
  return std::string_view(text).starts_with(mapped) ? text + mapped.size() : text;
}

}  // namespace

std::string Endpoint::text() const {
  return local_name.empty() ? detail::join(host, " port ", port) : detail::join("'", local_name, "' on this machine");
}

Socket::Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
Socket& Socket::operator=(Socket&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}
void Socket::close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

Socket::Status Socket::receive(std::span<char> into, std::size_t& got) {
  got = 0;
  for (;;) {
    const auto n = ::recv(fd_, into.data(), into.size(), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Status::would_block;
    if (n <= 0) return Status::closed;
    got = static_cast<std::size_t>(n);
    return Status::done;
  }
}

Socket::Status Socket::send(std::string_view bytes, std::size_t& sent) {
  sent = 0;
  for (;;) {
    const auto n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Status::would_block;
    if (n < 0) return Status::closed;
    sent = static_cast<std::size_t>(n);
    return Status::done;
  }
}

bool Socket::send_all(std::string_view bytes, Deadline deadline) {
  while (!bytes.empty()) {
    std::size_t sent = 0;
    switch (send(bytes, sent)) {
      case Status::closed: return false;
      case Status::done: bytes.remove_prefix(sent); break;
      case Status::would_block: {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
        pollfd waiting{fd_, POLLOUT, 0};
        if (left <= 0 || ::poll(&waiting, 1, static_cast<int>(left)) == 0) return false;
      }
    }
  }
  return true;
}

int Socket::local_port() const {
  sockaddr_storage a{};
  socklen_t size = sizeof a;
  if (::getsockname(fd_, reinterpret_cast<sockaddr*>(&a), &size) != 0) return 0;
  if (a.ss_family == AF_INET) return ntohs(reinterpret_cast<sockaddr_in*>(&a)->sin_port);
  return a.ss_family == AF_INET6 ? ntohs(reinterpret_cast<sockaddr_in6*>(&a)->sin6_port) : 0;
}

std::string Socket::local_address() const {
  sockaddr_storage a{};
  socklen_t size = sizeof a;
  if (::getsockname(fd_, reinterpret_cast<sockaddr*>(&a), &size) != 0 || a.ss_family == AF_UNIX) return "";
  return numeric(reinterpret_cast<sockaddr*>(&a), size);
}

std::string Socket::peer_address() const {
  sockaddr_storage a{};
  socklen_t size = sizeof a;
  if (::getpeername(fd_, reinterpret_cast<sockaddr*>(&a), &size) != 0 || a.ss_family == AF_UNIX) return "";
  return numeric(reinterpret_cast<sockaddr*>(&a), size);
}

Socket listen_at(const Endpoint& at) {
  std::string why;
  for (const Address& address : resolve(at, true, why)) {
    if (Socket s = try_listen(address); s.is_open()) return s;
    why = std::strerror(errno);
    if (errno == EADDRINUSE) break;  // other addresses would only hide that somebody else has the port
  }
  // A name that stands for another machine's address on the outside, as with translated addresses.
  if (at.local_name.empty() && !at.host.empty() && why == std::strerror(EADDRNOTAVAIL))
    return listen_at({.host = "", .port = at.port, .local_name = ""});
  fail(ErrorCode::unavailable, "this rank cannot listen at ", at.text(), ": ", why,
       remedy("choose another MASTER_PORT, or end what uses it"));
}

std::optional<Socket> accept_from(const Socket& listener) {
  Socket s(::accept4(listener.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!s.is_open()) return std::nullopt;
  sockaddr_storage a{};
  socklen_t size = sizeof a;
  if (::getsockname(s.fd(), reinterpret_cast<sockaddr*>(&a), &size) == 0 && a.ss_family == AF_UNIX)
    return is_of_this_user(s) ? std::optional(std::move(s)) : std::nullopt;
  const int on = 1;
  ::setsockopt(s.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return s;
}

Socket connect_to(const Endpoint& to, Deadline deadline) {
  std::string why = "no time was left";
  for (;;) {
    for (const Address& address : resolve(to, false, why)) {
      Socket s = try_connect(address, deadline, why);
      if (s.is_open() && (to.local_name.empty() || is_of_this_user(s))) return s;
      if (s.is_open()) why = "it belongs to another user";
    }
    if (Clock::now() + kRetryAfter >= deadline) break;
    std::this_thread::sleep_for(kRetryAfter);
  }
  fail(ErrorCode::unavailable, "no answer from ", to.text(), ": ", why);
}

bool wait_readable(int fd, Deadline deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
  pollfd waiting{fd, POLLIN, 0};
  return ::poll(&waiting, 1, static_cast<int>(std::max<long>(left, 0))) > 0;
}

std::string own_addresses() {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return "127.0.0.1";
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(list, freeifaddrs);
  std::string result;
  for (const ifaddrs* i = list; i != nullptr; i = i->ifa_next) {
    if (i->ifa_addr == nullptr || (i->ifa_flags & IFF_LOOPBACK) != 0 || (i->ifa_flags & IFF_UP) == 0) continue;
    const int family = i->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    const auto text = numeric(i->ifa_addr, family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    if (!text.empty()) result += (result.empty() ? "" : ",") + text;
  }
  return result.empty() ? "127.0.0.1" : result;
}

}  // namespace cajal
