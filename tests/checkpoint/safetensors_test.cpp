#include "checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "checkpoint/safetensors_writer.h"
#include "checkpoint/test_files.h"

namespace cajal {
namespace {

using test::error_of;
using test::safetensors_bytes;
using test::TempFolder;
using test::write_tensors;
using testing::AllOf;
using testing::HasSubstr;

TEST(Safetensors, WhatIsWrittenReadsBack) {
  const TempFolder folder;
  std::mt19937 random(1);
  test::StoredTensors tensors;
  tensors["a"] = test::random_tensor(DType::bf16, {3, 5}, random);
  tensors["b \"quoted\" \u00e9"] = test::random_tensor(DType::f32, {}, random);
  tensors["empty"] = test::random_tensor(DType::f16, {4, 0, 2}, random);
  tensors["rank8"] = test::random_tensor(DType::f16, {1, 2, 1, 2, 1, 2, 1, 3}, random);
  write_tensors(folder.file("t.safetensors"), tensors);
  EXPECT_FALSE(file_exists(folder.file("t.safetensors.partial")));

  const SafetensorsFile file(folder.file("t.safetensors"));
  EXPECT_EQ(file.tensors().size(), tensors.size());
  EXPECT_EQ(file.metadata(), (SafetensorsMetadata{{"format", "pt"}}));
  for (const auto& [name, stored] : tensors) {
    const SafetensorsTensor* tensor = file.find(name);
    ASSERT_TRUE(tensor) << name;
    EXPECT_EQ(tensor->dtype->dtype, stored.dtype);
    EXPECT_EQ(tensor->shape, stored.shape);
    std::vector<std::byte> bytes(tensor->size);
    file.read(*tensor, 0, bytes);
    EXPECT_EQ(bytes, stored.bytes) << name;
    if (bytes.size() > 3) {
      file.read(*tensor, 2, std::span(bytes).first(1));
      EXPECT_EQ(bytes[0], stored.bytes[2]);
    }
  }
  EXPECT_EQ(file.find("c"), nullptr);
}

TEST(Safetensors, WrittenDataBeginsAtAMultipleOfEightBytes) {
  const TempFolder folder;
  for (int length = 1; length < 20; ++length) {
    write_tensors(folder.file("t.safetensors"), {{std::string(static_cast<std::size_t>(length), 'n'),
                                                  {DType::bf16, {1}, std::vector<std::byte>(2)}}});
    const std::string bytes = read_file(folder.file("t.safetensors"));
    EXPECT_EQ((bytes.size() - 2) % 8, 0u);
    EXPECT_EQ(bytes[8], '{');
    EXPECT_NO_THROW(SafetensorsFile(folder.file("t.safetensors")));
  }
}

TEST(Safetensors, ATensorCanBeWrittenRowByRowAndIsNotThereBeforeItIsWhole) {
  const TempFolder folder;
  const std::string path = folder.file("logits.safetensors");
  const SafetensorsEntry entry{"logits", DType::f32, {3, 2}};
  {
    SafetensorsWriter writer(path, {&entry, 1});
    for (int row = 0; row < 3; ++row) {
      const float values[2] = {static_cast<float>(row), 0.5f};
      writer.append(std::as_bytes(std::span(values)));
      EXPECT_FALSE(file_exists(path));
    }
    writer.finish();
  }
  const SafetensorsFile file(path);
  float last = 0;
  file.read(*file.find("logits"), 16, std::as_writable_bytes(std::span(&last, 1)));
  EXPECT_EQ(last, 2);
}

TEST(Safetensors, AnUnfinishedWriterLeavesNothing) {
  const TempFolder folder;
  const SafetensorsEntry entry{"x", DType::f32, {3}};
  { const SafetensorsWriter writer(folder.file("x.safetensors"), {&entry, 1}); }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  EXPECT_THAT(error_of([&] {
                SafetensorsWriter(folder.file("no/such/folder"), {&entry, 1});
              }),
              HasSubstr("cannot write"));
  const SafetensorsEntry twice[] = {entry, entry};
  EXPECT_THAT(error_of([&] { SafetensorsWriter(folder.file("x"), twice); }), HasSubstr("tensor x"));
}

TEST(Safetensors, AFileWithoutTensorsIsAFile) {
  const TempFolder folder;
  write_safetensors(folder.file("none.safetensors"), {});
  EXPECT_EQ(SafetensorsFile(folder.file("none.safetensors")).tensors().size(), 0u);
}

TEST(Safetensors, EveryTypeOfTheFormatIsRecognised) {
  for (const char* name : {"BOOL", "U8",  "I8",  "F8_E5M2", "F8_E4M3", "F8_E8M0", "I16", "U16", "F16",     "BF16",
                           "I32",  "U32", "F32", "C64",     "F64",     "I64",     "U64", "F4",  "F6_E2M3", "F6_E3M2"}) {
    const SafetensorsDType* dtype = find_safetensors_dtype(name);
    ASSERT_TRUE(dtype) << name;
    const std::string header =
        detail::join(R"({"a":{"dtype":")", name, R"(","shape":[8],"data_offsets":[0,)", dtype->bits, "]}}");
    const std::string bytes = safetensors_bytes(header, static_cast<std::size_t>(dtype->bits));
    EXPECT_EQ(SafetensorsHeader::parse(bytes, bytes.size(), "f").tensors()[0].dtype, dtype);
  }
}

struct Malformed {
  const char* what;  // also the name of the case
  std::string bytes;
  const char* message;
};

std::string one(std::string_view fields, std::size_t data) {
  return safetensors_bytes(detail::join(R"({"t":{)", fields, "}}"), data);
}
std::string two(std::string_view a, std::string_view b, std::size_t data) {
  return safetensors_bytes(detail::join(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":)", a,
                                        R"(},"b":{"dtype":"F32","shape":[2],"data_offsets":)", b, "}}"),
                           data);
}

std::vector<Malformed> malformed_files() {
  const std::string good = one(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])", 8);
  const std::string word = R"("dtype":"F32","shape":)";
  std::string many = "{";
  for (std::size_t i = 0; i < kMaxSafetensorsTensors + 2; ++i) many += detail::join(i ? "," : "", '"', i, "\":1");
  many += "}";
  std::string huge_length = good;
  huge_length.replace(0, 8, std::string(8, '\xff'));
  std::string wrapped_length = good;  // length + 8 wraps to a small number
  wrapped_length.replace(0, 8, std::string("\xfc\xff\xff\xff\xff\xff\xff\xff", 8));
  return {
      {"empty file", "", "is empty"},
      {"three bytes", "abc", "cut short: 3 bytes"},
      {"only a length", good.substr(0, 8), "cut short: the header"},
      {"cut in the header", good.substr(0, 20), "cut short: the header"},
      {"cut in the data", good.substr(0, good.size() - 1), "cut short: the tensors need 8 bytes and the file has 7"},
      {"no data", good.substr(0, good.size() - 8), "8 are missing"},
      {"longer", good + "y", "longer than its header says: 1 bytes"},
      {"length of 2^64", huge_length, "would have 18446744073709551615 bytes"},
      {"length that wraps", wrapped_length, "expected at most 100000000"},
      {"length 0", safetensors_bytes("", 8), "does not begin with {"},
      {"Git LFS pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"},
      {"web page", "<!DOCTYPE html><html><body>404</body></html>", "web page"},
      {"web page after space", "\n\n <HTML><body>Sign in to continue</body></HTML>", "web page"},
      {"server's error", "{\"error\":\"Repository not found\"}", "server's error message"},
      {"GGUF", std::string("GGUF\3\0\0\0\0\0\0\0\0\0\0\0", 16), "GGUF"},
      {"pickle", "PK\x03\x04xxxxxxxxxxxxxxxxxx", "pickle"},
      {"not an object", safetensors_bytes("[]", 0), "does not begin with {"},
      {"no JSON", safetensors_bytes("{\"t\":", 0), "f, header"},
      {"JSON and more", safetensors_bytes("{} x", 0), "f, header"},
      {"not UTF-8", safetensors_bytes("{\"\xff\":1}", 0), "f, header"},
      {"nested deeply", safetensors_bytes("{\"t\":" + std::string(50, '[') + std::string(50, ']') + "}", 0),
       "nested too deeply"},
      {"tensor is a number", safetensors_bytes("{\"t\":1}", 0), "\"t\" is an integer"},
      {"no dtype", one(R"("shape":[2],"data_offsets":[0,8])", 8), "has no \"dtype\""},
      {"no shape", one(R"("dtype":"F32","data_offsets":[0,8])", 8), "has no \"shape\""},
      {"no offsets", one(R"("dtype":"F32","shape":[2])", 8), "has no \"data_offsets\""},
      {"dtype twice", one(R"("dtype":"F32","dtype":"I32","shape":[2],"data_offsets":[0,8])", 8), "\"dtype\" twice"},
      {"unknown dtype", one(R"("dtype":"F31","shape":[2],"data_offsets":[0,8])", 8), "unknown dtype \"F31\""},
      {"dtype a number", one(R"("dtype":32,"shape":[2],"data_offsets":[0,8])", 8), "dtype of \"t\" is an integer"},
      {"shape an object", one(word + R"({},"data_offsets":[0,8])", 8), "shape of \"t\" is an object"},
      {"negative dimension", one(word + R"([-2],"data_offsets":[0,8])", 8), "holds -2"},
      {"broken dimension", one(word + R"([2.0],"data_offsets":[0,8])", 8), "holds 2.0"},
      {"dimension beyond 63 bits", one(word + R"([18446744073709551616],"data_offsets":[0,8])", 8),
       "shape of \"t\" holds"},
      {"nine dimensions", one(word + R"([1,1,1,1,1,1,1,1,2],"data_offsets":[0,8])", 8), "9 entries"},
      {"product that wraps to 4", one(word + R"([4194305,4194305,211106198978564],"data_offsets":[0,16])", 16),
       "overflows"},
      {"product that wraps to 0", one(word + R"([4294967296,4294967296],"data_offsets":[0,0])", 0), "overflows"},
      {"size in bits that wraps", one(word + R"([576460752303423488],"data_offsets":[0,0])", 0), "overflows"},
      {"span too small", one(word + R"([2],"data_offsets":[0,4])", 4), "spans 4 bytes, expected 8"},
      {"span too large", one(word + R"([2],"data_offsets":[0,12])", 12), "spans 12 bytes, expected 8"},
      {"span backwards", one(word + R"([2],"data_offsets":[8,0])", 8), "the end before the beginning"},
      {"negative offset", one(word + R"([2],"data_offsets":[-8,0])", 8), "holds -8"},
      {"one offset", one(word + R"([2],"data_offsets":[8])", 8), "1 entries, expected 2"},
      {"three offsets", one(word + R"([2],"data_offsets":[0,8,8])", 8), "3 entries"},
      {"offsets beyond the file", one(word + R"([2],"data_offsets":[9223372036854775799,9223372036854775807])", 8),
       "belong to no tensor"},
      {"half a byte", one(R"("dtype":"F4","shape":[3],"data_offsets":[0,1])", 1), "whole byte"},
      {"overlap", two("[0,8]", "[4,12]", 12), "overlaps"},
      {"same bytes twice", two("[0,8]", "[0,8]", 8), "overlaps"},
      {"hole between", two("[0,8]", "[12,20]", 20), "4 bytes in front of tensor \"b\""},
      {"hole in front", two("[4,12]", "[12,20]", 20), "4 bytes in front of tensor \"a\""},
      {"same name twice",
       safetensors_bytes(
           R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"I8","shape":[1],"data_offsets":[1,2]}})",
           2),
       "names the tensor \"a\" twice"},
      {"empty name", safetensors_bytes(R"({"":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1), "empty name"},
      {"long name", safetensors_bytes("{\"" + std::string(513, 'n') + "\":{}}", 0), "513 bytes"},
      {"control character", safetensors_bytes(R"({"a\u0000b":{}})", 0), "control character"},
      {"metadata a list", safetensors_bytes(R"({"__metadata__":[]})", 0), "__metadata__ is an array"},
      {"metadata of numbers", safetensors_bytes(R"({"__metadata__":{"a":1}})", 0), "\"a\" is an integer"},
      {"metadata twice", safetensors_bytes(R"({"__metadata__":{},"__metadata__":{}})", 0), "twice"},
      {"too many tensors", safetensors_bytes(many, 0), "at most 200000"},
  };
}

