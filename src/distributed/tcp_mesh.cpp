#include "distributed/tcp_mesh.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/log.h"

namespace cajal {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kLinkWithin = std::chrono::seconds(2);
constexpr auto kVerdictWithin = std::chrono::seconds(10);
constexpr int kLookForFailuresMs = 50;
constexpr auto kWatchFor = std::chrono::microseconds(50);  // before a rank sleeps until something comes

// What goes before every piece, so that ranks which have lost step are found at once.
struct Header {
  std::uint64_t tag = 0, bytes = 0;
};

class TcpMesh final : public Carrier {
 public:
  TcpMesh(std::vector<Socket> links, std::shared_ptr<SharedRegion> region)
      : links_(std::move(links)), region_(std::move(region)) {}

  void exchange(std::span<const Piece> pieces, std::uint64_t tag) override {
    moves_.clear();
    for (const Piece& piece : pieces) {
      if (piece.out.empty() && piece.in.empty()) continue;
      Move& move = moves_.emplace_back();
      move.piece = &piece;
      move.sent_header = {tag, piece.out.size()};
      move.got_header = {0, 0};
      move.to_send = piece.out.empty() ? 0 : sizeof(Header) + piece.out.size();
      move.to_get = piece.in.empty() ? 0 : sizeof(Header) + piece.in.size();
    }
    for (Clock::time_point idle_since = Clock::now();;) {
      bool moved = false;
      std::size_t open = 0;
      for (Move& move : moves_) {
        moved = (send(move) | receive(move, tag)) || moved;
        open += move.is_done() ? 0 : 1;
      }
      if (open == 0) return;
      const auto now = Clock::now();
      if (moved) idle_since = now;
      if (now - idle_since > kWatchFor) sleep();
    }
  }

 private:
  struct Move {
    const Piece* piece;
    Header sent_header, got_header;
    std::size_t to_send, to_get, sent = 0, got = 0;
    bool is_done() const { return sent == to_send && got == to_get; }
  };

  Socket& link(const Move& move) { return links_[static_cast<std::size_t>(move.piece->world_rank)]; }

