#include "protocol/request_error.h"

namespace cajal::protocol {

Json to_json(const ErrorBody& error) {
  const auto or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  return Json::Object{{"error", Json::Object{{"message", error.message},
                                             {"type", error.type},
                                             {"param", or_null(error.param)},
                                             {"code", or_null(error.code)}}}};
}

}  // namespace cajal::protocol
