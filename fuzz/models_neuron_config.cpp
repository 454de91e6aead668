// Any bytes as neuron_config.json: reading ends in a configuration or an Error, and a configuration is written as text that
// reads back to the same.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "models/neuron_config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const cajal::NeuronConfig config = cajal::read_neuron_config(cajal::parse_json(text, "input"), "input");
    const std::string written = cajal::to_json_text(config);
    const cajal::NeuronConfig again = cajal::read_neuron_config(cajal::parse_json(written, "written"), "written");
    CAJAL_CHECK(again == config, written);
    const cajal::BucketLimits limits = cajal::limits_of(config);
    CAJAL_CHECK(limits.max_num_seqs > 0 && limits.prefill_chunk_size > 0 &&
                limits.prefill_chunk_size <= limits.max_model_len);
  } catch (const cajal::Error& e) {
    CAJAL_CHECK(!e.message().empty());
  }
  return 0;
}
