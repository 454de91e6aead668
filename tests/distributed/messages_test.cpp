#include "distributed/messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace cajal {
namespace {

TEST(Messages, EveryMessageComesBackAsItWas) {
  const Hello hello{.rank = 3, .world_size = 4, .host = "h", .data_port = 77, .facts = {{"a", "1"}, {"b", ""}}};
  const Hello h = decode_hello(encode(hello));
  EXPECT_EQ(std::tie(h.rank, h.world_size, h.host, h.data_port, h.facts),
            std::tie(hello.rank, hello.world_size, hello.host, hello.data_port, hello.facts));
  const Welcome welcome{
      .token = "t", .transport = "tcp", .region_pid = 5, .region_fd = 6, .peers = {{"h", "a", 1}, {}}};
  const Welcome w = decode_welcome(encode(welcome));
  EXPECT_EQ(std::tie(w.token, w.transport, w.region_pid, w.region_fd),
            std::tie(welcome.token, welcome.transport, welcome.region_pid, welcome.region_fd));
  ASSERT_EQ(w.peers.size(), 2U);
  EXPECT_EQ(w.peers[0].address, "a");
  EXPECT_EQ(decode_failed(encode(Failed{2, "died"})).why, "died");
  EXPECT_EQ(decode_link(encode(Link{2, "token"})).token, "token");
}

TEST(Messages, FramesAreFoundHoweverTheyAreCut) {
  const std::string bytes = frame(FrameType::hello, "first") + frame(FrameType::bye) + frame(FrameType::failed, "x");
  for (std::size_t step = 1; step <= bytes.size(); ++step) {
    FrameReader reader;
    std::string seen;
    for (std::size_t i = 0; i < bytes.size(); i += step) {
      reader.append(std::string_view(bytes).substr(i, step));
      while (const auto f = reader.next()) seen += std::to_string(static_cast<int>(f->type)) + f->payload + ";";
    }
    EXPECT_EQ(seen, "1first;6;5x;") << step;
  }
}

TEST(Messages, WhatDoesNotAddUpIsRefused) {
  const std::string whole = encode(Hello{.host = "host", .facts = {{"a", "1"}}});
  for (std::size_t n = 0; n < whole.size(); ++n) EXPECT_THROW(decode_hello(whole.substr(0, n)), Error) << n;
  EXPECT_THROW(decode_hello(whole + "x"), Error);
  for (const char* bytes : {"GET / HTTP/1.1", "CAJ2", "x"}) {
    FrameReader reader;
    reader.append(bytes);
    EXPECT_THROW(reader.next(), Error) << bytes;
  }
  FrameReader large;
  large.append(std::string("CAJ1\1\0\0\0\xff\xff\xff\x7f", 12));  // two gigabytes are to follow
  EXPECT_THROW(large.next(), Error);
}

}  // namespace
}  // namespace cajal
