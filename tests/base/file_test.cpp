#include "base/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "base/error.h"

namespace cajal {
namespace {

using testing::HasSubstr;

class FileTest : public testing::Test {
 protected:
  FileTest() {
    std::string name = (std::filesystem::temp_directory_path() / "cajal-file-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw std::runtime_error("no temporary folder");
    folder_ = name;
  }
  ~FileTest() override { std::filesystem::remove_all(folder_); }

  std::string path(const char* name) const { return (folder_ / name).string(); }

  std::filesystem::path folder_;
};

TEST_F(FileTest, ReadsBackWhatWasWritten) {
  const std::string content("a\0b\n", 4);
  write_file(path("f"), content);
  EXPECT_EQ(read_file(path("f")), content);
  EXPECT_EQ(File(path("f")).size(), 4u);
  write_file(path("f"), "");
  EXPECT_EQ(read_file(path("f")), "");
}

TEST_F(FileTest, LeavesNothingBesideWhatItWrites) {
  write_file(path("f"), "x");
  const auto files = std::distance(std::filesystem::directory_iterator(folder_), {});
  EXPECT_EQ(files, 1);
}

TEST_F(FileTest, ManyWritersLeaveWhatOneOfThemWrote) {
  std::vector<std::thread> writers;
  for (char letter : {'a', 'b', 'c', 'd'})
    writers.emplace_back([this, letter] {
      for (int i = 0; i < 200; ++i) write_file(path("f"), std::string(300, letter));
    });
  for (std::thread& writer : writers) writer.join();
  const std::string left = read_file(path("f"));
  EXPECT_EQ(left, std::string(300, left.at(0)));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST_F(FileTest, ReadsFromAnOffset) {
  write_file(path("f"), "0123456789");
  File file(path("f"));
  std::array<char, 3> three{};
  file.read(7, std::as_writable_bytes(std::span(three)));
  EXPECT_EQ(std::string_view(three.data(), 3), "789");
  File moved = std::move(file);
  moved.read(0, std::as_writable_bytes(std::span(three)));
  EXPECT_EQ(std::string_view(three.data(), 3), "012");
}

TEST_F(FileTest, AnEndThatComesEarlyIsAnError) {
  write_file(path("f"), "0123");
  const File file(path("f"));
  std::array<std::byte, 3> three{};
  try {
    file.read(2, three);
    FAIL() << "nothing was thrown";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::data_loss);
    EXPECT_THAT(e.what(), HasSubstr(path("f") + ": the file ends at byte 4, 1 bytes early"));
  }
}

TEST_F(FileTest, AMissingFileIsNotFoundAndNamed) {
  EXPECT_FALSE(file_exists(path("absent")));
  try {
    const File file(path("absent"));
    FAIL() << "nothing was thrown";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::not_found);
    EXPECT_THAT(e.what(), HasSubstr(path("absent") + ": cannot open: No such file"));
  }
}

TEST_F(FileTest, AFolderIsNoFile) {
  EXPECT_FALSE(file_exists(folder_.string()));
  EXPECT_THROW(File(folder_.string()), Error);
}

TEST_F(FileTest, AFileLargerThanExpectedIsRefusedBeforeItIsRead) {
  write_file(path("f"), "0123456789");
  EXPECT_EQ(read_file(path("f"), 10).size(), 10u);
  EXPECT_THROW(read_file(path("f"), 9), Error);
}

TEST_F(FileTest, AFailedWriteKeepsWhatWasThere) {
  EXPECT_THROW(write_file(path("absent/f"), "x"), Error);
  std::filesystem::create_directory(path("taken"));
  EXPECT_THROW(write_file(path("taken"), "x"), Error);
  EXPECT_TRUE(std::filesystem::is_directory(path("taken")));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

}  // namespace
}  // namespace cajal
