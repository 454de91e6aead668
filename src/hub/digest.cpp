#include "hub/digest.h"

#include <openssl/evp.h>

#include <array>

#include "base/error.h"

namespace cajal {
void Digest::Free::operator()(void* context) const { EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(context)); }

Digest::Digest(bool is_sha256) : context_(EVP_MD_CTX_new()) {
  const EVP_MD* kind = is_sha256 ? EVP_sha256() : EVP_sha1();
  if (!context_ || EVP_DigestInit_ex(static_cast<EVP_MD_CTX*>(context_.get()), kind, nullptr) != 1)
    fail(ErrorCode::unavailable, "OpenSSL has no ", is_sha256 ? "SHA-256" : "SHA-1",
         remedy("check its configuration (OPENSSL_CONF)"));
}

Digest Digest::sha256() { return Digest(true); }

Digest Digest::git_blob(std::uint64_t size) {
  Digest digest(false);
  const std::string head = "blob " + std::to_string(size);
  digest.update(std::as_bytes(std::span(head.c_str(), head.size() + 1)));
  return digest;
}

void Digest::update(std::span<const std::byte> bytes) {
  CAJAL_CHECK(EVP_DigestUpdate(static_cast<EVP_MD_CTX*>(context_.get()), bytes.data(), bytes.size()) == 1);
}

std::string Digest::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
  unsigned int size = 0;
  CAJAL_CHECK(EVP_DigestFinal_ex(static_cast<EVP_MD_CTX*>(context_.get()), bytes.data(), &size) == 1);
  std::string text;
  for (unsigned int i = 0; i < size; ++i) {
    text += "0123456789abcdef"[bytes[i] >> 4];
    text += "0123456789abcdef"[bytes[i] & 15];
  }
  return text;
}

}  // namespace cajal