TEST(Safetensors, EveryMalformedFileIsRefusedAndTheMessageSaysWhy) {
  const TempFolder folder;
  for (const Malformed& bad : malformed_files()) {
    const std::string path = folder.write("f", bad.bytes);
    const std::string message = error_of([&] { SafetensorsFile file(path); });
    EXPECT_THAT(message, AllOf(HasSubstr(bad.message), HasSubstr(path))) << bad.what;
    // From memory, as the fuzzer sees it.
    EXPECT_NE(error_of([&] { SafetensorsHeader::parse(bad.bytes, bad.bytes.size(), "f"); }), "no error") << bad.what;
  }
  EXPECT_GE(malformed_files().size(), 50u);
}

TEST(Safetensors, MessagesSayWhatToDo) {
  const TempFolder folder;
  for (const Malformed& bad : malformed_files()) {
    try {
      SafetensorsFile file(folder.write("f", bad.bytes));
    } catch (const Error& e) {
      if (e.message().find("overflows") == std::string::npos && e.message().find("nested") == std::string::npos) {
        EXPECT_NE(e.remedy(), "") << bad.what << ": " << e.what();
      }
    }
  }
  EXPECT_THAT(error_of([&] { SafetensorsFile file(folder.write("m.safetensors.incomplete", "x")); }),
              HasSubstr("did not finish"));
  EXPECT_THAT(error_of([&] { SafetensorsFile file(folder.file("none")); }), HasSubstr("cannot open"));
}

TEST(Safetensors, AFileThatShrinksWhileOpenIsAnError) {
  const TempFolder folder;
  const std::string path = folder.write("f", one(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])", 8));
  const SafetensorsFile file(path);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 4);
  std::vector<std::byte> bytes(8);
  EXPECT_THAT(error_of([&] { file.read(*file.find("t"), 0, bytes); }), HasSubstr("the file ends"));
}

TEST(Safetensors, ZeroSizedTensorsMayStandAnywhereBetweenOthers) {
  const std::string bytes = safetensors_bytes(
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"z":{"dtype":"F32","shape":[0,9223372036854775807],"data_offsets":[8,8]},)"
      R"("y":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})",
      8);
  EXPECT_EQ(SafetensorsHeader::parse(bytes, bytes.size(), "f").tensors().size(), 3u);
}

}  // namespace
}  // namespace cajal
