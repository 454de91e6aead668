#pragma once
// The results of a load as vLLM's benchmark prints and saves them.
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "load/statistics.h"

namespace cajal::load {

struct ReportOptions {
  std::vector<std::string> metrics = {"ttft", "tpot", "itl"};  // and e2el
  double request_rate = 0;                                     // may be infinite
  std::optional<std::int64_t> max_concurrency = {};
  bool goodput = false;  // was asked for
};

// The table, 50 columns wide.
std::string report_text(const Summary& summary, const ReportOptions& options);
// Its figures under the keys of vLLM's file, and with `outcomes` what came of every request.
Json report_json(const Summary& summary, const ReportOptions& options, std::span<const RequestOutcome> outcomes,
                 bool detailed);

}  // namespace cajal::load