  bool send(Move& move) {
    bool moved = false;
    while (move.sent < move.to_send) {
      const bool header = move.sent < sizeof(Header);
      const auto bytes = header ? std::as_bytes(std::span(&move.sent_header, 1)).subspan(move.sent)
                                : move.piece->out.subspan(move.sent - sizeof(Header));
      std::size_t n = 0;
      const auto status = link(move).send({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, n);
      if (status == Socket::Status::closed) fail_at(move);
      if (status == Socket::Status::would_block) break;
      move.sent += n;
      moved = true;
    }
    return moved;
  }

  bool receive(Move& move, std::uint64_t tag) {
    bool moved = false;
    while (move.got < move.to_get) {
      const bool header = move.got < sizeof(Header);
      const auto bytes = header ? std::as_writable_bytes(std::span(&move.got_header, 1)).subspan(move.got)
                                : move.piece->in.subspan(move.got - sizeof(Header));
      std::size_t n = 0;
      const auto status = link(move).receive({reinterpret_cast<char*>(bytes.data()), bytes.size()}, n);
      if (status == Socket::Status::closed) fail_at(move);
      if (status == Socket::Status::would_block) break;
      move.got += n;
      moved = true;
      if (header && move.got == sizeof(Header))
        CAJAL_CHECK(move.got_header.tag == tag && move.got_header.bytes == move.piece->in.size(), "rank ",
                    move.piece->world_rank, " sends ", move.got_header.bytes, " bytes in call ",
                    move.got_header.tag & 0xffffffffU, ", expected ", move.piece->in.size(), " in call ",
                    tag & 0xffffffffU);
    }
    return moved;
  }

  // The other side may have gone because of a third rank. Who it was, rank 0 knows and is about to say, or it is rank 0 and
  // this rank's own watch is about to find out: later than the other side's, if this one was kept from running.
  [[noreturn]] void fail_at(const Move& move) {
    const auto deadline = Clock::now() + kVerdictWithin;
    while (!region_->failed() && Clock::now() < deadline) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    region_->report_failure(move.piece->world_rank, "has closed its connection while others wait for it");
    region_->throw_failure();
  }

  void sleep() {
    fds_.clear();
    for (const Move& move : moves_) {
      if (move.is_done()) continue;
      const auto wanted = (move.got < move.to_get ? POLLIN : 0) | (move.sent < move.to_send ? POLLOUT : 0);
      fds_.push_back({link(move).fd(), static_cast<short>(wanted), 0});
    }
    ::poll(fds_.data(), fds_.size(), kLookForFailuresMs);
    if (region_->failed()) region_->throw_failure();
  }

  std::vector<Socket> links_;  // by world rank
  std::shared_ptr<SharedRegion> region_;
  std::vector<Move> moves_;
  std::vector<pollfd> fds_;
};

Socket connect_to_peer(int rank, int peer, const Welcome& welcome, Deadline deadline) {
  const Peer& p = welcome.peers[static_cast<std::size_t>(peer)];
  Socket s = with_context(detail::join("connecting to rank ", peer), [&] {
    return connect_to({.host = p.address, .port = static_cast<int>(p.data_port), .local_name = ""}, deadline);
  });
  if (!s.send_all(frame(FrameType::link, encode(Link{rank, welcome.token})), deadline))
    fail(ErrorCode::unavailable, "rank ", peer, " died at the start");
  return s;
}

// Which rank a new connection belongs to, or -1. The frame is read byte by byte past nothing: data may follow it.
int read_link(Socket& s, const Welcome& welcome) {
  const std::size_t length = frame(FrameType::link, encode(Link{0, welcome.token})).size();
  const auto deadline = Clock::now() + kLinkWithin;
  FrameReader reader;
  std::string text(length, '\0');
  for (std::size_t have = 0; have < length;) {
    std::size_t got = 0;
    const auto status = s.receive(std::span(text).subspan(have), got);
    if (status == Socket::Status::closed) return -1;
    if (status == Socket::Status::would_block && !wait_readable(s.fd(), deadline)) return -1;
    have += got;
  }
  try {
    reader.append(text);
    const auto f = reader.next();
    if (!f || f->type != FrameType::link) return -1;
    const Link link = decode_link(f->payload);
    return link.token == welcome.token ? link.rank : -1;
  } catch (const Error&) {
    return -1;
  }
}

}  // namespace

std::shared_ptr<Carrier> make_tcp_mesh(int rank, const Welcome& welcome, const Socket& listener,
                                       std::shared_ptr<SharedRegion> region, Deadline deadline) {
  const int size = static_cast<int>(welcome.peers.size());
  std::vector<Socket> links(welcome.peers.size());
  for (int peer = 0; peer < rank; ++peer)
    links[static_cast<std::size_t>(peer)] = connect_to_peer(rank, peer, welcome, deadline);
  for (int left = size - 1 - rank; left > 0;) {
    if (region->failed()) region->throw_failure();
    if (Clock::now() > deadline) {
      const auto missing =
          std::find_if(links.begin() + rank + 1, links.end(), [](const Socket& s) { return !s.is_open(); });
      fail(ErrorCode::unavailable, "rank ", missing - links.begin(), " does not connect to rank ", rank,
           remedy("look whether hosts may reach each other at every port, or set CAJAL_TRANSPORT"));
    }
    if (!wait_readable(listener.fd(), std::min(deadline, Clock::now() + std::chrono::milliseconds(kLookForFailuresMs))))
      continue;
    auto accepted = accept_from(listener);
    if (!accepted) continue;
    const int peer = read_link(*accepted, welcome);
    if (peer <= rank || peer >= size || links[static_cast<std::size_t>(peer)].is_open()) {
      log_warning("a connection from ", accepted->peer_address(), " is turned away: it belongs to no rank");
      continue;
    }
    links[static_cast<std::size_t>(peer)] = std::move(*accepted);
    --left;
  }
  return std::make_shared<TcpMesh>(std::move(links), std::move(region));
}

}  // namespace cajal
