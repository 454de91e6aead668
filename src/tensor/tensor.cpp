#include "tensor/tensor.h"

#include <cctype>
#include <charconv>

#include "base/checked.h"
#include "tensor/lossless.h"

namespace cajal {
namespace {

template <class... Fs>
struct Overloaded : Fs... {
  using Fs::operator()...;
};
template <class... Fs>
Overloaded(Fs...) -> Overloaded<Fs...>;

bool take(std::string_view& text, std::string_view token) {
  if (!text.starts_with(token)) return false;
  text.remove_prefix(token.size());
  return true;
}

bool take_int(std::string_view& text, std::int64_t& into) {
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), into);
  if (ec != std::errc()) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return true;
}

bool take_int(std::string_view& text, int& into) {
  std::int64_t wide = 0;
  if (!take_int(text, wide) || wide < 0 || wide > 1 << 20) return false;
  into = static_cast<int>(wide);
  return true;
}

bool take_dtype(std::string_view& text, DType& into) {
  std::size_t n = 0;
  while (n < text.size() && (std::isalnum(static_cast<unsigned char>(text[n])) || text[n] == '_')) ++n;
  const auto dtype = dtype_from_string(text.substr(0, n));
  if (!dtype) return false;
  into = *dtype;
  text.remove_prefix(n);
  return true;
}

bool take_storage(std::string_view& text, Storage& into) {
  if (take(text, "{tile ")) {
    Packed p;
    into = p;
    if (!take_int(text, p.rows) || !take(text, "x") || !take_int(text, p.group) || !take(text, "}")) return false;
    if (p.rows < 1 || p.group < 1) return false;
    into = p;
  } else if (take(text, "{bits ")) {
    Quantized q;
    if (!take_int(text, q.bits) || !take(text, ", group ") || !take_int(text, q.group_size) ||
        !take(text, ", scales ") || !take_dtype(text, q.scale_dtype))
      return false;
    q.zero_points = take(text, ", zero points");
    if (take(text, ", tile ") && !take_int(text, q.tile_rows)) return false;
    if (!take(text, "}") || q.bits < 1 || q.bits > 8 || q.group_size < 1 || q.tile_rows < 1) return false;
    into = q;
  } else if (take(text, "{lossless}")) {
    into = Lossless{};
  }
  return true;
}

std::size_t stored_elements(const Shape& shape, std::int64_t row_multiple, std::int64_t column_multiple) {
  constexpr std::string_view kWhat = "size of a tensor";
  std::int64_t n = 1;
  for (int i = 0; i < shape.rank(); ++i) {
    std::int64_t d = shape[i];
    CAJAL_CHECK(d >= 0, "size of the dynamic shape ", to_string(shape));
    const std::int64_t multiple = i == shape.rank() - 1 ? column_multiple : i == shape.rank() - 2 ? row_multiple : 1;
    d = checked_add(d, multiple - 1, kWhat) / multiple * multiple;
    n = checked_mul(n, d, kWhat);
  }
  return static_cast<std::size_t>(n);
}

// Of all matrices.
std::size_t stored_rows(Shape shape, std::int64_t row_multiple) {
  if (shape.rank() > 0) shape[-1] = 1;
  return stored_elements(shape, row_multiple, 1);
}

std::size_t lossless_bytes(const Shape& shape) {
  constexpr std::string_view kWhat = "size of a tensor";
  const std::int64_t columns = shape.rank() ? shape[-1] : 1, rows = shape.rank() > 1 ? shape[-2] : 1;
  CAJAL_CHECK(!shape.dynamic(), "size of the dynamic shape ", to_string(shape));
  if (columns > LosslessLayout::kMaxColumns)
    fail(ErrorCode::unsupported, "lossless storage of ", columns, " columns, expected at most ",
         LosslessLayout::kMaxColumns);
  const LosslessLayout layout{checked_add(rows, LosslessLayout::kTileRows, kWhat) - LosslessLayout::kTileRows, columns};
  std::int64_t bytes = checked_mul(layout.tiles(), layout.tile_bytes(), kWhat);
  for (int i = 0; i + 2 < shape.rank(); ++i) bytes = checked_mul(bytes, shape[i], kWhat);
  return static_cast<std::size_t>(bytes);
}

}  // namespace

bool Shape::dynamic() const {
  for (const auto d : *this)
    if (d == kDynamic) return true;
  return false;
}

std::int64_t Shape::elements() const { return static_cast<std::int64_t>(stored_elements(*this, 1, 1)); }

std::string to_string(const Shape& shape) {
  std::string s = "[";
  for (int i = 0; i < shape.rank(); ++i) {
    if (i) s += ',';
    s += shape[i] == Shape::kDynamic ? "?" : std::to_string(shape[i]);
  }
  return s + ']';
}

std::size_t TensorType::bytes() const {
  constexpr std::string_view kWhat = "size of a tensor";
  return std::visit(
      Overloaded{
          [&](const Plain&) { return checked_mul(stored_elements(shape, 1, 1), size_of(dtype), kWhat); },
          [&](const Packed& p) { return checked_mul(stored_elements(shape, p.rows, p.group), size_of(dtype), kWhat); },
          [&](const Quantized& q) {
            const std::size_t n = stored_elements(shape, q.tile_rows, q.group_size);
            const std::size_t groups = n / static_cast<std::size_t>(q.group_size);
            const std::size_t per_group = size_of(q.scale_dtype) * (q.zero_points ? 2 : 1);
            const std::size_t bits = checked_mul(n, static_cast<std::size_t>(q.bits), kWhat);
            const std::size_t of_rows = q.row_exponents() ? stored_rows(shape, q.tile_rows) : 0;
            const std::size_t scales = checked_add(checked_mul(groups, per_group, kWhat), of_rows, kWhat);
            return checked_add(bits / 8 + (bits % 8 != 0), scales, kWhat);
          },
          [&](const Lossless&) { return lossless_bytes(shape); },
      },
      storage);
}

std::string to_string(const TensorType& t) {
  std::string s = std::string(to_string(t.dtype)) + to_string(t.shape);
  if (const auto* p = std::get_if<Packed>(&t.storage)) s += detail::join("{tile ", p->rows, "x", p->group, "}");
  if (const auto* q = t.quantized()) {
    s += detail::join("{bits ", q->bits, ", group ", q->group_size, ", scales ", to_string(q->scale_dtype),
                      q->zero_points ? ", zero points" : "");
    s += q->tile_rows == 1 ? "}" : detail::join(", tile ", q->tile_rows, "}");
  }
  if (t.lossless()) s += "{lossless}";
  return s;
}

bool parse_shape(std::string_view& text, Shape& into) {
  into = {};
  if (!take(text, "[")) return false;
  if (take(text, "]")) return true;
  do {
    std::int64_t d = Shape::kDynamic;
    if (!take(text, "?") && (!take_int(text, d) || d < 0)) return false;
    if (into.rank() == Shape::kMaxRank) return false;
    into.push_back(d);
  } while (take(text, ","));
  return take(text, "]");
}

bool parse_tensor_type(std::string_view& text, TensorType& into) {
  into = {};
  return take_dtype(text, into.dtype) && parse_shape(text, into.shape) && take_storage(text, into.storage) &&
         (!into.lossless() || (into.dtype == DType::bf16 && into.shape.rank() >= 2));
}

}  // namespace cajal
