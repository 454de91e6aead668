#include "distributed/mpi_carrier.h"

#include <dlfcn.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"

namespace cajal {
namespace {

using Clock = std::chrono::steady_clock;
constexpr const char* kName = "libcajal_mpi.so";
constexpr auto kYieldFor = std::chrono::milliseconds(2);
constexpr auto kNapAfter = std::chrono::seconds(1);  // of waiting: ranks that wait for work must leave the cores alone
constexpr auto kShortNap = std::chrono::microseconds(50), kLongNap = std::chrono::microseconds(1000);

std::vector<std::string> places() {
  if (const char* told = std::getenv("CAJAL_MPI_PLUGIN"); told != nullptr && *told != '\0') return {told};
  std::vector<std::string> result;
  Dl_info here{};
  if (::dladdr(reinterpret_cast<const void*>(&places), &here) != 0 && here.dli_fname != nullptr) {
    const std::string path = here.dli_fname;
    const auto slash = path.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash);
    result = {folder + "/" + kName, folder + "/../" + kName, folder + "/../lib/" + kName};
  }
  result.emplace_back(kName);  // wherever the system looks
  return result;
}

class MpiCarrier final : public Carrier {
 public:
  MpiCarrier(std::shared_ptr<MpiLibrary> library, std::shared_ptr<SharedRegion> region)
      : library_(std::move(library)), region_(std::move(region)) {}

  void exchange(std::span<const Piece> pieces, std::uint64_t tag) override {
    posted_.clear();
    for (const Piece& p : pieces)
      if (!p.out.empty() || !p.in.empty())
        posted_.push_back({p.world_rank, p.out.data(), p.out.size(), p.in.data(), p.in.size()});
    // MPI promises no larger tags than this.
    if (library_->functions().post(posted_.data(), posted_.size(), static_cast<int>(tag % 32749)) != 0) fail_here();
    wait();
  }

 private:
  void wait() {
    const auto start = Clock::now();
    for (;;) {
      for (int tries = 0; tries < 64; ++tries) {
        const int done = library_->functions().done();
        if (done == 1) return;
        if (done != 0) fail_here();
        sched_yield();
      }
      if (region_->failed()) region_->throw_failure();
      const auto waited = Clock::now() - start;
      if (waited > kYieldFor) std::this_thread::sleep_for(waited > kNapAfter ? kLongNap : kShortNap);
    }
  }

  // Of a rank that died, rank 0 is about to say which it was; MPI only knows that something broke.
  [[noreturn]] void fail_here() {
    for (int i = 0; i < 1000 && !region_->failed(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (region_->failed()) region_->throw_failure();
    library_->fail_with("an exchange of data failed");
  }

  std::shared_ptr<MpiLibrary> library_;
  std::shared_ptr<SharedRegion> region_;
  std::vector<CajalMpiPiece> posted_;
};

}  // namespace

MpiLibrary::MpiLibrary() {
  std::string looked, why;
  for (const std::string& place : places()) {
    looked += (looked.empty() ? "" : ", ") + place;
    void* library = ::dlopen(place.c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (library == nullptr) {
      why = ::dlerror();
      continue;
    }
    const auto entry = reinterpret_cast<CajalMpiEntry>(::dlsym(library, "cajal_mpi_1"));
    if (entry == nullptr) fail(ErrorCode::unavailable, place, " belongs to another version of cajal");
    functions_ = entry();
    return;
  }
  fail(
      ErrorCode::not_found, kName, " is at none of ", looked, " (", why,
      "): without it ranks cannot talk through Open MPI, nor find each other when mpirun starts them on several "
      "machines",
      remedy("build cajal where libopenmpi-dev is installed, or set MASTER_ADDR and MASTER_PORT, with which ranks talk "
             "over TCP; on one machine they share memory and need neither"));
}

void MpiLibrary::fail_with(const char* doing) const {
  fail(ErrorCode::unavailable, "Open MPI: ", doing, ": ", functions_->explain());
}

void MpiLibrary::start(int rank, int size) {
  int its_rank = 0, its_size = 0;
  if (functions_->start(&its_rank, &its_size) != 0) fail_with("it does not start");
  if (its_rank != rank || its_size != size)
    fail(ErrorCode::unavailable, "Open MPI takes this process for rank ", its_rank, " of ", its_size,
         ", the environment says rank ", rank, " of ", size,
         remedy("start the ranks with the mpirun of the Open MPI that libcajal_mpi.so was built with"));
}

std::string MpiLibrary::broadcast_from_0(const std::string& text) {
  std::array<char, 1024> bytes{};
  std::memcpy(bytes.data(), text.data(), std::min(text.size(), bytes.size() - 1));
  if (functions_->broadcast_from_0(bytes.data(), bytes.size()) != 0) fail_with("rank 0 did not tell where it is");
  return bytes.data();
}

void MpiLibrary::stop() { functions_->stop(); }

std::shared_ptr<Carrier> make_mpi_carrier(std::shared_ptr<MpiLibrary> library, std::shared_ptr<SharedRegion> region) {
  return std::make_shared<MpiCarrier>(std::move(library), std::move(region));
}

}  // namespace cajal
