#include "compiler/manifest.h"

#include <algorithm>
#include <limits>
#include <set>

#include "base/checksum.h"
#include "base/error.h"
#include "base/json.h"

namespace cajal {
namespace {

constexpr std::size_t kMostEntries = 1'000'000;
constexpr std::string_view kNoChecksum = "0000000000000000";
constexpr const char* kDamaged = "copy the export again, or export the model again";

// One object of the file.
class Reader {
 public:
  Reader(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) damaged("is ", object.type_name(), ", expected an object");
  }

  template <class... Parts>
  [[noreturn]] void damaged(const Parts&... parts) const {
    fail(ErrorCode::data_loss, where_, ": ", parts..., remedy(kDamaged));
  }
  const Json& member(const char* key) const {
    const Json* found = object_.find(key);
    if (!found) damaged("'", key, "' is missing");
    return *found;
  }
  Reader inside(const char* key) const { return {member(key), detail::join(where_, ", ", key)}; }
  std::string text(const char* key) const {
    const Json& value = member(key);
    if (!value.is_string()) damaged("'", key, "' is ", value.type_name(), ", expected a string");
    return value.as_string();
  }
  bool flag(const char* key) const {
    const Json& value = member(key);
    if (!value.is_bool()) damaged("'", key, "' is ", value.type_name(), ", expected a boolean");
    return value.as_bool();
  }
  std::int64_t integer(const char* key, std::int64_t least = 0,
                       std::int64_t most = std::numeric_limits<std::int64_t>::max()) const {
    const Json& value = member(key);
    if (!value.is_int() || value.as_int() < least || value.as_int() > most)
      damaged("'", key, "' is not an integer of at least ", least);
    return value.as_int();
  }
  std::uint64_t size(const char* key) const { return static_cast<std::uint64_t>(integer(key)); }
  std::uint64_t sum(const char* key) const {
    std::uint64_t into = 0;
    if (!parse_checksum(text(key), into)) damaged("'", key, "' is not a checksum");
    return into;
  }
  // A file in the folder: no way out of it.
  std::string file(const char* key) const {
    std::string name = text(key);
    const bool plain = std::all_of(name.begin(), name.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
             c == '-' || c == '/';
    });
    if (!plain || name.empty() || name.size() > 255 || name.front() == '/' || name.find("..") != std::string::npos)
      damaged("'", key, "' is not the name of a file in the folder");
    return name;
  }
  template <class T, class Read>
  std::vector<T> list(const char* key, const Read& read) const {
    const Json& value = member(key);
    if (!value.is_array() || value.as_array().size() > kMostEntries) damaged("'", key, "' is not a list");
    std::vector<T> entries;
    for (std::size_t i = 0; i < value.as_array().size(); ++i)
      entries.push_back(read(Reader(value.as_array()[i], detail::join(where_, ", ", key, " ", i))));
    return entries;
  }

 private:
  const Json& object_;
  std::string where_;
};

Json to_json_object(const Bucket& b) {
  return Json::Object{{"num_tokens", b.num_tokens},
                      {"num_seqs", b.num_seqs},
                      {"max_blocks_per_seq", b.max_blocks_per_seq},
                      {"num_logits", b.num_logits}};
}
Bucket read_bucket(const Reader& r) {
  constexpr std::int64_t kMost = std::int64_t{1} << 40;
  return {r.integer("num_tokens", 1, kMost), r.integer("num_seqs", 1, kMost), r.integer("max_blocks_per_seq", 1, kMost),
          r.integer("num_logits", 1, kMost)};
}

Json to_json_object(const ExportedFile& f) {
  return Json::Object{{"name", f.name}, {"bytes", f.bytes}, {"checksum", checksum_text(f.checksum)}};
}
ExportedFile read_file_entry(const Reader& r) { return {r.file("name"), r.size("bytes"), r.sum("checksum")}; }

Json to_json_object(const ExportedGraph& g) {
  return Json::Object{{"kind", to_string(g.kind)},
                      {"bucket", to_json_object(g.bucket)},
                      {"file", g.file},
                      {"arena_bytes", g.arena_bytes}};
}
ExportedGraph read_graph(const Reader& r) {
  const auto kind = graph_kind_from_string(r.text("kind"));
  if (!kind) r.damaged("'kind' is not a kind of graph");
  return {*kind, read_bucket(r.inside("bucket")), r.file("file"), r.size("arena_bytes")};
}

Json to_json_object(const ExportedTensor& t) {
  return Json::Object{{"name", t.name}, {"type", to_string(t.type)}, {"checksum", checksum_text(t.checksum)}};
}
ExportedTensor read_tensor(const Reader& r) {
  ExportedTensor tensor{r.text("name"), {}, r.sum("checksum")};
  const std::string text = r.text("type");
  std::string_view rest = text;
  if (!parse_tensor_type(rest, tensor.type) || !rest.empty() || tensor.type.shape.dynamic())
    r.damaged("'type' is not the type of a weight");
  return tensor;
}

Json to_json_object(const ExportedWeights& w);

template <class T>
Json to_json_list(const std::vector<T>& entries) {
  Json::Array list;
  for (const T& entry : entries) list.push_back(to_json_object(entry));
  return list;
}

