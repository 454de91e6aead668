// Weights as kernels read them: written tensor by tensor, mapped as they lie, refused after any change.
#include "checkpoint/prepared_weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/test_files.h"

namespace cajal {
namespace {

using ::testing::HasSubstr;

std::vector<PreparedTensor> some_tensors() {
  return {{"norm.weight", {DType::bf16, {24}}},
          {"linear.weight", {DType::bf16, {40, 24}, Packed{16, 2}}},
          {"experts", {DType::f32, {3, 20, 8}, Packed{16, 1}}},
          {"whole_pages", {DType::f32, {2, 1024}}},
          {"cache", {DType::u8, {5}}}};
}
std::vector<std::byte> content(std::size_t tensor, const TensorType& type) {
  std::vector<std::byte> bytes(type.bytes());
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(tensor * 57 + i * 3);
  return bytes;
}

class PreparedWeightsFile : public testing::Test {
 protected:
  std::vector<PreparedTensor> write() {
    PreparedWeightsWriter writer(path_, some_tensors());
    for (std::size_t i = 0; i < writer.tensors().size(); ++i)
      writer.append(content(i, writer.tensors()[i].type), pool_);
    writer.finish();
    return {writer.tensors().begin(), writer.tensors().end()};
  }
  std::string refusal(std::vector<PreparedTensor> tensors) {
    try {
      PreparedWeights(path_, std::move(tensors)).verify(pool_);
    } catch (const Error& e) {
      EXPECT_THAT(e.message(), HasSubstr(path_));
      return e.message();
    }
    return "accepted";
  }

  test::TempFolder folder_;
  std::string path_ = folder_.path() + "/rank_0.safetensors";
  ThreadPool pool_{2};
};

TEST_F(PreparedWeightsFile, IsMappedAsItWasWritten) {
  const auto tensors = write();
  const PreparedWeights weights(path_, tensors);
  weights.verify(pool_);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto bytes = weights.bytes(i);
    EXPECT_EQ(std::vector<std::byte>(bytes.begin(), bytes.end()), content(i, tensors[i].type)) << tensors[i].name;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(bytes.data()) % kWeightAlignment, 0u) << tensors[i].name;
  }
}

TEST_F(PreparedWeightsFile, ShowsTilesAsDimensions) {
  write();
  const SafetensorsFile file(path_);
  EXPECT_EQ(file.find("linear.weight")->shape, (std::vector<std::int64_t>{3, 12, 16, 2}));
  EXPECT_EQ(file.find("experts")->shape, (std::vector<std::int64_t>{3, 2, 8, 16, 1}));
  EXPECT_EQ(file.find("norm.weight")->shape, (std::vector<std::int64_t>{24}));
}

TEST_F(PreparedWeightsFile, NamesTheTensorWhereAByteWasFlipped) {
  const auto tensors = write();
  const std::string whole = read_file(path_);
  for (const PreparedTensor& tensor : tensors) {
    std::string changed = whole;
    const SafetensorsFile file(path_);
    const SafetensorsHeader header = SafetensorsHeader::parse(whole, whole.size(), path_);
    const SafetensorsTensor& found = *file.find(tensor.name);
    changed[header.data_begin() + found.begin + found.size - 1] ^= 4;
    write_file(path_, changed);
    EXPECT_THAT(refusal(tensors), HasSubstr(tensor.name + " has the checksum")) << tensor.name;
    write_file(path_, whole);
  }
  EXPECT_EQ(refusal(tensors), "accepted");
}

TEST_F(PreparedWeightsFile, IsRefusedWhereItIsNotWhatWasPromised) {
  const auto tensors = write();
  auto other_type = tensors;
  other_type[1].type.shape[0] = 80;
  EXPECT_THAT(refusal(other_type), HasSubstr("linear.weight has 2304 bytes, expected 3840"));
  auto other_name = tensors;
  other_name[0].name = "norm.bias";
  EXPECT_THAT(refusal(other_name), HasSubstr("holds no norm.bias"));
  const std::string whole = read_file(path_);
  write_file(path_, whole.substr(0, whole.size() - 4096));
  EXPECT_NE(refusal(tensors), "accepted");
  write_file(path_, "");
  EXPECT_NE(refusal(tensors), "accepted");
  std::filesystem::remove(path_);
  EXPECT_THAT(refusal(tensors), HasSubstr("cannot map"));
}

TEST_F(PreparedWeightsFile, LeavesNothingBehindThatIsNotFinished) {
  {
    PreparedWeightsWriter writer(path_, some_tensors());
    writer.append(content(0, writer.tensors()[0].type), pool_);
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

}  // namespace
}  // namespace cajal
