#pragma once
// A client that knows no more of HTTP than tests need, and may break every rule of it.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "http/message.h"

namespace cajal::http::testing {

struct Answer {
  int status = 0;  // 0: the connection ended before a whole answer was there
  std::vector<Header> headers;
  std::string body;  // without the framing of chunks
  std::string header(std::string_view name) const {
    const std::string* value = find_header(headers, name);
    return value ? *value : "";
  }
};

class Client {
 public:
  explicit Client(std::uint16_t port, int receive_bytes = 0) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_bytes > 0) ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  ~Client() { close(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
  }
  void send_request(std::string_view method, std::string_view target, std::string_view body = {},
                    std::string_view more_headers = {}) {
    std::string text = std::string(method) + " " + std::string(target) + " HTTP/1.1\r\nHost: localhost\r\n";
    text += more_headers;
    if (!body.empty()) text += "Content-Type: application/json\r\n";
    if (!body.empty() || method == "POST") text += "Content-Length: " + std::to_string(body.size()) + "\r\n";
    send(text + "\r\n");
    send(body);
  }

  // False when the other side has ended the connection.
  bool receive(int timeout_ms = 20000) {
    pollfd wanted{fd_, POLLIN, 0};
    if (::poll(&wanted, 1, timeout_ms) != 1) {
      ADD_FAILURE() << "nothing came within " << timeout_ms << " ms, after " << held_;
      return false;
    }
    char bytes[4096];
    const ssize_t count = ::recv(fd_, bytes, sizeof bytes, 0);
    if (count <= 0) return false;
    held_.append(bytes, static_cast<std::size_t>(count));
    return true;
  }
  // Everything up to `end`, and that; what there was if the connection ends before.
  std::string read_until(std::string_view end) {
    std::size_t at = 0;
    while ((at = held_.find(end)) == std::string::npos)
      if (!receive()) return take(held_.size());
    return take(at + end.size());
  }
  std::string read_to_end() {
    while (receive()) {
    }
    return take(held_.size());
  }

  // Of an answer without a body (HEAD, 204) `has_body` is false.
  Answer read_answer(bool has_body = true) {
    Answer answer = read_head();
    if (answer.status == 0 || !has_body || answer.status == 204) return answer;
    if (answer.header("Transfer-Encoding") == "chunked") {
      for (std::string chunk = read_chunk(); !chunk.empty(); chunk = read_chunk()) answer.body += chunk;
    } else if (const std::string length = answer.header("Content-Length"); !length.empty()) {
      answer.body = read(std::stoul(length));
    } else {
      answer.body = read_to_end();
    }
    return answer;
  }
  Answer read_head() {
    Answer answer;
    const std::string head = read_until("\r\n\r\n");
    if (!head.starts_with("HTTP/1.1 ") || !head.ends_with("\r\n\r\n")) return answer;
    answer.status = std::atoi(head.c_str() + 9);
    std::size_t at = head.find("\r\n") + 2;
    while (at + 2 < head.size()) {
      const std::size_t colon = head.find(": ", at), end = head.find("\r\n", at);
      answer.headers.push_back({head.substr(at, colon - at), head.substr(colon + 2, end - colon - 2)});
      at = end + 2;
    }
    return answer;
  }
  std::string read_chunk() {  // empty: the last one
    const std::size_t size = std::strtoul(read_until("\r\n").c_str(), nullptr, 16);
    const std::string chunk = read(size);
    read(2);
    return chunk;
  }
  std::string read(std::size_t count) {
    while (held_.size() < count)
      if (!receive()) return take(held_.size());
    return take(count);
  }

 private:
  std::string take(std::size_t count) {
    std::string taken = held_.substr(0, count);
    held_.erase(0, count);
    return taken;
  }
  int fd_;
  std::string held_;
};

inline Answer ask(std::uint16_t port, std::string_view method, std::string_view target, std::string_view body = {},
                  std::string_view more_headers = {}) {
  Client client(port);
  client.send_request(method, target, body, more_headers);
  return client.read_answer(method != "HEAD");
}

}  // namespace cajal::http::testing
