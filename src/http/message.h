#pragma once
// Requests and answers as values; what carries them is in request_parser.h and server.h.
#include <string>
#include <string_view>
#include <vector>

namespace cajal::http {

struct Header {
  std::string name, value;
};
// The value of the first header of that name, in whatever case, or null.
const std::string* find_header(const std::vector<Header>& headers, std::string_view name);
bool equal_ignoring_case(std::string_view a, std::string_view b);

struct Request {
  std::string method;   // "POST"
  std::string path;     // "/v1/models", percent-decoded, without the query
  std::string query;    // what follows "?", as it is
  std::string version;  // "1.1" or "1.0"
  std::vector<Header> headers;
  std::string body;
  bool keep_alive = true;

  const std::string* header(std::string_view name) const { return find_header(headers, name); }
};

struct Response {
  int status = 200;
  std::string content_type = "application/json";  // empty: no such header
  std::vector<Header> headers = {};               // Content-Length, Connection and Date are the server's
  std::string body = {};
};

std::string_view reason_phrase(int status);  // "Not Found"; "Unknown" where there is none

}  // namespace cajal::http
