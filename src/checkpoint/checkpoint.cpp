#include "checkpoint/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <numeric>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "checkpoint/quantized_names.h"

namespace cajal {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kDamagedIndex = "download the index again, or write it again with save_pretrained";
constexpr std::string_view kPrefix = "model.";
constexpr std::size_t kMaxIndexTensors = 1'000'000;

std::string in_folder(const std::string& folder, std::string_view name) { return (fs::path(folder) / name).string(); }

bool plain_file_name(std::string_view name) {
  if (name.empty() || name.size() > 255 || name.front() == '.' || !name.ends_with(".safetensors")) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f && c != '/' && c != '\\';
  });
}

std::string escaped(std::string_view text) {
  std::string out;
  append_json_string(out, text.substr(0, 80));
  return out;
}

// Says what a folder without weights of ours holds instead.
[[noreturn]] void fail_without_weights(const std::string& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error))
    fail(ErrorCode::not_found, folder, ": no such folder",
         remedy("give the folder of a model in Hugging Face's format"));
  std::map<std::string, std::string> kinds;  // what -> one file of it; ordered, so that the message is always the same
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (name.ends_with(".incomplete")) kinds.emplace("1 an unfinished download", name);
    if (name.starts_with("adapter_model.")) kinds.emplace("2 an adapter without its base model", name);
    if (name.ends_with(".gguf")) kinds.emplace("3 GGUF", name);
    if (name.starts_with("pytorch_model") || name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth"))
      kinds.emplace("4 PyTorch (pickle)", name);
    if (name.ends_with(".h5") || name.ends_with(".msgpack") || name.ends_with(".onnx"))
      kinds.emplace("5 another framework's weights", name);
    if (name.ends_with(".safetensors")) kinds.emplace("6 safetensors under another name", name);
  }
  const std::string missing = detail::join(folder, ": holds neither ", kSingle, " nor ", kIndex);
  if (kinds.empty())
    fail(ErrorCode::not_found, missing,
         remedy("download the model's weights, or use --load-format dummy for random ones"));
  const auto& [kind, file] = *kinds.begin();
  const char number = kind.front();
  fail(number == '1' || number == '6' ? ErrorCode::not_found : ErrorCode::unsupported, missing, "; there is ", file,
       " (", kind.substr(2), number >= '2' && number <= '5' ? ", not supported)" : ")",
       remedy(number == '1'   ? "finish the download"
              : number == '2' ? "merge the adapter into its base model and give the merged model's folder"
              : number == '6'
                  ? "download the index that belongs to it, or name the single file model.safetensors"
                  : "use the model's safetensors weights; save_pretrained(..., safe_serialization=True) writes them"));
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t changed = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::string nearest_name(std::string_view name, const std::vector<std::string_view>& names) {
  std::size_t best = name.size() / 4 + 1;  // further away than this it would only confuse
  std::string_view nearest;
  for (const std::string_view other : names) {
    const std::size_t difference = std::max(name.size(), other.size()) - std::min(name.size(), other.size());
    if (difference >= best) continue;
    if (const std::size_t distance = edit_distance(name, other); distance < best) {
      best = distance;
      nearest = other;
    }
  }
  return std::string(nearest);
}

std::vector<std::pair<std::string, std::string>> parse_checkpoint_index(std::string_view json,
                                                                        const std::string& what) {
  const auto broken = [&](const auto&... parts) {
    fail(ErrorCode::data_loss, what, ": ", parts..., remedy(kDamagedIndex));
  };
  const Json root = parse_json(json, what, {.max_bytes = kMaxSafetensorsHeaderBytes, .max_depth = 16});
  if (!root.is_object()) broken("is ", root.type_name(), ", expected an object");
  const Json* weight_map = nullptr;
  for (const auto& [key, value] : root.as_object())
    if (key == "weight_map") {
      if (weight_map) broken("has \"weight_map\" twice");
      weight_map = &value;
    }
  if (!weight_map) broken("has no \"weight_map\"");
  if (!weight_map->is_object()) broken("weight_map is ", weight_map->type_name(), ", expected an object");
  const Json::Object& map = weight_map->as_object();
  if (map.empty()) broken("weight_map is empty");
  if (map.size() > kMaxIndexTensors)
    broken("weight_map has ", map.size(), " tensors, expected at most ", kMaxIndexTensors);

  std::vector<std::pair<std::string, std::string>> entries;
  entries.reserve(map.size());
  for (const auto& [tensor, file] : map) {
    if (tensor.empty() || tensor.size() > kMaxTensorNameBytes)
      broken("weight_map: the name ", escaped(tensor), " has ", tensor.size(), " bytes, expected 1 to ",
             kMaxTensorNameBytes);
    if (!file.is_string()) broken("weight_map: ", escaped(tensor), " is ", file.type_name(), ", expected a file name");
    if (!plain_file_name(file.as_string()))
      broken("weight_map: ", escaped(tensor), " is in ", escaped(file.as_string()),
             ", expected the plain name of a .safetensors file in the same folder");
    entries.emplace_back(tensor, file.as_string());
  }
  std::sort(entries.begin(), entries.end());
  for (std::size_t i = 1; i < entries.size(); ++i)
    if (entries[i].first == entries[i - 1].first) broken("weight_map names ", escaped(entries[i].first), " twice");
  return entries;
}

