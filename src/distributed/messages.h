#pragma once
// What ranks say to each other beside their data: frames of a type and a few fields, in the byte order of the machine. Bytes
// come from a network: nothing is believed before it has been measured, and Error(data_loss) says what did not add up.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cajal {

inline constexpr std::uint32_t kRankProtocol = 1;
inline constexpr std::size_t kMaxFrameBytes = std::size_t{1} << 20;

enum class FrameType : std::uint32_t {
  hello = 1,  // a rank says who it is
  welcome,    // rank 0, once all are there: who everybody is
  refused,    // rank 0: why there will be no group
  heartbeat,
  failed,  // a rank can not go on, or is gone
  bye,     // a rank has come to its end as it should
  link,    // the first frame of a connection that carries data
};

struct Frame {
  FrameType type = FrameType::heartbeat;
  std::string payload;
};

// Name and value of what must be the same on all ranks: the model, the options, the build.
using Facts = std::vector<std::pair<std::string, std::string>>;

struct Hello {
  std::uint32_t protocol = kRankProtocol;
  std::int32_t rank = 0, world_size = 1;
  std::string host;             // ranks with the same text can share memory
  std::uint32_t data_port = 0;  // where it waits for connections that carry data
  Facts facts;
};

struct Peer {
  std::string host;
  std::string address;  // as rank 0 sees it; of rank 0 itself empty
  std::uint32_t data_port = 0;
};

struct Welcome {
  std::string token;      // what a connection that carries data must show
  std::string transport;  // "shared", "tcp" or "mpi"
  // Where "shared" finds its memory: a file that this process of rank 0 holds open.
  std::int32_t region_pid = 0, region_fd = -1;
  std::vector<Peer> peers;  // by rank
};

struct Failed {
  std::int32_t rank = 0;
  std::string why;  // to be read after "rank N"
};

struct Link {
  std::int32_t rank = 0;
  std::string token;
};

std::string encode(const Hello& hello);
std::string encode(const Welcome& welcome);
std::string encode(const Failed& failed);
std::string encode(const Link& link);
Hello decode_hello(std::string_view payload);
Welcome decode_welcome(std::string_view payload);
Failed decode_failed(std::string_view payload);
Link decode_link(std::string_view payload);

std::string frame(FrameType type, std::string_view payload = {});

// Frames from bytes as they come.
class FrameReader {
 public:
  void append(std::string_view bytes) { pending_ += bytes; }
  // The next whole frame. Error(data_loss) where what is there can not be the start of one.
  std::optional<Frame> next();

 private:
  std::string pending_;
};

}  // namespace cajal
