#pragma once
// What rank 0 tells the others to do, as bytes. Plans are numbered, so that none is missed, and hashed with all that went
// before, so that ranks which do not have the same history say so before they compute anything.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "distributed/communicator.h"
#include "engine/executor.h"

namespace cajal {

struct ModelOptions;
struct RunnerLimits;

enum class PlanKind : std::uint32_t {
  load_model,   // ModelOptions
  make_runner,  // of a model: its number, RunnerLimits
  make_bucket,  // of a runner: rows
  step,         // of a runner: StepInput
  drop,         // a model or a runner
  stop,         // all of it
};
const char* to_string(PlanKind kind);

// Bytes in the order in which they are put. Keeps its memory from plan to plan.
class PlanWriter {
 public:
  void clear() { bytes_.clear(); }
  std::span<const std::byte> bytes() const { return bytes_; }
  template <class T>
  void put(T value) {
    static_assert(std::is_arithmetic_v<T> || std::is_enum_v<T>);
    put_bytes(std::as_bytes(std::span(&value, 1)));
  }
  void put(const std::string& text);
  template <class T>
  void put_list(std::span<const T> list) {
    static_assert(std::has_unique_object_representations_v<T>, "no byte of it may be left to chance");
    put(static_cast<std::uint64_t>(list.size()));
    put_bytes(std::as_bytes(list));
  }

 private:
  void put_bytes(std::span<const std::byte> bytes);
  std::vector<std::byte> bytes_;
};

// The same back. Error(data_loss) where bytes are missing or left over.
class PlanReader {
 public:
  explicit PlanReader(std::span<const std::byte> bytes) : left_(bytes) {}
  template <class T>
  T get() {
    static_assert(std::is_arithmetic_v<T> || std::is_enum_v<T>);
    T value;
    const auto from = take(1, sizeof value);
    std::memcpy(&value, from.data(), sizeof value);
    return value;
  }
  std::string get_text();
  template <class T>
  void get_list(std::vector<T>& into) {
    into.clear();
    append_list(into);
  }
  template <class T>
  void append_list(std::vector<T>& into) {
    const auto count = get<std::uint64_t>();
    const auto from = take(count, sizeof(T));
    const std::size_t before = into.size();
    into.resize(before + static_cast<std::size_t>(count));
    if (!from.empty()) std::memcpy(into.data() + before, from.data(), from.size());
  }
  // A number of things that take at least `least_bytes` each, so that no more is believed than there can be.
  std::size_t get_count(std::size_t least_bytes);
  void expect_end() const;

 private:
  std::span<const std::byte> take(std::uint64_t count, std::size_t size);
  std::span<const std::byte> left_;
};

// A step with the memory of its block tables, kept from step to step.
struct ReceivedStep {
  StepInput input;
  std::vector<std::int32_t> blocks;
  std::vector<std::size_t> ends;  // of each table in them
};

void write(PlanWriter& to, const StepInput& step);
void read(PlanReader& from, ReceivedStep& into);
void write(PlanWriter& to, const RunnerLimits& limits);
RunnerLimits read_limits(PlanReader& from);
// All but what belongs to one rank.
void write(PlanWriter& to, const ModelOptions& options);
ModelOptions read_model_options(PlanReader& from);

struct Plan {
  PlanKind kind = PlanKind::stop;
  std::uint64_t object = 0;         // the model or the runner
  std::span<const std::byte> body;  // until the next one
};

// One end of the way of plans. Both ends count and hash.
class PlanLink {
 public:
  explicit PlanLink(Communicator& world) : world_(world) {}

  // Rank 0's. What is sent is what was written into the body.
  PlanWriter& new_body() {
    body_.clear();
    return body_;
  }
  void send(PlanKind kind, std::uint64_t object);
  void send_bare(PlanKind kind, std::uint64_t object) {
    new_body();
    send(kind, object);
  }
  // All others': waits for the next plan, however long it takes. Error(data_loss) says what does not follow from what came
  // before.
  Plan receive();

  std::uint64_t num_plans() const { return number_; }

 private:
  Communicator& world_;
  std::uint64_t number_ = 0, history_ = 0;
  PlanWriter body_;
  std::vector<std::byte> packet_;
};

}  // namespace cajal