Json to_json_object(const ExportedWeights& w) {
  return Json::Object{{"file", w.file}, {"bytes", w.bytes}, {"tensors", to_json_list(w.tensors)}};
}
ExportedWeights read_weights(const Reader& r) {
  return {r.file("file"), r.size("bytes"), r.list<ExportedTensor>("tensors", read_tensor)};
}

Json to_json_object(const QuantizationRecipe& q) {
  Json json = Json::Object{{"group_size", q.group_size}};
  for (int f = 0; f < kWeightFamilies; ++f)
    json.set(to_string(static_cast<WeightFamily>(f)), q.bits[static_cast<std::size_t>(f)]);
  return json;
}
QuantizationRecipe read_quantization(const Reader& r) {
  QuantizationRecipe recipe;
  recipe.group_size = static_cast<int>(r.integer("group_size", 1, 1 << 16));
  for (int f = 0; f < kWeightFamilies; ++f)
    recipe.bits[static_cast<std::size_t>(f)] =
        static_cast<int>(r.integer(to_string(static_cast<WeightFamily>(f)), 0, kLosslessBits));
  return recipe;
}

// Over the text with zeros in the checksum's own place.
std::string checksum_line(std::string_view sum) { return detail::join("\"checksum_of_this_file\": \"", sum, "\""); }

void check_own_checksum(std::string_view text, const Reader& r) {
  std::string zeroed(text);
  const std::string line = checksum_line(r.text("checksum_of_this_file"));
  const auto at = zeroed.find(line);
  if (at == std::string::npos) r.damaged("its checksum is not where it is written");
  zeroed.replace(at, line.size(), checksum_line(kNoChecksum));
  const std::string found = checksum_text(checksum(zeroed));
  if (found != r.text("checksum_of_this_file"))
    r.damaged("its checksum is ", found, ", expected ", r.text("checksum_of_this_file"), ": the file was changed");
}

void check_format(const Reader& r) {
  const std::int64_t version = r.integer("format_version", 1);
  if (version == kExportFormatVersion) return;
  r.text("cajal_version");
  fail(ErrorCode::unsupported, "the export has format version ", version, " (cajal ", r.text("cajal_version"),
       "), and this is cajal " CAJAL_VERSION ", which reads version ", kExportFormatVersion,
       remedy(version > kExportFormatVersion ? "install that version of cajal" : "export the model again"));
}

void check_references(const Manifest& m, const Reader& r) {
  std::set<std::string> names;
  for (const ExportedFile& file : m.files)
    if (!names.insert(file.name).second) r.damaged("'", file.name, "' stands twice among the files");
  for (const ExportedGraph& graph : m.graphs)
    if (!names.contains(graph.file)) r.damaged("the graph '", graph.file, "' is not among the files");
  if (m.ranks.empty()) r.damaged("it has weights of no rank");
}

}  // namespace

std::string to_json_text(const Manifest& m) {
  const Json json = Json::Object{{"format_version", kExportFormatVersion},
                                 {"cajal_version", m.cajal_version},
                                 {"checksum_of_this_file", kNoChecksum},
                                 {"target", m.target},
                                 {"dtype", to_string(m.dtype)},
                                 {"logits", m.logits},
                                 {"last_hidden_state", m.last_hidden_state},
                                 {"embedding_tensor", m.embedding_tensor},
                                 {"lm_head_tensor", m.lm_head_tensor},
                                 {"quantization", to_json_object(m.quantization)},
                                 {"num_threads", m.num_threads},
                                 {"kv_bytes_per_block", m.kv_bytes_per_block},
                                 {"source", m.source},
                                 {"files", to_json_list(m.files)},
                                 {"graphs", to_json_list(m.graphs)},
                                 {"ranks", to_json_list(m.ranks)}};
  std::string text = to_json(json, 2) + "\n";
  const std::string line = checksum_line(kNoChecksum);
  return text.replace(text.find(line), line.size(), checksum_line(checksum_text(checksum(text))));
}

namespace {

Json parse_own_json(std::string_view text, std::string_view what) {
  try {
    return parse_json(text, what);
  } catch (const Error& e) {
    throw Error(e.code(), e.message(), kDamaged);
  }
}

}  // namespace

Manifest parse_manifest(std::string_view text, std::string_view what) {
  const Json json = parse_own_json(text, what);
  const Reader r(json, std::string(what));
  with_context(what, [&] { check_format(r); });
  check_own_checksum(text, r);
  Manifest m;
  m.cajal_version = r.text("cajal_version");
  m.target = r.text("target");
  const auto dtype = dtype_from_string(r.text("dtype"));
  if (!dtype) r.damaged("'dtype' is not an element type");
  m.dtype = *dtype;
  m.logits = r.flag("logits");
  m.last_hidden_state = r.flag("last_hidden_state");
  m.embedding_tensor = r.text("embedding_tensor");
  m.lm_head_tensor = r.text("lm_head_tensor");
  m.quantization = read_quantization(r.inside("quantization"));
  m.num_threads = static_cast<int>(r.integer("num_threads", 1, 1 << 20));
  m.kv_bytes_per_block = r.size("kv_bytes_per_block");
  m.source = r.text("source");
  m.files = r.list<ExportedFile>("files", read_file_entry);
  m.graphs = r.list<ExportedGraph>("graphs", read_graph);
  m.ranks = r.list<ExportedWeights>("ranks", read_weights);
  check_references(m, r);
  return m;
}

}  // namespace cajal
