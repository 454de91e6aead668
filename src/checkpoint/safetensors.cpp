#include "checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <numeric>
#include <tuple>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "base/json.h"

namespace cajal {
namespace {

constexpr std::array<SafetensorsDType, 22> kDTypes = {{
    {"BF16", 16, DType::bf16},    {"F16", 16, DType::f16},          {"F32", 32, DType::f32},
    {"F64", 64, std::nullopt},    {"BOOL", 8, DType::boolean},      {"U8", 8, DType::u8},
    {"I8", 8, DType::i8},         {"U16", 16, std::nullopt},        {"I16", 16, std::nullopt},
    {"U32", 32, std::nullopt},    {"I32", 32, DType::i32},          {"U64", 64, std::nullopt},
    {"I64", 64, DType::i64},      {"F8_E4M3", 8, DType::f8_e4m3},   {"F8_E5M2", 8, std::nullopt},
    {"F8_E8M0", 8, std::nullopt}, {"F8_E4M3FNUZ", 8, std::nullopt}, {"F8_E5M2FNUZ", 8, std::nullopt},
    {"F6_E2M3", 6, std::nullopt}, {"F6_E3M2", 6, std::nullopt},     {"F4", 4, std::nullopt},
    {"C64", 64, std::nullopt},
}};

constexpr const char* kDownloadAgain = "the file is damaged; download or copy it again";
constexpr std::uint64_t kLengthBytes = 8;

template <class... Parts>
[[noreturn]] void broken(const std::string& what, const Parts&... parts) {
  fail(ErrorCode::data_loss, what, ": ", parts..., remedy(kDownloadAgain));
}

std::string escaped(std::string_view name) {
  std::string text;
  append_json_string(text, name.substr(0, 80));
  return text;
}

bool starts_with_word(std::string_view text, std::string_view lower_case_word) {
  return text.size() >= lower_case_word.size() &&
         std::equal(lower_case_word.begin(), lower_case_word.end(), text.begin(), [](char word, char c) {
           return word == static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
         });
}

// Files that stand where weights should, and what to do about each. Called only when the start is no plausible header.
void refuse_known_impostors(std::string_view start, const std::string& what) {
  if (start.starts_with("version https://git-lfs"))
    fail(ErrorCode::data_loss, what, ": is a Git LFS pointer, not the weights themselves",
         remedy("run `git lfs pull` in the model's folder, or download the model again"));
  std::string_view text = start;
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front()))) text.remove_prefix(1);
  for (const std::string_view word : {"<!doctype", "<html", "<?xml", "<head"})
    if (starts_with_word(text, word))
      fail(ErrorCode::data_loss, what, ": is a web page, not weights",
           remedy("the download was answered with a page (a login, an error); download the file itself"));
  if (start.starts_with("{\"error"))
    fail(ErrorCode::data_loss, what, ": is a server's error message, not weights",
         remedy("the download failed; check the address and the access rights, then download again"));
  if (start.starts_with("GGUF"))
    fail(ErrorCode::unsupported, what, ": is a GGUF file, not safetensors",
         remedy("use the model's original Hugging Face folder"));
  if (start.starts_with("PK\x03\x04") || start.starts_with("\x80\x02"))
    fail(
        ErrorCode::unsupported, what, ": is a PyTorch (pickle) file, not safetensors",
        remedy("convert it with save_pretrained(..., safe_serialization=True); pickle can run code and is never read"));
}

