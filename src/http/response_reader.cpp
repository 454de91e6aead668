#include "http/response_reader.h"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/optional.hpp>
#include <limits>

namespace cajal::http {
namespace {

namespace beast = boost::beast::http;

constexpr std::uint32_t kMostHeadBytes = 64 << 10;

// Beast's string_body makes room for as much as Content-Length promises, which may be anything.
struct PassingBody {
  using value_type = std::string;
  class reader {  // NOLINT(readability-identifier-naming): Beast looks for that name
   public:
    template <bool kIsRequest, class Fields>
    reader(beast::header<kIsRequest, Fields>&, value_type& body) : body_(body) {}
    void init(const boost::optional<std::uint64_t>&, boost::system::error_code& error) { error = {}; }
    template <class Buffers>
    std::size_t put(const Buffers& buffers, boost::system::error_code& error) {
      error = {};
      const std::size_t before = body_.size();
      for (auto at = boost::asio::buffer_sequence_begin(buffers); at != boost::asio::buffer_sequence_end(buffers);
           ++at) {
        const boost::asio::const_buffer piece(*at);
        body_.append(static_cast<const char*>(piece.data()), piece.size());
      }
      return body_.size() - before;
    }
    void finish(boost::system::error_code& error) { error = {}; }

   private:
    value_type& body_;
  };
};

}  // namespace

struct ResponseReader::Impl {
  beast::response_parser<PassingBody> parser;
};

ResponseReader::ResponseReader() : impl_(std::make_unique<Impl>()) {
  impl_->parser.header_limit(kMostHeadBytes);
  impl_->parser.body_limit(std::numeric_limits<std::uint64_t>::max());  // nothing of it is kept
}
ResponseReader::~ResponseReader() = default;

ResponseReader::State ResponseReader::push(std::string_view bytes, std::string& body) {
  auto& parser = impl_->parser;
  held_ += bytes;
  std::size_t consumed = 0;
  while (state_ == State::head || state_ == State::body) {
    const std::string_view rest = std::string_view(held_).substr(consumed);
    if (rest.empty() && !parser.is_done()) break;
    boost::system::error_code error;
    consumed += parser.put({rest.data(), rest.size()}, error);
    if (error == beast::error::need_more) break;
    if (error) {
      state_ = State::failed;
      failure_ = "the answer is no HTTP/1.1: " + error.message();
    } else if (parser.is_header_done()) {
      state_ = parser.is_done() ? State::complete : State::body;
    }
  }
  held_.erase(0, consumed);
  body += parser.get().body();
  parser.get().body().clear();
  return state_;
}

ResponseReader::State ResponseReader::end_of_stream() {
  if (state_ == State::complete || state_ == State::failed) return state_;
  boost::system::error_code error;
  if (impl_->parser.got_some()) impl_->parser.put_eof(error);
  const bool complete = !error && state_ == State::body && impl_->parser.is_done();
  state_ = complete ? State::complete : State::failed;
  if (!complete) failure_ = "the connection ended before the answer did";
  return state_;
}

int ResponseReader::status() const { return impl_->parser.get().result_int(); }
bool ResponseReader::keeps_alive() const { return impl_->parser.keep_alive(); }

}  // namespace cajal::http
