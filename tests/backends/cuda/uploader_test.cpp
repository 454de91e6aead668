#include <functional>

#include "checkpoint/dummy_weights.h"
#include "on_device.h"

namespace cajal::cuda::test {
namespace {

class Uploading : public OnDevice {
 protected:
  static Bytes downloaded(const Buffer& buffer) {
    Bytes bytes(buffer.bytes());
    buffer.download(bytes, 0);
    return bytes;
  }
  static Bytes packed(const TensorType& type, const Bytes& plain) {
    if (type.plain()) return plain;
    Bytes stored(type.bytes());
    pack_rows(type, 0, type.shape.elements() / type.shape[-1], plain.data(), stored.data());
    return stored;
  }
};

const std::vector<TensorType>& types() {
  static const std::vector<TensorType> all = {{DType::bf16, {4096, 1024}, Packed{8, 8}},
                                              {DType::bf16, {1003, 520}, Packed{8, 8}},
                                              {DType::bf16, {37, 45}, Packed{8, 8}},
                                              {DType::bf16, {6, 100, 64}, Packed{8, 8}},
                                              {DType::bf16, {5, 77, 30}, Packed{8, 8}},
                                              {DType::f32, {300, 77}, Plain{}},
                                              {DType::bf16, {1000}, Plain{}},
                                              {DType::f16, {64, 64}, Packed{8, 8}},
                                              {DType::f32, {50, 12}, Packed{8, 4}}};
  return all;
}

TEST_F(Uploading, StoresRowsAsTheHostPacksThem) {
  ThreadPool pool(4);
  const auto uploader = device().make_uploader();
  ASSERT_NE(uploader, nullptr);
  for (const TensorType& type : types()) {
    const std::int64_t columns = type.shape.rank() == 1 ? 1 : type.shape[-1];
    const std::size_t row_bytes = static_cast<std::size_t>(columns) * size_of(type.dtype);
    const std::int64_t rows = type.shape.elements() / columns;
    std::mt19937 random(1);
    Bytes plain(static_cast<std::size_t>(rows) * row_bytes);
    for (auto& b : plain) b = static_cast<std::byte>(random());
    const auto buffer = device().allocate(type.bytes());
    uploader->begin(*buffer, type);
    // Odd pieces, more of them than there are slots.
    const std::int64_t step = std::max<std::int64_t>(1, rows / 61);
    pool.parallel_for((rows + step - 1) / step, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const auto slot = uploader->acquire();
        if (i % 7 == 3) uploader->give_back(uploader->acquire());
        const std::int64_t count = std::min(step, rows - i * step);
        std::memcpy(slot.data(), plain.data() + static_cast<std::size_t>(i * step) * row_bytes,
                    static_cast<std::size_t>(count) * row_bytes);
        uploader->store(i * step, count, slot);
      }
    });
    uploader->finish();
    EXPECT_EQ(downloaded(*buffer), packed(type, plain)) << to_string(type);
  }
}

TEST_F(Uploading, MakesDummyWeightsOfTheSameBitsAsTheHost) {
  ThreadPool pool(4);
  Staging staging(pool);
  const auto uploader = device().make_uploader();
  const ops::Parameter fused{{{"layers.*.q.weight", {64, 200}, {}}, {"layers.*.k.weight", {24, 200}, {}}}, 3, ""};
  const ops::Parameter cut{{{"o.weight", {77, 4 * 30}, {1, 4}}}, 1, ""}, norm{{{"norm.weight", {500}, {}}}, 1, ""};
  const ops::Parameter last_of_three{{{"embed.weight", {1000, 72}, {0, 3}}}, 1, ""};
  struct Case {
    const ops::Parameter& parameter;
    TensorType type;
    TensorParallelRank rank;
  };
  const Case cases[] = {{fused, {DType::bf16, {3, 88, 200}, Packed{8, 8}}, {}},
                        {fused, {DType::f32, {3, 88, 200}, Plain{}}, {}},
                        {cut, {DType::bf16, {77, 30}, Packed{8, 8}}, {2, 4}},
                        {norm, {DType::bf16, {500}, Plain{}}, {}},
                        {last_of_three, {DType::bf16, {334, 72}, Packed{8, 8}}, {2, 3}}};
  for (const Case& c : cases) {
    const WeightRequest request{c.parameter, c.type, c.rank};
    Bytes expected(c.type.bytes());
    fill_dummy(request, 5, expected.data(), staging);
    const auto buffer = device().allocate(c.type.bytes());
    uploader->begin(*buffer, c.type);
    ASSERT_TRUE(uploader->makes_dummy_rows());
    uploader->make(dummy_rows(request, 5));
    uploader->finish();
    EXPECT_EQ(downloaded(*buffer), expected) << to_string(c.type);
  }
}

}  // namespace
}  // namespace cajal::cuda::test
