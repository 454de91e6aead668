#include "http/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <utility>

#include "base/error.h"
#include "base/file.h"

namespace cajal::http {

namespace asio = boost::asio;
namespace ssl = boost::asio::ssl;

struct TlsContext {
  explicit TlsContext(ssl::context::method method) : context(method) {}
  ssl::context context;
  bool verify = false;  // of a client: the server's name, too
};

namespace {

constexpr std::uint64_t kMostPemBytes = std::uint64_t{4} << 20;
constexpr unsigned char kHandshakeRecord = 0x16;  // the first byte of TLS

using boost::system::error_code;

std::string read_pem(std::string_view flag, const std::string& path) {
  return with_context(flag, [&] { return read_file(path, kMostPemBytes); });
}

asio::const_buffer buffer_of(const std::string& text) { return asio::buffer(text.data(), text.size()); }

void set_common(ssl::context& context) {
  context.set_options(ssl::context::default_workarounds | ssl::context::no_sslv2 | ssl::context::no_sslv3 |
                      ssl::context::no_tlsv1 | ssl::context::no_tlsv1_1 | SSL_OP_NO_RENEGOTIATION);
  ::SSL_CTX_set_mode(context.native_handle(), SSL_MODE_RELEASE_BUFFERS);  // an idle connection keeps none
}

// HTTP/1.1 to whoever asks for a list that has it; those who ask for other things only hear nothing and take it as well.
int choose_protocol(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* in,
                    unsigned int in_size, void*) {
  static constexpr unsigned char kHttp11[] = "\x08http/1.1";
  unsigned char* chosen = nullptr;
  if (::SSL_select_next_proto(&chosen, out_size, kHttp11, sizeof kHttp11 - 1, in, in_size) != OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_NOACK;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

void use_certificate(ssl::context& context, const std::string& path) {
  const std::string pem = read_pem("--ssl-certfile", path);
  error_code error;
  context.use_certificate_chain(buffer_of(pem), error);
  if (error)
    fail(ErrorCode::data_loss, "--ssl-certfile ", path, " holds no certificate in PEM form: ", error.message(),
         remedy("name a file that begins with -----BEGIN CERTIFICATE-----"));
}

void use_key(ssl::context& context, const TlsServerOptions& options) {
  const bool apart = !options.keyfile.empty();
  const std::string flag = apart ? "--ssl-keyfile" : "--ssl-certfile",
                    path = apart ? options.keyfile : options.certfile;
  const std::string pem = read_pem(flag, path);
  // Always ours: OpenSSL's own would ask on the terminal.
  bool asked = false;
  context.set_password_callback([&](std::size_t, ssl::context::password_purpose) {
    asked = true;
    return options.keyfile_password;
  });
  error_code error;
  context.use_private_key(buffer_of(pem), ssl::context::pem, error);
  const bool mismatch = ERR_GET_REASON(static_cast<unsigned long>(error.value())) == X509_R_KEY_VALUES_MISMATCH;
  context.set_password_callback([](std::size_t, ssl::context::password_purpose) { return std::string(); });
  if (error && mismatch)
    fail(ErrorCode::invalid_argument, flag, " ", path, " is not the key of --ssl-certfile ", options.certfile,
         remedy("name the key that the certificate was made for"));
  if (error && asked && options.keyfile_password.empty())
    fail(ErrorCode::invalid_argument, flag, " ", path, " is encrypted, and there is no password",
         remedy("give it in --ssl-keyfile-password, or in CAJAL_SSL_KEYFILE_PASSWORD"));
  if (error && asked)
    fail(ErrorCode::invalid_argument, flag, " ", path, " does not open with --ssl-keyfile-password: ", error.message(),
         remedy("give the password that it was encrypted with"));
  if (error)
    fail(ErrorCode::data_loss, flag, " ", path, " holds no private key in PEM form: ", error.message(),
         remedy(apart ? "name the file with the key" : "name the file with the key in --ssl-keyfile"));
}

void use_authorities(ssl::context& context, std::string_view flag, const std::string& path) {
  const std::string pem = read_pem(flag, path);
  error_code error;
  context.add_certificate_authority(buffer_of(pem), error);
  if (error)
    fail(ErrorCode::data_loss, flag, " ", path, " holds no certificate in PEM form: ", error.message(),
         remedy("name a file with certificates of authorities"));
}

// Reading and writing are Asio's. A server looks at the first byte before it begins, so that it can tell who speaks HTTP
// without TLS.
class TlsStream final : public Stream {
 public:
  TlsStream(Socket socket, TlsContext& context, std::string host)
      : stream_(std::move(socket), context.context), verify_(context.verify), host_(std::move(host)) {}

  void greet(std::function<void(Greeting, const std::string&)> done) override {
    // Shared by what waits, and by nothing of this stream: it keeps who owns the stream.
    auto shared = std::make_shared<GreetingDone>(std::move(done));
    if (host_.empty()) return look(shared);
    // Addresses are no names that a server could have several of.
    const bool is_address =
        host_.find_first_not_of("0123456789.") == std::string::npos || host_.find(':') != std::string::npos;
    if (!is_address) ::SSL_set_tlsext_host_name(stream_.native_handle(), host_.c_str());
    if (verify_) stream_.set_verify_callback(ssl::host_name_verification(host_));
    shake_hands(ssl::stream_base::client, shared);
  }
  void read_some(std::span<char> into, ReadDone done) override {
    stream_.async_read_some(asio::buffer(into.data(), into.size()), std::move(done));
  }
  void write(std::string_view bytes, Done done) override {
    asio::async_write(stream_, asio::buffer(bytes.data(), bytes.size()),
                      [done = std::move(done)](const auto& error, std::size_t) { done(error); });
  }
  void shutdown_send(std::shared_ptr<void> owner) override {
    // Its notice goes out at once; then it waits for the other side's, and the end of the socket ends that.
    stream_.async_shutdown([owner = std::move(owner)](const error_code&) {});
  }
  void close() override {
    error_code ignored;
    socket().close(ignored);
  }
  Socket& socket() override { return stream_.next_layer(); }

 private:
  using GreetingDone = std::function<void(Greeting, const std::string&)>;

  void look(const std::shared_ptr<GreetingDone>& done) {
    error_code ignored;
    socket().non_blocking(true, ignored);
    socket().async_wait(Socket::wait_read, [this, done](const error_code& error) {
      if (error) return (*done)(Greeting::failed, error.message());
      unsigned char first = 0;
      error_code why;
      socket().receive(asio::buffer(&first, 1), Socket::message_peek, why);
      if (why == asio::error::would_block) return look(done);
      if (why) return (*done)(Greeting::failed, why.message());
      if (first == kHandshakeRecord) return shake_hands(ssl::stream_base::server, done);
      const bool letter = first >= 'A' && first <= 'Z';  // of a method
      (*done)(letter ? Greeting::plain_http : Greeting::failed, "the first byte is not TLS");
    });
  }
  void shake_hands(ssl::stream_base::handshake_type side, const std::shared_ptr<GreetingDone>& done) {
    stream_.async_handshake(
        side, [done](const error_code& e) { (*done)(e ? Greeting::failed : Greeting::done, e.message()); });
  }

  ssl::stream<Socket> stream_;
  const bool verify_;
  const std::string host_;  // whom a client talks to; empty: this is the server
};

}  // namespace

std::shared_ptr<TlsContext> tls_for_server(const TlsServerOptions& options) {
  auto tls = std::make_shared<TlsContext>(ssl::context::tls_server);
  set_common(tls->context);
  use_certificate(tls->context, options.certfile);
  use_key(tls->context, options);
  if (!options.ca_certs.empty()) use_authorities(tls->context, "--ssl-ca-certs", options.ca_certs);
  SSL_CTX* handle = tls->context.native_handle();
  if (options.cert_reqs > 0)
    tls->context.set_verify_mode(options.cert_reqs == 1 ? ssl::verify_peer
                                                        : ssl::verify_peer | ssl::verify_fail_if_no_peer_cert);
  static constexpr unsigned char kSessions[] = "cajal";
  ::SSL_CTX_set_session_id_context(handle, kSessions, sizeof kSessions - 1);
  ::SSL_CTX_set_alpn_select_cb(handle, choose_protocol, nullptr);
  return tls;
}

std::shared_ptr<TlsContext> tls_for_client(bool verify, const std::string& ca_certs) {
  auto tls = std::make_shared<TlsContext>(ssl::context::tls_client);
  set_common(tls->context);
  tls->verify = verify;
  if (!verify) return tls;
  tls->context.set_verify_mode(ssl::verify_peer);
  if (ca_certs.empty()) {
    error_code ignored;
    tls->context.set_default_verify_paths(ignored);
  } else {
    use_authorities(tls->context, "--ssl-ca-certs", ca_certs);
  }
  return tls;
}

std::unique_ptr<Stream> tls_server_stream(Stream::Socket socket, TlsContext& context) {
  return std::make_unique<TlsStream>(std::move(socket), context, std::string());
}

std::unique_ptr<Stream> tls_client_stream(Stream::Socket socket, TlsContext& context, const std::string& host) {
  return std::make_unique<TlsStream>(std::move(socket), context, host);
}

}  // namespace cajal::http
