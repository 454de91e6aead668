// Weights on their way to the device: threads fill slots of pinned memory, streams copy them to slots of the device, and
// kernels store them from there as the type says. All of it goes on at once.
#include "backends/cuda/uploader.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <vector>

#include "backends/cuda/check.h"
#include "backends/cuda/kernels/weights.h"
#include "base/checked.h"

namespace cajal::cuda {
namespace {

// Long enough that a copy runs at the bus's speed, and a read from the page cache at memory's.
constexpr std::size_t kSlotBytes = std::size_t{4} << 20;
constexpr int kLeastSlots = 4, kMostSlots = 48;
constexpr int kNumStreams = 4;  // copies and kernels of different slots overlap

class CudaUploader final : public Uploader {
 public:
  CudaUploader(const Stream& stream, int num_slots)
      : main_(stream),
        num_slots_(num_slots),
        host_(kSlotBytes * static_cast<std::size_t>(num_slots)),
        device_(stream, kSlotBytes * static_cast<std::size_t>(num_slots)) {
    for (int i = 0; i < kNumStreams; ++i) streams_.push_back(std::make_unique<Stream>(stream.device()));
    for (int i = 0; i < num_slots; ++i) {
      done_.push_back(std::make_unique<CudaEvent>());
      idle_.push_back(i);
    }
    main_.wait();  // the device's slots have been cleared
  }
  ~CudaUploader() override {
    for (const auto& stream : streams_) cudaStreamSynchronize(stream->get());
  }

  std::size_t slot_bytes() const override { return kSlotBytes; }

  void begin(Buffer& to, const TensorType& type) override {
    to_ = dynamic_cast<DeviceBuffer*>(&to);
    CAJAL_CHECK(to_ && to_->bytes() >= type.bytes(), "memory of another backend, or too little of it");
    type_ = type;
    main_.make_current();  // allocating has cleared the memory
    check(cudaEventRecord(cleared_.get(), main_.get()), "uploading weights");
    for (const auto& stream : streams_)
      check(cudaStreamWaitEvent(stream->get(), cleared_.get(), 0), "uploading weights");
  }

  std::span<std::byte> acquire() override {
    std::unique_lock lock(mutex_);
    returned_.wait(lock, [&] { return !idle_.empty() || !flying_.empty(); });
    int slot = 0;
    if (!idle_.empty()) {
      slot = idle_.back();
      idle_.pop_back();
    } else {
      slot = flying_.front();
      flying_.pop_front();
      lock.unlock();
      main_.make_current();
      check(cudaEventSynchronize(done(slot)), "uploading weights");
    }
    return host_.span().subspan(static_cast<std::size_t>(slot) * kSlotBytes, kSlotBytes);
  }
  void give_back(std::span<std::byte> memory) override {
    {
      const std::scoped_lock lock(mutex_);
      idle_.push_back(slot_of(memory));
    }
    returned_.notify_one();
  }

  void store(std::int64_t first_row, std::int64_t num_rows, std::span<std::byte> memory) override {
    const int slot = slot_of(memory);
    main_.make_current();
    const cudaStream_t stream = streams_[static_cast<std::size_t>(slot) % kNumStreams]->get();
    const std::int64_t columns = type_.shape.rank() < 2 ? 1 : type_.shape[-1];
    const std::size_t row_bytes = static_cast<std::size_t>(columns) * size_of(type_.dtype);
    const std::size_t bytes = static_cast<std::size_t>(num_rows) * row_bytes;
    CAJAL_CHECK(bytes <= kSlotBytes);
    if (type_.plain()) {
      copy(to_->data() + static_cast<std::size_t>(first_row) * row_bytes, memory.data(), bytes, stream);
    } else {
      std::byte* const there = device_.data() + static_cast<std::size_t>(slot) * kSlotBytes;
      copy(there, memory.data(), bytes, stream);
      pack(there, first_row, num_rows, row_bytes, stream);
    }
    check(cudaEventRecord(done(slot), stream), "uploading weights");
    {
      const std::scoped_lock lock(mutex_);
      flying_.push_back(slot);
    }
    returned_.notify_one();
  }

  bool makes_dummy_rows() const override { return type_.dtype == DType::bf16 || type_.dtype == DType::f32; }
  void make(std::span<const DummyRows> rows) override {
    main_.make_current();
    std::size_t next = 0;
    for (const DummyRows& r : rows) make_dummy_rows(matrix(r.index), r, streams_[next++ % kNumStreams]->get());
    check(cudaGetLastError(), "making dummy weights");
  }

  void finish() override {
    for (const auto& stream : streams_) stream->wait();
  }

 private:
  cudaEvent_t done(int slot) const { return done_[static_cast<std::size_t>(slot)]->get(); }
  int slot_of(std::span<std::byte> memory) const {
    const auto slot = static_cast<std::size_t>(memory.data() - host_.span().data()) / kSlotBytes;
    CAJAL_CHECK(slot < static_cast<std::size_t>(num_slots_));
    return static_cast<int>(slot);
  }
  static void copy(std::byte* to, const std::byte* from, std::size_t bytes, cudaStream_t stream) {
    if (bytes) check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream), "uploading weights");
  }

  std::int64_t rows_of_matrix() const { return type_.shape.rank() < 2 ? type_.shape[0] : type_.shape[-2]; }
  // Matrix `index` of the parameter, which may be a stack of them.
  StoredMatrix matrix(std::int64_t index) const {
    const auto* packed = std::get_if<Packed>(&type_.storage);
    const Tile tile = packed ? Tile{packed->rows, packed->group} : Tile{};
    const std::int64_t columns = type_.shape.rank() < 2 ? 1 : type_.shape[-1];
    const auto padded_columns = round_up<std::int64_t>(columns, tile.group);
    const std::int64_t elements = round_up<std::int64_t>(rows_of_matrix(), tile.rows) * padded_columns;
    return {to_->data() + static_cast<std::size_t>(index * elements) * size_of(type_.dtype), columns, padded_columns,
            tile, element()};
  }
  // Packing moves elements: all types of a size are one.
  Element element() const { return size_of(type_.dtype) == 2 ? Element::bf16 : Element::f32; }

  void pack(const std::byte* plain, std::int64_t first_row, std::int64_t num_rows, std::size_t row_bytes,
            cudaStream_t stream) const {
    const std::int64_t rows = rows_of_matrix();
    for (std::int64_t done = 0; done < num_rows;) {
      const std::int64_t index = (first_row + done) / rows, row = (first_row + done) % rows;
      const std::int64_t count = std::min(num_rows - done, rows - row);
      pack_rows(matrix(index), plain + static_cast<std::size_t>(done) * row_bytes, row, count, stream);
      done += count;
    }
    check(cudaGetLastError(), "packing weights");
  }

  const Stream& main_;
  int num_slots_;
  PinnedMemory host_;
  DeviceBuffer device_;
  std::vector<std::unique_ptr<Stream>> streams_;
  CudaEvent cleared_;
  std::vector<std::unique_ptr<CudaEvent>> done_;  // by slot
  DeviceBuffer* to_ = nullptr;
  TensorType type_;

  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<int> idle_;
  std::deque<int> flying_;  // the oldest first
};

}  // namespace

std::unique_ptr<Uploader> make_uploader(const Stream& stream, int num_threads) {
  return std::make_unique<CudaUploader>(stream, std::clamp(2 * num_threads, kLeastSlots, kMostSlots));
}

}  // namespace cajal::cuda