std::uint64_t little_endian_u64(std::string_view bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = kLengthBytes; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

const Json& member(const Json& object, std::string_view key, const std::string& what, const std::string& name) {
  const Json* found = nullptr;
  for (const auto& [k, v] : object.as_object())
    if (k == key) {
      if (found) broken(what, "header: tensor ", name, " has \"", key, "\" twice");
      found = &v;
    }
  if (!found) broken(what, "header: tensor ", name, " has no \"", key, "\"");
  return *found;
}

// A list of integers that are not negative, at most `max_size` of them.
std::vector<std::int64_t> sizes_of(const Json& list, std::size_t max_size, const std::string& what,
                                   const std::string& field) {
  if (!list.is_array()) broken(what, "header: ", field, " is ", list.type_name(), ", expected an array");
  if (list.as_array().size() > max_size)
    broken(what, "header: ", field, " has ", list.as_array().size(), " entries, expected at most ", max_size);
  std::vector<std::int64_t> sizes;
  for (const Json& entry : list.as_array()) {
    if (!entry.is_int() || entry.as_int() < 0)
      broken(what, "header: ", field, " holds ", to_json(entry).substr(0, 40), ", expected integers of at least 0");
    sizes.push_back(entry.as_int());
  }
  return sizes;
}

// Bytes of the elements, or an Error: the product of dimensions that a stranger wrote.
std::uint64_t bytes_of(const SafetensorsTensor& tensor, const std::string& what) {
  const std::string size_of_it =
      detail::join(what, ": size of tensor ", escaped(tensor.name), " ", tensor.shape_text());
  std::uint64_t elements = 1;
  // With a zero among them the product is zero, whatever the others are; only the others' order could overflow.
  if (std::find(tensor.shape.begin(), tensor.shape.end(), 0) != tensor.shape.end()) return 0;
  for (const std::int64_t d : tensor.shape) elements = checked_mul(elements, static_cast<std::uint64_t>(d), size_of_it);
  const std::uint64_t bits = checked_mul(elements, static_cast<std::uint64_t>(tensor.dtype->bits), size_of_it);
  if (bits % 8 != 0) broken(what, "header: tensor ", escaped(tensor.name), " does not end on a whole byte");
  return bits / 8;
}

SafetensorsTensor tensor_of(const std::string& name, const Json& entry, const std::string& what) {
  const std::string shown = escaped(name);
  if (name.empty()) broken(what, "header: a tensor has an empty name");
  if (name.size() > kMaxTensorNameBytes)
    broken(what, "header: the name ", shown, "... has ", name.size(), " bytes, expected at most ", kMaxTensorNameBytes);
  for (const char c : name)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      broken(what, "header: the name ", shown, " holds a control character");
  if (!entry.is_object()) broken(what, "header: tensor ", shown, " is ", entry.type_name(), ", expected an object");

  SafetensorsTensor tensor;
  tensor.name = name;
  const Json& dtype = member(entry, "dtype", what, shown);
  if (!dtype.is_string()) broken(what, "header: dtype of ", shown, " is ", dtype.type_name(), ", expected a string");
  tensor.dtype = find_safetensors_dtype(dtype.as_string());
  if (!tensor.dtype) broken(what, "header: tensor ", shown, " has the unknown dtype ", escaped(dtype.as_string()));
  tensor.shape =
      sizes_of(member(entry, "shape", what, shown), kMaxSafetensorsRank, what, detail::join("shape of ", shown));
  const std::vector<std::int64_t> span =
      sizes_of(member(entry, "data_offsets", what, shown), 2, what, detail::join("data_offsets of ", shown));
  if (span.size() != 2) broken(what, "header: data_offsets of ", shown, " has ", span.size(), " entries, expected 2");
  if (span[1] < span[0])
    broken(what, "header: data_offsets of ", shown, " are [", span[0], ",", span[1], "], the end before the beginning");
  tensor.begin = static_cast<std::uint64_t>(span[0]);
  tensor.size = static_cast<std::uint64_t>(span[1] - span[0]);
  const std::uint64_t expected = bytes_of(tensor, what);
  if (tensor.size != expected)
    broken(what, "header: tensor ", shown, " spans ", tensor.size, " bytes, expected ", expected, " for ",
           tensor.dtype->name, tensor.shape_text());
  return tensor;
}

Json parse_header(std::string_view text, const std::string& what) {
  try {
    return parse_json(text, what + ", header", {.max_bytes = kMaxSafetensorsHeaderBytes, .max_depth = 16});
  } catch (const Error& e) {
    throw Error(e.code(), e.message(), kDownloadAgain);
  }
}

std::vector<std::pair<std::string, std::string>> metadata_of(const Json& value, const std::string& what) {
  if (!value.is_object()) broken(what, "header: __metadata__ is ", value.type_name(), ", expected an object");
  std::vector<std::pair<std::string, std::string>> metadata;
  for (const auto& [key, text] : value.as_object()) {
    if (!text.is_string())
      broken(what, "header: __metadata__ ", escaped(key), " is ", text.type_name(), ", expected a string");
    metadata.emplace_back(key, text.as_string());
  }
  return metadata;
}

// The tensors, in the order of their bytes, must follow each other from byte 0 to the end of the file.
void check_cover(std::span<const SafetensorsTensor> tensors, std::uint64_t data_bytes, const std::string& what) {
  std::uint64_t end = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const SafetensorsTensor& tensor = tensors[i];
    if (tensor.begin < end)
      broken(what, "header: tensor ", escaped(tensor.name), " overlaps ", escaped(tensors[i - 1].name));
    if (tensor.begin > end)
      broken(what, "header: ", tensor.begin - end, " bytes in front of tensor ", escaped(tensor.name),
             " belong to no tensor");
    end = checked_add(tensor.begin, tensor.size, what);
  }
  if (data_bytes < end)
    fail(ErrorCode::data_loss, what, ": is cut short: the tensors need ", end, " bytes and the file has ", data_bytes,
         " of them, ", end - data_bytes, " are missing", remedy("finish the download or copy the file again"));
  if (data_bytes > end)
    broken(what, "is longer than its header says: ", data_bytes - end, " bytes follow the last tensor");
}

}  // namespace

