#include "api/make_export.h"

#include "engine/export/export_model.h"

namespace cajal::testing {

void make_export(const std::string& model, const std::string& output) {
  export_model({.model = {.folder = model},
                .output = output,
                .limits = {.batch_size = 2, .sequence_length = 64, .max_context_length = 16}});
}

}  // namespace cajal::testing
