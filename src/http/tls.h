#pragma once
// TLS 1.2 and 1.3 by OpenSSL, which tls.cpp alone knows.
#include <cstdint>
#include <memory>
#include <string>

#include "http/stream.h"

namespace cajal::http {

struct TlsContext;  // keys and rules, shared by all connections

struct TlsServerOptions {
  std::string certfile;          // PEM: the server's certificate, then those that lead to an authority's
  std::string keyfile;           // PEM; empty: the key is in certfile
  std::string keyfile_password;  // of an encrypted key
  std::string ca_certs;          // PEM: authorities whose clients are believed
  // As Python's ssl has it: 0 asks clients for no certificate, 1 checks one that they have, 2 demands one.
  int cert_reqs = 0;
};

// Error(not_found, data_loss or invalid_argument) names the flag and the file: what cannot be read, is no PEM, does not
// open with the password, or does not belong together.
std::shared_ptr<TlsContext> tls_for_server(const TlsServerOptions& options);
// Of a client that trusts the system's authorities, or those of `ca_certs`; without `verify` anybody.
std::shared_ptr<TlsContext> tls_for_client(bool verify, const std::string& ca_certs);

// Streams whose greet() is the handshake. The context must outlive them.
std::unique_ptr<Stream> tls_server_stream(Stream::Socket socket, TlsContext& context);
std::unique_ptr<Stream> tls_client_stream(Stream::Socket socket, TlsContext& context, const std::string& host);

}  // namespace cajal::http
