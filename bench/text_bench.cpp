// Speed of the tokenizer on files: text_bench FOLDER_OF_TOKENIZER FILE... prints, per file, MB/s of encode and of decode
// on one thread (median of several runs, in processor time, so that a busy machine does not count) and bytes a token.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/utf8.h"
#include "text/tokenizer.h"

namespace {

using cajal::Tokenizer;

template <class Body>
double median_seconds(const Body& body) {
  std::vector<double> seconds;
  for (int run = 0; run < 7; ++run) {
    const std::clock_t start = std::clock();
    body();
    seconds.push_back(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
  }
  std::nth_element(seconds.begin(), seconds.begin() + 3, seconds.end());
  return seconds[3];
}

void bench(const Tokenizer& tokenizer, const std::string& path) {
  const std::string text = cajal::replace_invalid_utf8(cajal::read_file(path));
  std::vector<std::int32_t> ids;
  std::size_t decoded = 0;
  const double encode_s = median_seconds([&] { ids = tokenizer.encode(text); });
  const double decode_s = median_seconds([&] { decoded = tokenizer.decode(ids).size(); });
  const double megabytes = static_cast<double>(text.size()) / 1e6;
  std::printf("%-40s %8.2f MB  encode %7.1f MB/s  decode %7.1f MB/s  %.2f bytes a token\n", path.c_str(), megabytes,
              megabytes / encode_s, static_cast<double>(decoded) / 1e6 / decode_s,
              static_cast<double>(text.size()) / static_cast<double>(std::max<std::size_t>(ids.size(), 1)));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: text_bench FOLDER FILE...\n");
    return 2;
  }
  try {
    const double load_s = median_seconds([&] { Tokenizer::from_folder(argv[1]); });
    std::printf("load %.0f ms\n", load_s * 1e3);
    const Tokenizer tokenizer = Tokenizer::from_folder(argv[1]);
    for (int i = 2; i < argc; ++i) bench(tokenizer, argv[i]);
  } catch (const cajal::Error& e) {
    std::fprintf(stderr, "text_bench: error: %s\n", e.what());
    return 1;
  }
  return 0;
}
