#include "http/request_parser.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace cajal::http {
namespace {

using State = RequestParser::State;

const RequestLimits kSmall{.head_bytes = 512, .num_headers = 8, .body_bytes = 64};

std::string get(const std::string& headers = {}, const std::string& target = "/a") {
  return "GET " + target + " HTTP/1.1\r\nHost: h\r\n" + headers + "\r\n";
}
std::string post(const std::string& headers, const std::string& body) {
  return "POST /a HTTP/1.1\r\nHost: h\r\n" + headers + "\r\n" + body;
}

std::string described(Request r) {
  std::string text = r.method + "|" + r.path + "|" + r.query + "|" + r.version + "|" + (r.keep_alive ? "k" : "c");
  for (const Header& h : r.headers) text += "|" + h.name + "=" + h.value;
  return text + "|" + r.body;
}

TEST(RequestParser, ReadsTheSameRequestsHoweverTheBytesAreCut) {
  const std::string stream = post("Content-Length: 5\r\nX-A:  b \r\n", "hello") + "\r\n" + get({}, "/m%20n?q=%20") +
                             post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n") +
                             "GET /old HTTP/1.0\r\n\r\n";
  const std::vector<std::string> expected = {
      "POST|/a||1.1|k|Host=h|Content-Length=5|X-A=b|hello", "GET|/m n|q=%20|1.1|k|Host=h|",
      "POST|/a||1.1|k|Host=h|Transfer-Encoding=chunked|abc0123456789", "GET|/old||1.0|c|"};
  for (std::size_t piece = 1; piece <= stream.size(); ++piece) {
    RequestParser parser(kSmall);
    std::vector<std::string> requests;
    for (std::size_t at = 0; at < stream.size(); at += piece) {
      parser.push(std::string_view(stream).substr(at, piece));
      while (parser.state() == State::complete) {
        requests.push_back(described(parser.take()));
        parser.push("");
      }
    }
    ASSERT_EQ(requests, expected) << piece;
    ASSERT_EQ(parser.state(), State::nothing);
  }
}

TEST(RequestParser, RefusesWhatTwoReadersCouldUnderstandDifferently) {
  for (const std::string& bytes : {
           post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"),
           post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
           post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
           post("Transfer-Encoding: gzip\r\n", "x"),
           std::string("POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
           post("Transfer-Encoding: chunked\r\n", "-2\r\nab\r\n"),
           post("Transfer-Encoding: chunked\r\n", "+2\r\nab\r\n"),
           post("Transfer-Encoding: chunked\r\n", "0x2\r\nab\r\n\r\n"),
           post("Transfer-Encoding: chunked\r\n", "11111111111111111\r\nab\r\n"),
           post("Content-Length: -1\r\n", ""),
           post("Content-Length: +5\r\n", "hello"),
           get("X-A: b\r\n c\r\n"),
           get("X-A : b\r\n"),
           get("Host: other\r\n"),
           std::string("GET /a HTTP/1.1\r\n\r\n"),
           std::string("GET /a HTTP/1.1\nHost: h\n\n"),
           std::string("GET /a HTTP/2.0\r\nHost: h\r\n\r\n"),
           get({}, "http://h/a"),
           get({}, "/a%0d%0ab"),
           get({}, "/a%zz"),
           get({}, "/a%4"),
           get(std::string("X: a\0b\r\n", 8)),
       }) {
    RequestParser parser(kSmall);
    parser.push(bytes);
    EXPECT_EQ(parser.state(), State::failed) << bytes;
    EXPECT_EQ(parser.failure().status, 400) << bytes;
  }
}

TEST(RequestParser, TakesNoFieldOfATrailerForAHeader) {
  RequestParser parser(kSmall);
  std::string trailer = "Authorization: Bearer key\r\nConnection: close\r\nHost: other\r\n";
  for (int i = 0; i < 8; ++i) trailer += "A: b\r\n";
  parser.push(post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n" + trailer + "\r\n") + get());
  ASSERT_EQ(parser.state(), State::complete);
  EXPECT_EQ(described(parser.take()), "POST|/a||1.1|k|Host=h|Transfer-Encoding=chunked|abc");
  ASSERT_EQ(parser.push(""), State::complete);
  EXPECT_EQ(described(parser.take()), "GET|/a||1.1|k|Host=h|");
}

TEST(RequestParser, RefusesWhatIsBeyondItsLimitsBeforeItIsHere) {
  const auto status = [](const std::string& bytes) {
    RequestParser parser(kSmall);
    parser.push(bytes);
    return parser.state() == State::failed ? parser.failure().status : 0;
  };
  EXPECT_EQ(status(post("Content-Length: 64\r\n", std::string(64, 'x'))), 0);
  EXPECT_EQ(status(post("Content-Length: 65\r\n", "")), 413);
  EXPECT_EQ(status(post("Content-Length: 99999999999999999999999\r\n", "")), 400);
  EXPECT_EQ(status(post("Transfer-Encoding: chunked\r\n", "40\r\n" + std::string(64, 'x') + "\r\n1\r\ny\r\n")), 413);
  EXPECT_EQ(status(get("X-A: " + std::string(600, 'x') + "\r\n")), 431);
  EXPECT_EQ(status("GET /" + std::string(600, 'x')), 431);
  EXPECT_EQ(status(post("Transfer-Encoding: chunked\r\n", "0\r\nA: " + std::string(600, 'x'))), 431);
  EXPECT_EQ(status(post("Transfer-Encoding: chunked\r\n", "1;" + std::string(600, 'x'))), 431);
  std::string many;
  for (int i = 0; i < 8; ++i) many += "A: b\r\n";
  EXPECT_EQ(status(get(many)), 431);
  EXPECT_EQ(status(get(many.substr(6))), 0);
}

TEST(RequestParser, KnowsWhoWaitsForAWordBeforeTheBody) {
  RequestParser parser(kSmall);
  parser.push(post("Content-Length: 2\r\nExpect: 100-Continue\r\n", ""));
  EXPECT_TRUE(parser.expects_continue());
  parser.push("ab");
  EXPECT_FALSE(parser.expects_continue());
  EXPECT_EQ(parser.take().body, "ab");
}

TEST(Request, HeadersHaveNoCase) {
  RequestParser parser(kSmall);
  parser.push(get("x-REQUEST-id: 7\r\n"));
  const Request request = parser.take();
  ASSERT_NE(request.header("X-Request-Id"), nullptr);
  EXPECT_EQ(*request.header("X-Request-Id"), "7");
  EXPECT_EQ(request.header("X-Request"), nullptr);
}

}  // namespace
}  // namespace cajal::http
