#include "distributed/messages.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace cajal {
namespace {

constexpr std::uint32_t kMagic = 0x314a4143;  // "CAJ1"
constexpr std::size_t kHeaderBytes = 12;
constexpr std::uint32_t kMaxEntries = 1U << 16;

class Writer {
 public:
  template <class T>
  Writer& number(T value) {
    static_assert(sizeof(T) == 4);
    char raw[4];
    std::memcpy(raw, &value, sizeof raw);
    bytes_.append(raw, sizeof raw);
    return *this;
  }
  Writer& text(std::string_view value) {
    number(static_cast<std::uint32_t>(value.size()));
    bytes_ += value;
    return *this;
  }
  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

class Reader {
 public:
  Reader(std::string_view bytes, const char* what) : bytes_(bytes), what_(what) {}

  template <class T>
  void number(T& into) {
    static_assert(sizeof(T) == 4);
    std::memcpy(&into, take(4).data(), 4);
  }
  void text(std::string& into) {
    std::uint32_t length = 0;
    number(length);
    into = take(length);
  }
  std::uint32_t count() {
    std::uint32_t n = 0;
    number(n);
    if (n > kMaxEntries) fail(ErrorCode::data_loss, "message '", what_, "': ", n, " entries, at most ", kMaxEntries);
    return n;
  }
  void end() const {
    if (!bytes_.empty()) fail(ErrorCode::data_loss, "message '", what_, "': ", bytes_.size(), " bytes too many");
  }

 private:
  std::string_view take(std::size_t n) {
    if (n > bytes_.size())
      fail(ErrorCode::data_loss, "message '", what_, "': ", bytes_.size(), " bytes are left where ", n, " are told");
    const auto taken = bytes_.substr(0, n);
    bytes_.remove_prefix(n);
    return taken;
  }

  std::string_view bytes_;
  const char* what_;
};

}  // namespace

std::string encode(const Hello& hello) {
  Writer w;
  w.number(hello.protocol).number(hello.rank).number(hello.world_size).text(hello.host).number(hello.data_port);
  w.number(static_cast<std::uint32_t>(hello.facts.size()));
  for (const auto& [name, value] : hello.facts) w.text(name).text(value);
  return w.take();
}

Hello decode_hello(std::string_view payload) {
  Reader r(payload, "hello");
  Hello hello;
  r.number(hello.protocol);
  if (hello.protocol != kRankProtocol) return hello;  // the rest is unknown; the number says enough
  r.number(hello.rank);
  r.number(hello.world_size);
  r.text(hello.host);
  r.number(hello.data_port);
  for (std::uint32_t n = r.count(); n > 0; --n) {
    auto& [name, value] = hello.facts.emplace_back();
    r.text(name);
    r.text(value);
  }
  r.end();
  return hello;
}

std::string encode(const Welcome& welcome) {
  Writer w;
  w.text(welcome.token).text(welcome.transport).number(welcome.region_pid).number(welcome.region_fd);
  w.number(static_cast<std::uint32_t>(welcome.peers.size()));
  for (const Peer& peer : welcome.peers) w.text(peer.host).text(peer.address).number(peer.data_port);
  return w.take();
}

Welcome decode_welcome(std::string_view payload) {
  Reader r(payload, "welcome");
  Welcome welcome;
  r.text(welcome.token);
  r.text(welcome.transport);
  r.number(welcome.region_pid);
  r.number(welcome.region_fd);
  for (std::uint32_t n = r.count(); n > 0; --n) {
    Peer& peer = welcome.peers.emplace_back();
    r.text(peer.host);
    r.text(peer.address);
    r.number(peer.data_port);
  }
  r.end();
  return welcome;
}

std::string encode(const Failed& failed) { return Writer().number(failed.rank).text(failed.why).take(); }

Failed decode_failed(std::string_view payload) {
  Reader r(payload, "failed");
  Failed failed;
  r.number(failed.rank);
  r.text(failed.why);
  r.end();
  return failed;
}

std::string encode(const Link& link) { return Writer().number(link.rank).text(link.token).take(); }

Link decode_link(std::string_view payload) {
  Reader r(payload, "link");
  Link link;
  r.number(link.rank);
  r.text(link.token);
  r.end();
  return link;
}

std::string frame(FrameType type, std::string_view payload) {
  CAJAL_CHECK(payload.size() <= kMaxFrameBytes, payload.size(), " bytes in a frame");
  return Writer().number(kMagic).number(static_cast<std::uint32_t>(type)).text(payload).take();
}

std::optional<Frame> FrameReader::next() {
  const std::size_t seen = std::min(pending_.size(), sizeof kMagic);
  if (std::memcmp(pending_.data(), &kMagic, seen) != 0)
    fail(ErrorCode::data_loss, "what came does not start like a message of a rank");
  if (pending_.size() < kHeaderBytes) return std::nullopt;
  std::uint32_t type = 0, length = 0;
  std::memcpy(&type, pending_.data() + 4, 4);
  std::memcpy(&length, pending_.data() + 8, 4);
  if (type < static_cast<std::uint32_t>(FrameType::hello) || type > static_cast<std::uint32_t>(FrameType::link))
    fail(ErrorCode::data_loss, "a message of type ", type, ", which there is not");
  if (length > kMaxFrameBytes) fail(ErrorCode::data_loss, "a message of ", length, " bytes, at most ", kMaxFrameBytes);
  if (pending_.size() < kHeaderBytes + length) return std::nullopt;
  Frame result{static_cast<FrameType>(type), pending_.substr(kHeaderBytes, length)};
  pending_.erase(0, kHeaderBytes + length);
  return result;
}

}  // namespace cajal
