#pragma once
// Tokens and their ids, both ways. A token is named by its vocabulary string ("Ġthe"); what is kept are the bytes that it
// stands for (" the"), or its UTF-8 as it is if it has characters outside the byte alphabet (a literal token).
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace cajal {

class Vocabulary {
 public:
  static constexpr std::int32_t kMaxIds = 1 << 22;

  // Room for so many tokens of the model.
  explicit Vocabulary(std::size_t model_tokens);

  // Adds a token of the model. Error(data_loss) for an id outside 0..kMaxIds-1 or taken, and for a string that is there.
  void add(std::string_view token, std::int64_t id);
  // Adds a token that is matched in the text but is unknown to the model: find_bytes does not see it. `find` knows it by
  // `name`; `token`, its normalised form, is what it decodes to.
  void add_outside_model(std::string_view name, std::string_view token, std::int64_t id);

  // The id of a vocabulary string, in the model or outside.
  std::optional<std::int32_t> find(std::string_view token) const;
  // The id of the model's token that stands for these bytes, or -1.
  std::int32_t find_bytes(std::string_view bytes) const;

  bool contains(std::int32_t id) const {
    return id >= 0 && static_cast<std::size_t>(id) < entries_.size() && entries_[static_cast<std::size_t>(id)].present;
  }
  // The bytes of a token; empty for an id that no token has.
  std::string_view bytes(std::int32_t id) const;
  std::string token(std::int32_t id) const;

  std::int32_t size() const { return static_cast<std::int32_t>(entries_.size()); }  // the largest id + 1
  std::size_t model_tokens() const { return model_tokens_; }

 private:
  struct Entry {
    std::uint32_t offset = 0, length = 0;
    bool present = false, literal = false;
  };
  struct Slot {
    std::uint32_t tag = 0;  // other bits of the hash than those that chose the slot
    std::int32_t id = -1;
  };

  void store(std::string_view token, std::string_view bytes, bool literal, std::int64_t id);

  std::string text_;            // the bytes of all tokens, one after another
  std::vector<Entry> entries_;  // by id
  std::vector<Slot> slots_;     // open addressing over the bytes of the model's tokens that are not literal
  std::unordered_map<std::string, std::int32_t> others_;  // literal tokens and those outside the model, by string
  std::size_t model_tokens_ = 0;
};

}  // namespace cajal
