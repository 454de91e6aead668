#include "cli/commands.h"

#include <algorithm>
#include <array>

#include "cli/flags.h"

namespace cajal::cli {
namespace {

constexpr auto kCommands = std::to_array<CommandInfo>({
    {"generate", kGenerate, "[MODEL] --prompt TEXT [flags]", "Go on from a prompt.",
     "Generates the text that follows a prompt and prints it as it comes. Decoding is greedy unless flags or the "
     "model's "
     "generation_config.json ask for sampling.",
     run_generate},
    {"chat", kChat, "[MODEL] [--system TEXT] [--enable-thinking | --no-enable-thinking] [flags]", "Talk with a model.",
     "Reads messages from standard input, a line each, and answers them. On a terminal Ctrl-C stops an answer, Ctrl-D "
     "ends the chat, and /help shows the commands. In a pipe answers are separated by an empty line, and what the "
     "model thinks goes to standard error.",
     run_chat},
    {"score", kScore, "[MODEL] --prompt TEXT [flags]", "Say how likely a text is.",
     "Prints the perplexity of a text: exp of minus the mean log-probability of its tokens after the first.",
     run_score},
    {"embed", kEmbed, "[MODEL] (--prompt TEXT | --input FILE) [--dimensions D] [--json] [flags]",
     "Turn texts into vectors.",
     "Prints the vector of each text, a line of numbers each: what sentence-transformers computes with a "
     "Qwen3-Embedding model, and with every other Qwen3 the last token's hidden state, normalised.",
     run_embed},
    {"rerank", kRerank, "[MODEL] --query TEXT (--document TEXT... | --input FILE) [--top-n N] [--json] [flags]",
     "Sort documents by how well they answer a query.",
     "Asks a Qwen3-Reranker of each document whether it answers the query and prints the probability of yes, the "
     "document's number from 0 on, and the document, the best first.",
     run_rerank},
    {"tokenize", kTokenize, "[MODEL] [--json | --jsonl] < text", "Turn text into token ids.",
     "Reads text from standard input, byte for byte, and prints its token ids separated by spaces. Needs only the "
     "tokenizer's files of a model.",
     run_tokenize},
    {"detokenize", kDetokenize, "[MODEL] [--skip-special-tokens] < ids", "Turn token ids into text.",
     "Reads token ids from standard input, separated by spaces or commas or as a JSON list, and prints their text with "
     "nothing added. Needs only the tokenizer's files of a model.",
     run_detokenize},
    {"render", kRender, "[MODEL | --template FILE] --input REQUEST.json", "Fill a chat template.",
     "Renders a chat template with the members of a JSON object as its variables (messages, tools, "
     "add_generation_prompt, "
     "enable_thinking, …) and prints exactly the prompt, with no newline added. Needs only the tokenizer's files of a "
     "model.",
     run_render},
    {"export", kExport, "MODEL -o DIR [--target TARGET] [flags]", "Prepare a model for a machine.",
     "Writes a folder with a model's graphs, memory plans and weights as one kind of machine runs them. Wherever a "
     "MODEL "
     "goes, such a folder does too: it loads at once, takes the memory that was planned, and refuses what it was not "
     "made for. Limits and defaults are those of Optimum Neuron, in whose neuron_config.json they are written.",
     run_export},
    {"serve", kServe, "[MODEL] [--host HOST] [--port PORT] [--api-key KEY] [flags]",
     "Answer over HTTP as OpenAI's and Anthropic's APIs do.",
     "Serves a model on http://127.0.0.1:8000/v1: chats, completions, embeddings and more, to many at once "
     "(docs/serving.md). "
     "SIGTERM and Ctrl-C let requests under way end first; a second one does not wait.",
     run_serve},
    {"bench", kBench, "[MODEL] [-p N,…] [-n N,…] [-b N,…] [-d N,…] [-r N] [--json]", "Measure speed.",
     "Times prefill alone for each -p and decoding alone for each -n, each for every batch and depth, and compares "
     "with "
     "what the machine can do.",
     run_bench},
    {"bench serve", kBenchServe, "[--base-url URL] [--model NAME] [--num-prompts N] [--request-rate R] [flags]",
     "Measure a server.",
     "Asks a server that speaks OpenAI's API, cajal's or another, many things at once and tells how soon answers came, "
     "with "
     "the flags, the table and the file of vLLM's benchmark (docs/serving.md). OPENAI_API_KEY is the key that it "
     "shows. "
     "Prompts are made with the tokenizer of --tokenizer, else of --model where that lies here, else the demo model's.",
     run_bench_serve},
    {"inspect", kInspect, "MODEL [--graph KIND] [--plan] [--json]", "Show what a model is made of.",
     "Prints a model's configuration, size and memory needs, and on request its graphs and plans, without running it.",
     run_inspect},
    {"doctor", kDoctor, "[--json]", "Show what cajal finds on this machine.",
     "Prints the version, the processor and its instruction sets, memory, limits, and which device would be used and "
     "why. "
     "Worth adding to a bug report.",
     run_doctor},
    {"pull", kPull, "MODEL [--revision R] [--json]", "Download a model.",
     "Fetches what cajal needs of a model from the hub into the cache that Hugging Face's libraries share, and prints "
     "its folder. An interrupted download goes on where it ended; HF_TOKEN, HF_ENDPOINT, HF_HUB_CACHE and "
     "HF_HUB_OFFLINE are heeded.",
     run_pull},
    {"cache", kCache, "list | clean [--json]", "See and empty cajal's cache.",
     "Lists, or removes, the exports that --export-cache keeps: in CAJAL_CACHE_DIR, else in XDG_CACHE_HOME/cajal, else "
     "in "
     "~/.cache/cajal.",
     run_cache},
});

}  // namespace

std::span<const CommandInfo> commands() { return kCommands; }

const CommandInfo* find_command(std::string_view name) {
  const auto found =
      std::find_if(kCommands.begin(), kCommands.end(), [&](const CommandInfo& c) { return c.name == name; });
  return found == kCommands.end() ? nullptr : &*found;
}

const CommandInfo& command_of(std::uint32_t bit) {
  return *std::find_if(kCommands.begin(), kCommands.end(), [&](const CommandInfo& c) { return c.bit == bit; });
}

}  // namespace cajal::cli
