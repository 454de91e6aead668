#pragma once
// Engines to test the library with, by what its public headers offer.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "cajal/cajal.h"

namespace cajal::testing {

// A small model with Qwen3's tokenizer and random weights, in a folder of its own.
class TextModel {
 public:
  explicit TextModel(int intermediate_size = 64) {
    std::string pattern = (std::filesystem::temp_directory_path() / "cajal-api-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
    std::ofstream(folder_ + "/config.json") << R"({"architectures":["Qwen3ForCausalLM"],"model_type":"qwen3",
      "vocab_size":151936,"hidden_size":32,"num_hidden_layers":1,"num_attention_heads":2,
      "num_key_value_heads":1,"head_dim":16,"hidden_act":"silu","max_position_embeddings":4096,"rms_norm_eps":1e-6,
      "rope_theta":1000000,"tie_word_embeddings":false,"torch_dtype":"bfloat16","eos_token_id":151645,
      "intermediate_size":)" << intermediate_size
                                            << "}";
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
      std::filesystem::copy_file(std::string(CAJAL_TEST_DATA "/qwen3-tokenizer/") + name, folder_ + "/" + name);
  }
  ~TextModel() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  TextModel(const TextModel&) = delete;
  TextModel& operator=(const TextModel&) = delete;

  EngineConfig config() const {
    EngineConfig config;
    config.model = folder_;
    config.load_format = "dummy";
    config.threads = 1;
    config.max_num_batched_tokens = 16;
    return config;
  }

 private:
  std::string folder_;
};

inline std::string golden_folder() { return CAJAL_TEST_DATA "/goldens/d_bf16_tied"; }

// Answers that would go on for long.
inline SamplingParams endless() {
  SamplingParams params;
  params.max_tokens = 4000;
  params.ignore_eos = true;
  return params;
}

}  // namespace cajal::testing
