// Stands in for libFuzzer where it is not linked: runs every input of the folders and files that it is given.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

void run(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  const std::vector<std::uint8_t> input(bytes.begin(), bytes.end());
  std::printf("%s\n", path.c_str());
  std::fflush(stdout);  // the last line names the input that failed
  LLVMFuzzerTestOneInput(input.data(), input.size());
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::filesystem::path given = argv[i];
    if (!std::filesystem::is_directory(given)) {
      if (std::filesystem::exists(given)) run(given);
      continue;
    }
    for (const auto& entry : std::filesystem::recursive_directory_iterator(given))
      if (entry.is_regular_file()) run(entry.path());
  }
  LLVMFuzzerTestOneInput(nullptr, 0);
}