Checkpoint::Checkpoint(const std::string& folder) : folder_(folder) {
  const bool single = file_exists(in_folder(folder, kSingle)), index = file_exists(in_folder(folder, kIndex));
  if (single && index)
    log_warning(in_folder(folder, kIndex), ": not used: ", kSingle, " is there, and goes first, as in Transformers");
  if (single)
    open_single();
  else if (index)
    open_index();
  else
    fail_without_weights(folder);
  refuse_quantized();
}

void Checkpoint::open_index() {
  path_ = in_folder(folder_, kIndex);
  const auto entries = parse_checkpoint_index(read_file(path_, kMaxSafetensorsHeaderBytes), path_);
  std::map<std::string, const SafetensorsFile*> opened;
  for (const auto& [tensor, file] : entries) {
    const SafetensorsFile*& at = opened[file];
    if (!at) {
      const std::string path = in_folder(folder_, file);
      if (!file_exists(path))
        fail(ErrorCode::not_found, path_, ": names ", file, ", which is not there",
             remedy(file_exists(path + ".incomplete") ? "its download did not finish; download the model again"
                                                      : "download that file too"));
      files_.push_back(std::make_unique<SafetensorsFile>(path));
      at = files_.back().get();
    }
    const SafetensorsTensor* found = at->find(tensor);
    if (!found)
      fail(ErrorCode::data_loss, path_, ": says that ", tensor, " is in ", file, ", which does not hold it",
           remedy("the index and the files are of different versions; download all of them again"));
    tensors_.push_back({tensor, {at, found}});
  }
}

void Checkpoint::open_single() {
  path_ = in_folder(folder_, kSingle);
  files_.push_back(std::make_unique<SafetensorsFile>(path_));
  const SafetensorsFile* file = files_.back().get();
  for (const SafetensorsTensor& tensor : file->tensors()) tensors_.push_back({tensor.name, {file, &tensor}});
  std::sort(tensors_.begin(), tensors_.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
}

void Checkpoint::refuse_quantized() const {
  std::vector<TensorSight> sights;
  sights.reserve(tensors_.size());
  for (const Entry& entry : tensors_) sights.push_back({entry.name, entry.where.tensor->dtype->name});
  const QuantizedSign sign = find_quantized_sign(sights);
  if (sign.format.empty()) return;
  const CheckpointTensor where = find_exact(sign.tensor)->where;
  fail(ErrorCode::unsupported, where.file->path(), ": tensor ", sign.tensor, " (", where.tensor->dtype->name,
       where.tensor->shape_text(), ") shows a quantised checkpoint: ", sign.format,
       remedy("this format is not supported; use the model's BF16 or F16 checkpoint"));
}

const Checkpoint::Entry* Checkpoint::find_exact(std::string_view name) const {
  const auto at = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                   [](const Entry& entry, std::string_view n) { return entry.name < n; });
  return at != tensors_.end() && at->name == name ? &*at : nullptr;
}

std::optional<CheckpointTensor> Checkpoint::find(std::string_view name) const {
  const Entry* entry = find_exact(name);
  if (!entry)
    entry = name.starts_with(kPrefix) ? find_exact(name.substr(kPrefix.size()))
                                      : find_exact(std::string(kPrefix) + std::string(name));
  if (!entry) return std::nullopt;
  return entry->where;
}

CheckpointTensor Checkpoint::require(std::string_view name) const {
  if (const auto found = find(name)) return *found;
  std::vector<std::string_view> names;
  names.reserve(tensors_.size());
  for (const Entry& entry : tensors_) names.push_back(entry.name);
  const std::string nearest = nearest_name(name, names);
  fail(ErrorCode::not_found, path_, ": has no tensor ", name, " among its ", names.size(),
       nearest.empty() ? "" : "; the most similar name is " + nearest,
       remedy("is config.json from another model, or a file of the checkpoint missing?"));
}

std::uint64_t Checkpoint::bytes() const {
  std::uint64_t sum = 0;
  for (const Entry& entry : tensors_) sum += entry.where.tensor->size;
  return sum;
}

}  // namespace cajal
