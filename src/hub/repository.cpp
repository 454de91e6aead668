#include "hub/repository.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <chrono>
#include <string_view>
#include <thread>

#include "base/error.h"
#include "base/json.h"

namespace cajal {
namespace {

constexpr std::size_t kMaxListBytes = std::size_t{16} << 20;

std::string percent_encoded(std::string_view text, std::string_view kept) {
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 || kept.find(c) != std::string_view::npos) {
      result += c;
    } else {
      result += '%';
      result += "0123456789ABCDEF"[byte >> 4];
      result += "0123456789ABCDEF"[byte & 15];
    }
  }
  return result;
}

[[noreturn]] void refuse(const HttpAnswer& answer, const std::string& what, const std::string& url) {
  if (answer.status == 401 || answer.status == 403)
    fail(ErrorCode::not_found, what, ": the hub refuses it (", answer.status, ", ", url, ")",
         remedy("check the name; for a private or gated model accept its terms on its page and set HF_TOKEN"));
  if (answer.status == 404)
    fail(ErrorCode::not_found, what, ": the hub has no such thing (404, ", url, ")",
         remedy("check the name and the revision; a private model needs HF_TOKEN"));
  fail(ErrorCode::unavailable, what, ": the hub answers ", answer.status, " (", url, ")",
       remedy("try again later: what has come is kept"));
}

// A path from the hub becomes one under our folder.
bool stays_inside(std::string_view path) {
  if (path.empty() || path.front() == '/' || path.find('\\') != std::string_view::npos ||
      path.find('\0') != std::string_view::npos)
    return false;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part = path.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") return false;
    begin = end + 1;
  }
  return true;
}

std::string without_quotes(std::string etag) {
  if (etag.starts_with("W/")) etag.erase(0, 2);
  std::erase(etag, '"');
  return etag;
}

bool is_file_name(std::string_view text) {
  return !text.empty() && text.size() <= 200 && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '_';
  });
}

std::uint64_t parse_size(const std::string& text, const std::string& what) {
  std::uint64_t size = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size);
  if (error != std::errc() || end != text.data() + text.size() || size > (std::uint64_t{1} << 50))
    fail(ErrorCode::unavailable, what, ": the hub gives '", text, "' as its size", remedy("check HF_ENDPOINT"));
  return size;
}

// Where the file itself is described: redirects within the hub are followed, one to where its content lies is not.
HttpAnswer ask_head(HttpClient& http, const HubSettings& hub, std::string url, const std::string& what) {
  const auto no_body = [](const HttpAnswer&, std::span<const std::byte>) { return true; };
  for (int redirects = 0; redirects < 10; ++redirects) {
    HttpAnswer answer = http.ask({.url = url, .token = hub.token, .head = true, .follow = false}, no_body);
    const std::string location = answer.header("location");
    const bool redirected = answer.status >= 300 && answer.status < 400 && !location.empty();
    if (!redirected || !answer.header("x-linked-etag").empty()) return answer;
    if (location.starts_with('/') && !location.starts_with("//"))
      url = hub.endpoint.substr(0, hub.endpoint.find('/', hub.endpoint.find("//") + 2)) + location;
    else if (location.starts_with(hub.endpoint + "/"))
      url = location;
    else
      return answer;
  }
  fail(ErrorCode::unavailable, what, ": more than ten redirects from ", url, remedy("check HF_ENDPOINT"));
}

}  // namespace

Repository ask_repository(HttpClient& http, const HubSettings& hub, const std::string& name,
                          const std::string& revision) {
  const std::string url =
      hub.endpoint + "/api/models/" + percent_encoded(name, "-._~/") + "/revision/" + percent_encoded(revision, "-._~");
  const std::string what = name + " (revision " + revision + ")";
  std::string body;
  const HttpAnswer answer = http.ask({.url = url, .token = hub.token}, [&](const HttpAnswer&, auto bytes) {
    body.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return body.size() <= kMaxListBytes;
  });
  if (answer.status != 200) refuse(answer, what, url);
  const Json json = parse_json(body, url, {.max_bytes = kMaxListBytes});
  Repository repository;
  const Json* commit = json.find("sha");
  const Json* files = json.find("siblings");
  if (!commit || !commit->is_string() || !is_file_name(commit->as_string()) || !files || !files->is_array())
    fail(ErrorCode::unavailable, what, ": ", url, " does not answer as the hub does: expected 'sha' and 'siblings'",
         remedy("check HF_ENDPOINT"));
  repository.commit = commit->as_string();
  for (const Json& file : files->as_array()) {
    const Json* path = file.find("rfilename");
    if (!path || !path->is_string() || !stays_inside(path->as_string()))
      fail(ErrorCode::data_loss, what, ": the hub lists a file with the name ", path ? to_json(*path) : "(none)",
           ", which does not stay inside a folder", remedy("do not trust this repository"));
    repository.files.push_back(path->as_string());
  }
  return repository;
}

RemoteFile ask_file(HttpClient& http, const HubSettings& hub, const std::string& name, const std::string& commit,
                    const std::string& path) {
  RemoteFile file{
      path,
      hub.endpoint + "/" + percent_encoded(name, "-._~/") + "/resolve/" + commit + "/" + percent_encoded(path, "-._~/"),
      "", 0};
  const std::string what = name + ", file " + path;
  const HttpAnswer answer = ask_head(http, hub, file.url, what);
  if (answer.status >= 400) refuse(answer, what, file.url);
  const std::string linked = answer.header("x-linked-etag"), size = answer.header("x-linked-size");
  file.etag = without_quotes(linked.empty() ? answer.header("etag") : linked);
  if (!is_file_name(file.etag))
    fail(ErrorCode::unavailable, what, ": ", file.url, " has no usable ETag ('", file.etag, "')",
         remedy("check HF_ENDPOINT: it must answer as the hub does"));
  file.size = parse_size(size.empty() ? answer.header("content-length") : size, what);
  return file;
}

void with_retries(const std::function<void()>& body) {
  for (int wait_ms = 250;; wait_ms *= 2) {
    try {
      return body();
    } catch (const Error& error) {
      if (error.code() != ErrorCode::unavailable || wait_ms > 2000) throw;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(wait_ms));
  }
}

}  // namespace cajal
