#pragma once
// Every path that there is.
#include <span>

#include "server/service.h"

namespace cajal::server {

std::span<const Route> routes();
// The route of a request. RequestError: 404 without one, 405 with the methods that there are in `allowed`.
const Route& find_route(std::string_view method, std::string_view path, std::string& allowed);

}  // namespace cajal::server
