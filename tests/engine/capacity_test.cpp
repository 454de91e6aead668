// Experts that take no more than a share of a prompt's tokens: off unless asked for, the same from exports.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "backends/backend.h"
#include "engine/export/export_model.h"
#include "engine/scorer.h"
#include "golden.h"

namespace cajal {
namespace {

using testing::HasSubstr;

class Capacity : public testing::Test {
 protected:
  // 2 of 5 experts a token: an expert's even share of 40 tokens is 16.
  const std::string folder_ = CAJAL_TEST_DATA "/goldens/m_norm_false";
  std::unique_ptr<Backend> backend_ = make_backend("cpu", {2});
  const Golden golden_{folder_};

  std::vector<float> logits_of(const std::string& folder, std::optional<double> factor, std::int64_t chunk) {
    const Model model({.folder = folder, .capacity_factor = factor}, *backend_);
    std::vector<float> rows;
    ScoreOptions options;
    options.chunk_size = chunk;
    options.on_logits = [&](std::int64_t, std::span<const float> row) {
      rows.insert(rows.end(), row.begin(), row.end());
    };
    score(model, golden_.input_ids, static_cast<std::int64_t>(golden_.input_ids.size()), options);
    return rows;
  }
};

TEST_F(Capacity, OfAllTokensIsNone) {
  EXPECT_EQ(logits_of(folder_, 2.5, 64), logits_of(folder_, {}, 64));
  EXPECT_NE(logits_of(folder_, 0.5, 64), logits_of(folder_, {}, 64)) << "nothing was dropped";
}

TEST_F(Capacity, NeverDropsATokenThatIsAloneInItsStep) {
  EXPECT_EQ(logits_of(folder_, 0.1, 1), logits_of(folder_, {}, 1));
}

TEST_F(Capacity, IsInAnExportWhatItIsDirectly) {
  const auto out = std::filesystem::temp_directory_path() / "cajal_capacity_export";
  std::filesystem::remove_all(out);
  export_model({.model = {.folder = folder_},
                .output = out,
                .limits = {.sequence_length = 64, .prefill_chunk_size = 16, .capacity_factor = 0.5}});
  EXPECT_EQ(ExportFolder(out).neuron_config().capacity_factor, 0.5);
  EXPECT_EQ(logits_of(out, {}, 16), logits_of(folder_, 0.5, 16));
  try {
    logits_of(out, 0.75, 16);
    FAIL() << "an export was run with another capacity";
  } catch (const Error& e) {
    EXPECT_THAT(e.message(), HasSubstr("capacity_factor 0.75 is asked for"));
  }
  std::filesystem::remove_all(out);
}

TEST_F(Capacity, IsRefusedWhereItMeansNothing) {
  try {
    const Model model({.folder = CAJAL_TEST_DATA "/goldens/d_mqa", .capacity_factor = 1.0}, *backend_);
    FAIL() << "a dense model took a capacity of experts";
  } catch (const Error& e) {
    EXPECT_THAT(e.message(), HasSubstr("the model has no experts"));
  }
}

}  // namespace
}  // namespace cajal