const SafetensorsDType* find_safetensors_dtype(std::string_view name) {
  for (const SafetensorsDType& dtype : kDTypes)
    if (dtype.name == name) return &dtype;
  return nullptr;
}

const SafetensorsDType& safetensors_dtype(DType dtype) {
  const auto* found = std::find_if(kDTypes.begin(), kDTypes.end(), [&](const auto& d) { return d.dtype == dtype; });
  CAJAL_CHECK(found != kDTypes.end(), to_string(dtype));
  return *found;
}

std::string SafetensorsTensor::shape_text() const {
  std::string text = "[";
  for (const std::int64_t d : shape) text += (text.size() > 1 ? "," : "") + std::to_string(d);
  return text + "]";
}

std::uint64_t SafetensorsHeader::json_bytes(std::string_view start, std::uint64_t file_size, const std::string& what) {
  if (file_size == 0)
    fail(ErrorCode::data_loss, what, ": is empty", remedy("the download did not finish; download the file again"));
  if (file_size >= kLengthBytes && start.size() >= kLengthBytes) {
    const std::uint64_t length = little_endian_u64(start);
    const bool begins = start.size() == kLengthBytes || start[kLengthBytes] == '{';
    if (length >= 2 && length <= kMaxSafetensorsHeaderBytes && length <= file_size - kLengthBytes && begins)
      return length;
    refuse_known_impostors(start, what);
    if (length > kMaxSafetensorsHeaderBytes)
      broken(what, "is not a safetensors file: its header would have ", length, " bytes, expected at most ",
             kMaxSafetensorsHeaderBytes);
    if (length > file_size - kLengthBytes)
      fail(ErrorCode::data_loss, what, ": is cut short: the header has ", length, " bytes and the file ends after ",
           file_size - kLengthBytes, " of them", remedy("finish the download or copy the file again"));
    broken(what, "is not a safetensors file: its header does not begin with {");
  }
  refuse_known_impostors(start, what);
  fail(ErrorCode::data_loss, what, ": is cut short: ", file_size, " bytes, expected at least ", kLengthBytes,
       remedy("finish the download or copy the file again"));
}

