#pragma once
// What the functions of the C interface are made of: handles, error objects, and structs whose size the program gives.
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "api/errors.h"
#include "api/public.h"
#include "cajal/c_api.h"

struct cajal_error {
  cajal_code code = CAJAL_OK;
  std::string message, remedy;
};
struct cajal_engine {
  explicit cajal_engine(const cajal::v1::EngineConfig& config) : engine(config) {}
  cajal::v1::Engine engine;
};
struct cajal_cancellation {
  cajal::v1::Cancellation cancellation;
};

namespace cajal::c {

namespace api = cajal::v1;

// Where there is not even memory for an error object.
inline cajal_error no_memory{CAJAL_OUT_OF_MEMORY, "there is not enough memory", ""};

inline cajal_code give_error(cajal_error** error, const api::Error& e) noexcept {
  const auto code = static_cast<cajal_code>(e.code());
  if (!error) return code;
  try {
    *error = new cajal_error{code, e.message(), e.remedy()};
  } catch (const std::bad_alloc&) {
    *error = &no_memory;
  }
  return code;
}

template <class Body>
cajal_code call(cajal_error** error, Body&& body) noexcept {
  if (error) *error = nullptr;
  try {
    try {
      body();
      return CAJAL_OK;
    } catch (...) {
      return give_error(error, cajal::current_error());
    }
  } catch (...) {  // no memory for the message
    if (error) *error = &no_memory;
    return CAJAL_OUT_OF_MEMORY;
  }
}

[[noreturn]] inline void refuse(std::string message, std::string remedy = {}) {
  throw api::Error(api::ErrorCode::invalid_argument, std::move(message), std::move(remedy));
}

template <class Pointer>
void need(const Pointer* pointer, const char* name) {
  if (!pointer) refuse(std::string(name) + " is NULL");
}

// The frame of every function that gives something to free: `how` makes it, as a unique_ptr; where it cannot, *out is
// NULL.
template <class Made, class How>
cajal_code make(cajal_error** error, Made** out, const char* name, How&& how) noexcept {
  return call(error, [&] {
    need(out, name);
    *out = nullptr;
    std::unique_ptr<Made> made = how();
    *out = made.release();
  });
}

template <class Handle>  // cajal_engine, const or not
auto& engine_of(Handle* handle) {
  need(handle, "engine");
  return handle->engine;
}

template <class Item>
const Item& item(const std::vector<Item>& items, std::size_t index, const char* name) {
  if (index >= items.size())
    refuse(std::string(name) + " is " + std::to_string(index) + ", and there are " + std::to_string(items.size()));
  return items[index];
}

inline cajal_string view(const std::string& text) { return {text.data(), text.size()}; }

inline std::string text_of(cajal_string text, const char* name) {
  if (!text.data && text.size > 0) refuse(std::string(name) + " has a size and no data");
  return text.data ? std::string(text.data, text.size) : std::string();
}

template <class Value>
std::vector<Value> list_of(const Value* data, std::size_t size, const char* name) {
  if (!data && size > 0) refuse(std::string(name) + " is NULL and its size is not 0");
  return std::vector<Value>(data, data + size);
}

// A struct of the program as this library knows it: what the program's headers lack has its default.
template <class Struct>
Struct taken(const Struct* given, const Struct& defaults, const char* name) {
  need(given, name);
  const std::size_t size = given->struct_size;
  if (size < sizeof(std::size_t) || size > sizeof(Struct))
    refuse(std::string(name) + "->struct_size is " + std::to_string(size) + ", expected at most " +
               std::to_string(sizeof(Struct)),
           "fill it with its *_init() function; if that was done, the program needs a newer libcajal.so");
  Struct result = defaults;
  std::memcpy(static_cast<void*>(&result), given, size);
  return result;
}

// Fills what the program knows of a struct.
template <class Struct>
void put(Struct* into, std::size_t size, Struct value, const char* name) {
  need(into, name);
  if (size < sizeof(std::size_t) || size > sizeof(Struct))
    refuse(std::string(name) + ": struct_size is " + std::to_string(size) + ", expected at most " +
               std::to_string(sizeof(Struct)),
           "set it to the size of the struct; if that was done, the program needs a newer libcajal.so");
  value.struct_size = size;
  std::memcpy(static_cast<void*>(into), &value, size);
}

template <class Struct>
void put(Struct* into, const Struct& value, const char* name) {
  need(into, name);
  put(into, into->struct_size, value, name);
}

inline api::Prompt prompt_of(const cajal_prompt& prompt) {
  if (!prompt.token_ids && prompt.num_token_ids > 0) refuse("prompt: num_token_ids is not 0 and token_ids is NULL");
  if (prompt.token_ids) return list_of(prompt.token_ids, prompt.num_token_ids, "prompt");
  return text_of(prompt.text, "prompt");
}

inline std::optional<std::int64_t> integer_if_set(std::int64_t value) {
  return value == CAJAL_UNSET_INTEGER ? std::nullopt : std::optional(value);
}

inline std::optional<api::Cancellation> cancellation_of(const cajal_cancellation* cancellation) {
  return cancellation ? std::optional(cancellation->cancellation) : std::nullopt;
}

}  // namespace cajal::c
