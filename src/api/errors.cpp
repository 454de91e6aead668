#include "api/errors.h"

#include <new>

#include "base/error.h"

namespace cajal {
namespace {

api::ErrorCode public_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument: return api::ErrorCode::invalid_argument;
    case ErrorCode::not_found: return api::ErrorCode::not_found;
    case ErrorCode::unsupported: return api::ErrorCode::unsupported;
    case ErrorCode::out_of_memory: return api::ErrorCode::out_of_memory;
    case ErrorCode::data_loss: return api::ErrorCode::data_loss;
    case ErrorCode::unavailable: return api::ErrorCode::unavailable;
  }
  return api::ErrorCode::internal;
}

}  // namespace

api::Error current_error() {
  try {
    throw;
  } catch (const api::Error& e) {
    return e;
  } catch (const Error& e) {
    return {public_code(e.code()), e.message(), e.remedy()};
  } catch (const std::bad_alloc&) {
    return {api::ErrorCode::out_of_memory, "there is not enough memory", "lower max_model_len or max_num_seqs"};
  } catch (const std::exception& e) {
    return {api::ErrorCode::internal, e.what()};
  } catch (...) {
    return {api::ErrorCode::internal, "an exception of unknown type"};
  }
}

}  // namespace cajal

namespace cajal::v1 {

const char* to_string(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument: return "invalid_argument";
    case ErrorCode::not_found: return "not_found";
    case ErrorCode::unsupported: return "unsupported";
    case ErrorCode::out_of_memory: return "out_of_memory";
    case ErrorCode::data_loss: return "data_loss";
    case ErrorCode::unavailable: return "unavailable";
    case ErrorCode::internal: return "internal";
    case ErrorCode::cancelled: return "cancelled";
  }
  return "unknown";
}

Error::Error(ErrorCode code, std::string message, std::string remedy)
    : std::runtime_error(remedy.empty() ? message : message + " — " + remedy),
      code_(code),
      message_(std::move(message)),
      remedy_(std::move(remedy)) {}

Error::~Error() = default;

}  // namespace cajal::v1