SafetensorsHeader SafetensorsHeader::parse(std::string_view bytes, std::uint64_t file_size, const std::string& what) {
  const std::uint64_t length = json_bytes(bytes, file_size, what);
  if (bytes.size() - kLengthBytes < length)
    fail(ErrorCode::data_loss, what, ": is cut short: the header has ", length, " bytes, ", bytes.size() - kLengthBytes,
         " are there", remedy("finish the download or copy the file again"));
  const std::string_view text = bytes.substr(kLengthBytes, length);
  if (text.front() != '{') broken(what, "is not a safetensors file: its header does not begin with {");
  const Json root = parse_header(text, what);
  if (!root.is_object()) broken(what, "header is ", root.type_name(), ", expected an object");
  const Json::Object& entries = root.as_object();
  if (entries.size() > kMaxSafetensorsTensors + 1)
    broken(what, "header names ", entries.size(), " tensors, expected at most ", kMaxSafetensorsTensors);

  SafetensorsHeader header;
  header.data_begin_ = kLengthBytes + length;
  bool has_metadata = false;
  for (const auto& [name, entry] : entries) {
    if (name == "__metadata__") {
      if (std::exchange(has_metadata, true)) broken(what, "header has \"__metadata__\" twice");
      header.metadata_ = metadata_of(entry, what);
    } else {
      header.tensors_.push_back(tensor_of(name, entry, what));
    }
  }
  std::vector<SafetensorsTensor>& tensors = header.tensors_;
  std::sort(tensors.begin(), tensors.end(), [](const SafetensorsTensor& a, const SafetensorsTensor& b) {
    return std::tie(a.begin, a.size, a.name) < std::tie(b.begin, b.size, b.name);
  });
  header.by_name_.resize(tensors.size());
  std::iota(header.by_name_.begin(), header.by_name_.end(), 0u);
  std::sort(header.by_name_.begin(), header.by_name_.end(),
            [&](std::uint32_t a, std::uint32_t b) { return tensors[a].name < tensors[b].name; });
  for (std::size_t i = 1; i < header.by_name_.size(); ++i)
    if (const std::string& name = tensors[header.by_name_[i]].name; name == tensors[header.by_name_[i - 1]].name)
      broken(what, "header names the tensor ", escaped(name), " twice");
  check_cover(tensors, file_size - header.data_begin_, what);
  return header;
}

const SafetensorsTensor* SafetensorsHeader::find(std::string_view name) const {
  const auto at = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                                   [&](std::uint32_t i, std::string_view n) { return tensors_[i].name < n; });
  return at != by_name_.end() && tensors_[*at].name == name ? &tensors_[*at] : nullptr;
}

namespace {

SafetensorsHeader read_header(const File& file) {
  constexpr std::uint64_t kEnoughToTellWhatItIs = 512;
  if (file.path().ends_with(".incomplete"))
    fail(ErrorCode::data_loss, file.path(), ": is a download that did not finish", remedy("download the model again"));
  std::string bytes(std::min(file.size(), kEnoughToTellWhatItIs), '\0');
  file.read(0, std::as_writable_bytes(std::span(bytes)));
  const std::uint64_t length = SafetensorsHeader::json_bytes(bytes, file.size(), file.path());
  bytes.resize(kLengthBytes + length);
  file.read(0, std::as_writable_bytes(std::span(bytes)));
  return SafetensorsHeader::parse(bytes, file.size(), file.path());
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path) : file_(path), header_(read_header(file_)) {}

void SafetensorsFile::read(const SafetensorsTensor& tensor, std::uint64_t offset, std::span<std::byte> into) const {
  CAJAL_CHECK(offset <= tensor.size && into.size() <= tensor.size - offset, tensor.name, ": ", into.size(),
              " bytes from ", offset, " of ", tensor.size);
  file_.read(header_.data_begin() + tensor.begin + offset, into);
}

}  // namespace cajal
