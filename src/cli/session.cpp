#include "cli/session.h"

#include <istream>

#include "base/log.h"
#include "cli/chat_prompt.h"
#include "cli/model_path.h"
#include "cli/usage_error.h"
#include "cli/values.h"
#include "engine/export/export_cache.h"
#include "engine/export/export_limits.h"
#include "engine/generator.h"

namespace cajal::cli {
namespace {

std::int64_t allowed_length(const Qwen3Config& config, const CommonFlags& flags,
                            const std::optional<NeuronConfig>& limits) {
  if (limits) {
    LLMEngineOptions options;
    limit_to_export(options, *limits, {.max_model_len = flags.max_model_len.value_or(0)});
    return options.max_model_len;
  }
  const std::int64_t most = default_max_model_len(config);
  if (flags.max_model_len && *flags.max_model_len > most)
    log_warning("--max-model-len is ", *flags.max_model_len, ", and the configuration is made for ", most,
                " tokens: what comes after them may make no sense");
  return flags.max_model_len.value_or(most);
}

}  // namespace

std::unique_ptr<Backend> open_device(const CommonFlags& flags, const std::string& target) {
  return make_backend(flags.device, {.num_threads = flags.threads.value_or(0), .target = target});
}

LoadFormat wanted_load_format(const CommonFlags& flags) {
  return flags.load_format == "dummy" ? LoadFormat::dummy : LoadFormat::automatic;
}

std::optional<DType> wanted_dtype(const CommonFlags& flags) {
  if (flags.dtype == "auto") return std::nullopt;
  return flags.dtype == "float32" ? DType::f32 : DType::bf16;
}

QuantizationRecipe wanted_quantization(const CommonFlags& flags) {
  return quantization_recipe(flags.quantization, flags.quantization_group_size, flags.quantization_overrides);
}

KvCacheDType wanted_kv_cache_dtype(const CommonFlags& flags) {
  return flags.kv_cache_dtype == "int8" ? KvCacheDType::int8 : KvCacheDType::automatic;
}

std::string_view flag_word(DType dtype) {
  switch (dtype) {
    case DType::bf16: return "bfloat16";
    case DType::f16: return "float16";
    case DType::f32: return "float32";
    default: return to_string(dtype);
  }
}

SessionBuilder::SessionBuilder(const CommonFlags& flags, const std::string& model, const Environment& environment,
                               RankTeam* ranks)
    : flags_(flags), ranks_(ranks) {
  session_.folder = resolve_model(model, environment, flags.download);
  if (flags.export_cache) cache_ = cache_folder(environment);
  session_.name = model.empty() ? session_.folder : model;
  config_ = load_config(session_.folder, flags.hf_overrides);
  std::string target;
  if (is_export(session_.folder)) {
    const ExportFolder exported(session_.folder);
    session_.limits = exported.neuron_config();
    target = exported.manifest().target;
  }
  session_.max_model_len = allowed_length(config_, flags, session_.limits);
  if (!ranks) session_.own_backend = open_device(flags, target);
  session_.backend = ranks ? &ranks->backend() : session_.own_backend.get();
  if (Tokenizer::is_present(session_.folder)) session_.tokenizer = Tokenizer::from_folder(session_.folder);
}

std::vector<std::int32_t> SessionBuilder::encode(const std::string& text, const ChatFlags& chat) const {
  if (chat.chat) return encode(Json::Array{Json::Object{{"role", "user"}, {"content", text}}}, chat.enable_thinking);
  // Where there is no tokenizer, loading one says which file is missing.
  if (!session_.tokenizer) Tokenizer::from_folder(session_.folder);
  return session_.tokenizer->encode(text);
}

std::vector<std::int32_t> SessionBuilder::encode(Json::Array messages, std::optional<bool> enable_thinking) const {
  if (!session_.tokenizer) Tokenizer::from_folder(session_.folder);
  return ChatPrompt(session_.folder).render(*session_.tokenizer, std::move(messages), enable_thinking).ids;
}

std::vector<std::int32_t> SessionBuilder::prompt(const PromptFlags& flags, const ChatFlags& chat,
                                                 std::istream& in) const {
  if (chat.chat && (flags.token_ids || flags.token_ids_file))
    misuse("--chat needs a text, and token ids are given", remedy("give --prompt or --prompt-file"));
  std::vector<std::int32_t> ids;
  if (flags.token_ids) {
    ids = *flags.token_ids;
  } else if (flags.token_ids_file) {
    ids = parse_token_ids(read_file_or(in, *flags.token_ids_file), *flags.token_ids_file);
  } else if (flags.prompt || flags.prompt_file) {
    const std::string text = flags.prompt ? *flags.prompt : read_file_or(in, *flags.prompt_file);
    ids = with_context(flags.prompt ? "--prompt" : *flags.prompt_file, [&] { return encode(text, chat); });
  } else {
    misuse("no prompt is given", remedy("give one of --prompt, --prompt-file, --token-ids and --token-ids-file"));
  }
  check_token_ids(ids, config_.vocab_size, session_.max_model_len);
  if (session_.limits) check_prompt_length(*session_.limits, static_cast<std::int64_t>(ids.size()));
  return ids;
}

Session SessionBuilder::load(const Qwen3Outputs& outputs) && {
  ModelOptions options;
  options.folder = session_.folder;
  options.dtype = wanted_dtype(flags_);
  options.quantization = wanted_quantization(flags_);
  options.kv_cache_dtype = wanted_kv_cache_dtype(flags_);
  options.load_format = wanted_load_format(flags_);
  options.config_overrides = flags_.hf_overrides;
  options.outputs = outputs;
  options.capacity_factor = flags_.capacity_factor;
  if (ranks_) options.ranks = &ranks_->leader();
  if (flags_.export_cache && !ranks_ && !session_.limits && options.load_format == LoadFormat::automatic)
    options.prepared =
        cached_export(options, session_.backend->target(), cache_, session_.backend->host_threads().size());
  session_.model = std::make_unique<Model>(options, *session_.backend);
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(session_.model->load_time()).count();
  log_debug("loaded ", session_.name, " in ", ms, " ms: ", session_.model->weight_bytes(), " bytes of weights on ",
            session_.backend->description());
  return std::move(session_);
}

std::int64_t kv_bytes_per_token(const Model& model) {
  return kv_bytes_per_token(model.config(), model.dtype(), model.parallel(), model.kv_cache_dtype());
}

Json to_json_list(const std::vector<std::int32_t>& ids) {
  Json::Array list;
  for (const std::int32_t id : ids) list.emplace_back(id);
  return list;
}

}  // namespace cajal::cli
