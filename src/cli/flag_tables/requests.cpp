// What is asked of a model: prompts, texts, chats, how tokens are chosen, and what is printed.
#include "cli/flag_tables.h"

#include <array>

#include "base/error.h"
#include "base/file.h"
#include "cli/usage_error.h"
#include "cli/values.h"

namespace cajal::cli {
namespace {

constexpr std::uint32_t kPromptCommands = kGenerate | kScore;
constexpr std::uint32_t kSampling = kGenerate | kChat;
constexpr std::uint32_t kSampled = kSampling | kBenchServe;
constexpr double kLarge = 1e6;  // beyond it no parameter makes a difference

void set_token_ids(Options& o, const Given& g) {
  try {
    o.prompt.token_ids = parse_token_ids(g.text, g.label);
  } catch (const Error& e) {
    misuse(e.message(), remedy(e.remedy()));
  }
}

// An answer has one structure; an empty one would be none.
StructuredOutputs& structure(Options& o, const Given& g) {
  if (g.text.empty()) misuse(g.label, " is empty");
  return o.generate.structured_outputs;
}

// What is given itself where it looks like that, or else the name of a file that has it.
std::string text_or_file(const Given& g, std::string_view beginning) {
  if (g.text.starts_with(beginning)) return g.text;
  try {
    return read_file(g.text);
  } catch (const Error& e) {
    misuse(g.label, ": ", e.message(), remedy(e.remedy()));
  }
}

constexpr auto kFlags =
    std::to_array<Flag>(
        {
            {"prompt", "", "TEXT", kPromptCommands | kEmbed, Group::prompt, "The text, used as it is.",
             [](Options& o, const Given& g) { o.prompt.prompt = g.text; }, OneOf::prompt},
            {"prompt-file", "", "FILE", kPromptCommands, Group::prompt,
             "A file with that text; - is standard input. Of generate also requests, one a line, as JSON "
             "(docs/recipes).",
             [](Options& o, const Given& g) { o.prompt.prompt_file = g.text; }, OneOf::prompt},
            {"token-ids", "", "IDS", kPromptCommands, Group::prompt, "Token ids instead of text: 1,2,3.", set_token_ids,
             OneOf::prompt},
            {"token-ids-file", "", "FILE", kPromptCommands, Group::prompt,
             "A file with token ids as a JSON list, [1,2,3]; - is standard input.",
             [](Options& o, const Given& g) { o.prompt.token_ids_file = g.text; }, OneOf::prompt},
            {"chat", "", "", kGenerate, Group::chat, "Make the prompt a user's message in the model's chat template.",
             [](Options& o, const Given& g) { o.chat.chat = boolean(g); }},
            {"system", "", "TEXT", kChat, Group::chat, "The system message: how the model is to behave.",
             [](Options& o, const Given& g) { o.chat.system = g.text; }},
            {"enable-thinking", "", "", kGenerate | kChat, Group::chat, "Let the model think before it answers.",
             [](Options& o, const Given& g) { o.chat.enable_thinking = boolean(g); }, OneOf::thinking},
            {"no-enable-thinking", "", "", kGenerate | kChat, Group::chat, "Let it answer at once.",
             [](Options& o, const Given& g) { o.chat.enable_thinking = !boolean(g); }, OneOf::thinking},

            {"input", "", "FILE", kRender | kEmbed | kRerank, Group::prompt,
             "Of render the request, a JSON object. Of others texts, one a line: a JSON string, or an object with the "
             "member "
             "text "
             "and perhaps id. - is standard input.",
             [](Options& o, const Given& g) { o.input = g.text; }, OneOf::prompt},
            {"document", "", "TEXT", kRerank, Group::prompt,
             "A text that may answer the query; may be given several times.",
             [](Options& o, const Given& g) { o.texts.documents.push_back(g.text); }, OneOf::prompt, true},
            {"query", "", "TEXT", kRerank, Group::texts, "What is looked for.",
             [](Options& o, const Given& g) { o.texts.query = g.text; }},
            {"prompt-name", "", "NAME", kEmbed, Group::texts,
             "Put a prompt of the model's config_sentence_transformers.json in front: query or document.",
             [](Options& o, const Given& g) { o.texts.prompt_name = g.text; }, OneOf::text_prompt},
            {"instruction", "", "TASK", kEmbed | kRerank, Group::texts, "What a query is for, in a sentence.",
             [](Options& o, const Given& g) { o.texts.instruction = g.text; }, OneOf::text_prompt},
            {"truncate", "", "", kEmbed | kRerank, Group::texts,
             "Cut the end of a text that is longer than the model takes.",
             [](Options& o, const Given& g) { o.texts.truncate = boolean(g); }},
            {"template", "", "FILE", kRender, Group::prompt, "A template of its own instead of a model's.",
             [](Options& o, const Given& g) { o.render.template_file = g.text; }},

            {"max-new-tokens", "", "N", kSampling, Group::sampling,
             "The most tokens to generate. Default: 256; in a chat what there is room for.",
             [](Options& o, const Given& g) { o.generate.max_new_tokens = integer(g, 1); }},
            {"temperature", "", "T", kSampled, Group::sampling, "Divides the logits; 0 takes the likeliest token.",
             [](Options& o, const Given& g) { o.generate.temperature = decimal(g, {.min = 0, .max = kLarge}); }},
            {"top-k", "", "K", kSampled, Group::sampling, "Draw from the K likeliest tokens; 0 and -1 are all.",
             [](Options& o, const Given& g) { o.generate.top_k = small_integer(g, -1); }},
            {"top-p", "", "P", kSampled, Group::sampling, "Draw from the likeliest tokens that make up probability P.",
             [](Options& o, const Given& g) {
               o.generate.top_p = decimal(g, {.min = 0, .max = 1, .above_min = true});
             }},
            {"min-p", "", "P", kSampled, Group::sampling,
             "Draw from tokens at least P times as likely as the likeliest.",
             [](Options& o, const Given& g) { o.generate.min_p = decimal(g, {.min = 0, .max = 1}); }},
            {"repetition-penalty", "", "R", kSampled, Group::sampling,
             "Above 1 makes tokens of the prompt and of the answer less likely.",
             [](Options& o,
                const Given&
                    g) { o.generate.repetition_penalty = decimal(g, {.min = 0, .max = kLarge, .above_min = true}); }},
            {"presence-penalty", "", "R", kSampled, Group::sampling,
             "Taken from the logit of each token of the answer.",
             [](Options& o, const Given& g) { o.generate.presence_penalty = decimal(g, {.min = -2, .max = 2}); }},
            {"frequency-penalty", "", "R", kSampled, Group::sampling,
             "The same, times how often the token stands there.",
             [](Options& o, const Given& g) { o.generate.frequency_penalty = decimal(g, {.min = -2, .max = 2}); }},
            {"seed", "", "S", kSampled, Group::sampling, "Makes drawing repeatable. Default: drawn, and printed.",
             [](Options& o, const Given& g) { o.generate.seed = static_cast<std::uint64_t>(integer(g, 0)); }},
            {"stop", "", "STR", kSampling, Group::sampling, "End before this text; may be given several times.",
             [](Options& o, const Given& g) {
               if (g.text.empty()) misuse(g.label, " is empty, expected the text to stop at");
               o.generate.stop.push_back(g.text);
             },
             OneOf::none, true},
            {"ignore-eos", "", "", kGenerate | kBenchServe, Group::sampling, "Go on after the tokens that end a text.",
             [](Options& o, const Given& g) { o.generate.ignore_eos = boolean(g); }},
            {"json-schema", "", "SCHEMA", kGenerate, Group::sampling,
             "Make the answer JSON that follows this JSON schema: a file, or the schema itself where it begins with {.",
             [](Options& o, const Given& g) { structure(o, g).json = text_or_file(g, "{"); }, OneOf::structure},
            {"regex", "", "REGEX", kGenerate, Group::sampling,
             "Make the answer match, from its first to its last character.",
             [](Options& o, const Given& g) { structure(o, g).regex = g.text; }, OneOf::structure},
            {"choice", "", "TEXT", kGenerate, Group::sampling, "Make the answer one of these; given several times.",
             [](Options& o, const Given& g) { structure(o, g).choice.push_back(g.text); }, OneOf::structure, true},
            {"grammar", "", "GRAMMAR", kGenerate, Group::sampling,
             "Make the answer follow this grammar, EBNF as GBNF has it: a file, or the grammar itself where it begins "
             "with "
             "'root ::='.",
             [](Options& o, const Given& g) { structure(o, g).grammar = text_or_file(g, "root ::="); },
             OneOf::structure},
            {"min-tokens", "", "N", kGenerate, Group::sampling, "No ending token before so many.",
             [](Options& o, const Given& g) { o.generate.min_tokens = integer(g, 0); }},
            {"thinking-token-budget", "", "N", kSampling, Group::sampling,
             "Tokens that a thought may have; then it is made to end.",
             [](Options& o, const Given& g) { o.generate.thinking_token_budget = integer(g, 0); }},
            {"num-return-sequences", "", "N", kGenerate, Group::sampling, "Answers to generate. Default: 1.",
             [](Options& o, const Given& g) { o.generate.num_return_sequences = small_integer(g, 1); }},
            {"assistant-model", "", "MODEL", kGenerate | kServe, Group::speculation,
             "A small model that guesses ahead; the answer is the same, only sooner.",
             [](Options& o, const Given& g) { o.engine.assistant_model = g.text; }, OneOf::drafter},
            {"num-assistant-tokens", "", "K", kGenerate | kServe, Group::speculation,
             "Tokens that it guesses at a time. Default: 5.",
             [](Options& o, const Given& g) { o.engine.num_assistant_tokens = small_integer(g, 1, 64); }},
            {"prompt-lookup-num-tokens", "", "K", kGenerate | kServe, Group::speculation,
             "Guess K tokens ahead from the text so far, without another model.",
             [](Options& o, const Given& g) { o.engine.prompt_lookup_num_tokens = small_integer(g, 1, 64); },
             OneOf::drafter},

            {"logprobs", "", "K", kGenerate, Group::output,
             "With --json: log-probabilities of each token and the K likeliest.",
             [](Options& o, const Given& g) { o.generate.logprobs = small_integer(g, 0); }},
            {"trace", "", "FILE", kGenerate, Group::output,
             "Write what every step did to FILE, for chrome://tracing and ui.perfetto.dev.",
             [](Options& o, const Given& g) { o.engine.trace = g.text; }},
            {"metrics", "", "FILE", kGenerate, Group::output,
             "Write the engine's counters to FILE in Prometheus' format.",
             [](Options& o, const Given& g) { o.engine.metrics = g.text; }},
            {"top-logprobs", "", "K", kScore, Group::output,
             "With --json: the K likeliest tokens at each position too.",
             [](Options& o, const Given& g) { o.score.top_logprobs = small_integer(g, 0); }},
            {"dump-logits", "", "FILE", kScore, Group::output,
             "Write all logits to a .safetensors file, float32 [T, vocab_size].",
             [](Options& o, const Given& g) { o.score.dump_logits = g.text; }},
            {"against", "", "MODEL", kScore, Group::output, "Compare with what another model says of the same tokens.",
             [](Options& o, const Given& g) { o.score.against = g.text; }},
            {"against-quantization", "", "KIND", kScore, Group::output,
             "none, lossless, int8 or int4: the KIND of the other model, which without --against is the same one. "
             "Default none.",
             [](Options& o, const Given& g) {
               o.score.against_quantization = one_of(g, {"none", "lossless", "int8", "int4"});
             }},
            {"graph", "", "KIND", kInspect, Group::output,
             "Print one graph: context_encoding, chunked_prefill, token_generation or speculation.",
             [](Options& o, const Given& g) { o.inspect.graph = g.text; }},
            {"plan", "", "", kInspect, Group::output, "Print where values live in memory and which kernels run.",
             [](Options& o, const Given& g) { o.inspect.plan = boolean(g); }},
            {"skip-special-tokens", "", "", kDetokenize, Group::output, "Leave control tokens such as <|im_end|> out.",
             [](Options& o, const Given& g) { o.skip_special_tokens = boolean(g); }},
            {"dimensions", "", "D", kEmbed, Group::output,
             "Only the first D numbers of a vector, then normalised (Matryoshka).",
             [](Options& o, const Given& g) { o.texts.dimensions = integer(g, 1); }},
            {"encoding-format", "", "FORMAT", kEmbed, Group::output,
             "With --json: float, or base64 of little-endian float32, as in OpenAI's API.",
             [](Options& o, const Given& g) {
               o.texts.base64 = one_of(g, {"float", "base64"}) == "base64";
             }},
            {"top-n", "", "N", kRerank, Group::output, "Only the N best documents.",
             [](Options& o, const Given& g) { o.texts.top_n = integer(g, 1); }},
            {"json", "", "",
             kGenerate | kScore | kEmbed | kRerank | kTokenize | kBench | kBenchServe | kInspect | kDoctor | kExport |
                 kCache | kPull,
             Group::output, "Print one JSON object.", [](Options& o, const Given& g) { o.json = boolean(g); },
             OneOf::output_form},
            {"jsonl", "", "", kTokenize, Group::output, "Read one JSON string a line and answer each with one object.",
             [](Options& o, const Given& g) { o.jsonl = boolean(g); }, OneOf::output_form},
        });

}  // namespace

std::span<const Flag> request_flags() { return kFlags; }

}  // namespace cajal::cli
