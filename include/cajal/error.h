#pragma once
// What the library throws.
#include <cstdint>
#include <stdexcept>
#include <string>

#include "cajal/export.h"
#include "cajal/namespace.h"

CAJAL_BEGIN_NAMESPACE

// The numbers are those of cajal_code in c_api.h.
enum class ErrorCode : std::int32_t {
  invalid_argument = 1,  // a parameter that makes no sense
  not_found = 2,         // a file or folder that is missing
  unsupported = 3,       // what this version does not do
  out_of_memory = 4,
  data_loss = 5,    // a file that is not what it says it is, or results that are not finite
  unavailable = 6,  // the system refused, or the engine is closing
  internal = 7,     // a fault of the library
  cancelled = 8,    // by a Cancellation, where there is no partial result to give
};
CAJAL_API const char* to_string(ErrorCode code);  // "invalid_argument"

// what() reads "<message> — <remedy>".
class CAJAL_API Error : public std::runtime_error {
 public:
  Error(ErrorCode code, std::string message, std::string remedy = {});
  ~Error() override;

  ErrorCode code() const { return code_; }
  const std::string& message() const { return message_; }  // what is wrong, where, what was expected and what found
  const std::string& remedy() const { return remedy_; }    // what to do about it; may be empty

 private:
  ErrorCode code_;
  std::string message_, remedy_;
};

CAJAL_END_NAMESPACE
