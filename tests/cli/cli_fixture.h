#pragma once
// Runs the program in this process, and folders to run it on.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/run.h"

namespace cajal::cli {

struct Ran {
  int code = 0;
  std::string out, err;

  // The last line of what went to standard error.
  std::string last_line() const {
    std::string text = err;
    while (text.ends_with('\n')) text.pop_back();
    return text.substr(text.find_last_of('\n') + 1);
  }
  Json json() const { return parse_json(out, "standard output"); }
};

inline Ran cajal(const std::vector<std::string>& arguments, const std::string& input = {},
                 const Environment& environment = {}) {
  std::istringstream in(input);
  std::ostringstream out, err;
  const int code = run(arguments, environment, in, out, err);
  return {code, out.str(), err.str()};
}

// A folder of its own for a test, removed at its end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "cajal-cli-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string file(const std::string& name, const std::string& content) const {
    const std::filesystem::path path = std::filesystem::path(path_) / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << content;
    return path.string();
  }

 private:
  std::string path_;
};

inline std::string tokenizer_folder() { return CAJAL_TEST_DATA "/qwen3-tokenizer"; }

inline const char* tiny_config() {
  return R"({"architectures":["Qwen3ForCausalLM"],"model_type":"qwen3","vocab_size":96,"hidden_size":64,
    "intermediate_size":128,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":32,
    "hidden_act":"silu","max_position_embeddings":128,"rms_norm_eps":1e-6,"rope_theta":1000000,
    "tie_word_embeddings":true,"torch_dtype":"bfloat16","eos_token_id":95})";
}

}  // namespace cajal::cli
