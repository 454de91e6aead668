// cajal cache: the exports that --export-cache keeps.
#include "cli/commands.h"
#include "cli/tables.h"
#include "cli/usage_error.h"
#include "engine/export/export_cache.h"

namespace cajal::cli {
namespace {

Json list_json(const std::vector<CachedExport>& exports) {
  Json::Array list;
  for (const CachedExport& e : exports)
    list.emplace_back(Json::Object{{"folder", e.folder}, {"model", e.model}, {"target", e.target}, {"bytes", e.bytes}});
  return list;
}

std::string list_text(const std::vector<CachedExport>& exports, const std::string& cache) {
  if (exports.empty()) return "nothing in " + cache + "\n";
  Table table({"model", "target", "size"});
  for (const CachedExport& e : exports)
    table.add(
        {e.model.empty() ? "(incomplete) " + e.folder : e.model, e.target, human_bytes(static_cast<double>(e.bytes))});
  return table.text();
}

}  // namespace

void run_cache(CommandContext& context) {
  const Options& o = context.options;
  if (o.action.empty()) misuse("cajal cache what?", remedy("say 'cajal cache list' or 'cajal cache clean'"));
  const std::string cache = cache_folder(context.environment);
  const std::vector<CachedExport> exports = list_cache(cache);
  if (o.action == "clean") clean_cache(cache);
  if (o.json) return context.out.write(to_json(list_json(exports)) + "\n");
  if (o.action == "list") return context.out.write(list_text(exports, cache));
  std::uint64_t bytes = 0;
  for (const CachedExport& e : exports) bytes += e.bytes;
  context.out.write(detail::join("removed ", exports.size(), exports.size() == 1 ? " export, " : " exports, ",
                                 human_bytes(static_cast<double>(bytes)), "\n"));
}

}  // namespace cajal::cli
