// Any bytes as config.json and as generation_config.json: reading ends in a configuration or an Error, and from a
// configuration everything else about it can be worked out, in numbers that are finite.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "models/generation_config.h"
#include "models/qwen3_config.h"

namespace {

void check_frequencies(const std::vector<float>& frequencies, std::size_t wanted) {
  CAJAL_CHECK(frequencies.size() == wanted);
  for (const float f : frequencies) CAJAL_CHECK(std::isfinite(f), f);
}

void check(const cajal::Qwen3Config& c) {
  const auto layers = static_cast<std::size_t>(c.num_hidden_layers);
  CAJAL_CHECK(c.sliding_window.size() == layers && c.sparse_layer.size() == layers);
  CAJAL_CHECK(c.num_attention_heads % c.num_key_value_heads == 0 && c.head_dim % 2 == 0);
  CAJAL_CHECK(c.num_experts_per_tok <= c.num_experts);
  CAJAL_CHECK(cajal::default_max_model_len(c) >= 1);
  const auto table = cajal::rotary_table(c.rope, c.head_dim, c.max_position_embeddings);
  const auto half = static_cast<std::size_t>(c.head_dim) / 2;
  check_frequencies(table.inv_freq, half);
  if (c.rope.kind == cajal::RopeKind::longrope) check_frequencies(table.long_inv_freq, half);
  CAJAL_CHECK(std::isfinite(table.attention_scaling) && table.attention_scaling > 0);
}

template <class Body>
void only_errors(Body&& body) {
  try {
    body();
  } catch (const cajal::Error& e) {
    CAJAL_CHECK(!e.message().empty());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  cajal::set_log_level(cajal::LogLevel::error);
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  only_errors([&] {
    const cajal::Json json = cajal::parse_json(text, "input");
    only_errors([&] { cajal::read_generation_config(json, "input"); });
    check(cajal::read_qwen3_config(json, "input"));
  });
  return 0;
}
