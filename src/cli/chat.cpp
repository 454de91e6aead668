// cajal chat: a conversation, on a terminal or in a pipe.
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <utility>

#include "base/file.h"
#include "base/log.h"
#include "cli/chat_prompt.h"
#include "cli/generation_request.h"
#include "cli/line_editor.h"
#include "cli/session.h"
#include "engine/conversation.h"
#include "text/think_splitter.h"

namespace cajal::cli {
namespace {

constexpr std::string_view kHelp =
    "/help          this\n"
    "/clear         begin a new conversation; the system message stays\n"
    "/system TEXT   set the system message; without TEXT there is none\n"
    "/think on|off  whether the model thinks before it answers\n"
    "/save FILE     write the messages as JSON, as 'cajal render --input' reads them\n"
    "/exit          end; so does Ctrl-D\n"
    "Ctrl-C stops an answer. Put a space before a message that begins with /.\n";

// For whoever types; never a result.
template <class... Parts>
void say(const Parts&... parts) {
  std::cerr << detail::join(parts...) << std::flush;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r";
  text.remove_prefix(std::min(text.find_first_not_of(kSpace), text.size()));
  return text.substr(0, text.find_last_not_of(kSpace) + 1);
}

// Prints an answer as it comes: thoughts dimmed on a terminal (in parentheses where it shall have no colours), and to
// standard error otherwise.
class AnswerPrinter {
 public:
  AnswerPrinter(Output& out, const Environment& environment) : out_(out), is_terminal_(out.is_terminal()) {
    const auto value = [&](const char* name) {
      const auto found = environment.find(name);
      return found == environment.end() ? std::string_view() : std::string_view(found->second);
    };
    if (value("NO_COLOR").empty() && value("TERM") != "dumb")
      begin_ = "\033[2m", end_ = "\033[0m";
    else
      begin_ = "(", end_ = ")";
  }

  void print(const SplitText& text) {
    thinking_ += text.thinking;
    content_ += text.answer;
    if (!text.thinking.empty()) {
      if (is_terminal_)
        out_.write((is_thinking_ ? "" : begin_) + text.thinking);
      else
        say(text.thinking);
      is_thinking_ = true;
    }
    if (text.answer.empty()) return;
    end_thinking();
    out_.write(text.answer);
  }
  void end() {
    end_thinking();
    if (!content_.ends_with('\n')) out_.write("\n");
  }

  const std::string& thinking() const { return thinking_; }
  const std::string& content() const { return content_; }

 private:
  void end_thinking() {
    if (!std::exchange(is_thinking_, false)) return;
    if (is_terminal_)
      out_.write(end_ + "\n\n");
    else
      say("\n");
  }

  Output& out_;
  bool is_terminal_, is_thinking_ = false;
  std::string begin_, end_;  // around thoughts
  std::string thinking_, content_;
};

class Chat {
 public:
  Chat(CommandContext& context, const Session& session, ChatPrompt prompt)
      : in_(context.in),
        out_(context.out),
        environment_(context.environment),
        session_(session),
        prompt_(std::move(prompt)),
        flags_(context.options.generate),
        system_(context.options.chat.system),
        enable_thinking_(context.options.chat.enable_thinking),
        is_dialogue_(is_terminal(context.in)),
        conversation_(*session.model, &*session.tokenizer,
                      {.max_model_len = plan_max_model_len(session, session.max_model_len)}) {
    const SamplingParams sampling = resolve_sampling(flags_, session.model->generation_config());
    if (!sampling.greedy() && !flags_.seed) log_info("seed ", sampling.seed);
    flags_.seed = sampling.seed;
  }

  void run();

 private:
  bool read(std::string& line);
  bool read_edited(std::string& line);
  bool obey(std::string_view line);  // false: the chat is over
  void remark(std::string_view text) const {
    if (is_dialogue_) say("(", text, ")\n");
  }
  void save(const std::string& file) const;
  void answer(std::string_view text);
  SequenceRequest request(const ChatPromptIds& prompt) const;
  void explain(FinishReason reason, const SequenceRequest& request, std::size_t answer_tokens) const;
  Json::Array messages() const;

  std::istream& in_;
  Output& out_;
  const Environment& environment_;
  const Session& session_;
  ChatPrompt prompt_;
  GenerateFlags flags_;
  std::optional<std::string> system_;
  std::optional<bool> enable_thinking_;
  bool is_dialogue_;
  std::optional<LineEditor> editor_;  // where the terminal can do more than show letters
  Conversation conversation_;
  Json::Array history_;
  bool any_answer_ = false;
};

// False: there are no more lines.
bool Chat::read_edited(std::string& line) {
  for (bool interrupted = false;;) {
    Dialogue::listen();
    switch (editor_->read(kDialoguePrompt, line)) {
      case LineEditor::Outcome::line: Dialogue::answer(); return true;
      case LineEditor::Outcome::end_of_input: say("\n"); return false;
      case LineEditor::Outcome::interrupted:
        if (std::exchange(interrupted, true)) throw Interrupted{};
        say(kInterruptHint);
    }
  }
}

bool Chat::read(std::string& line) {
  if (editor_) return read_edited(line);
  if (is_dialogue_) {
    Dialogue::listen();
    say(kDialoguePrompt);
  }
  if (std::getline(in_, line)) {
    if (is_dialogue_) Dialogue::answer();
    if (line.ends_with('\r')) line.pop_back();
    return true;
  }
  if (is_dialogue_) say("\n");
  if (in_.bad()) fail(ErrorCode::unavailable, "standard input: cannot read", remedy("check what it is connected to"));
  return false;
}

void Chat::run() {
  std::optional<Dialogue> dialogue;
  if (is_dialogue_) {
    dialogue.emplace();
    if (LineEditor::is_possible()) editor_.emplace();
    say(session_.name, ": /help shows the commands\n");
  }
  for (std::string line; read(line);) {
    try {
      if (trimmed(line).empty()) continue;
      if (!line.starts_with('/'))
        answer(line);
      else if (!obey(trimmed(line)))
        return;
    } catch (const Error& e) {
      if (!is_dialogue_) throw;
      say("cajal: ", e.message(), e.remedy().empty() ? "" : " — ", e.remedy(), "\n");
    }
  }
}

bool Chat::obey(std::string_view line) {
  const std::string_view word = line.substr(0, line.find_first_of(" \t"));
  const std::string rest(trimmed(line.substr(word.size())));
  if (word == "/exit" || word == "/quit") return false;
  if (word == "/help") {
    say(kHelp);
  } else if (word == "/clear") {
    history_.clear();
    remark("a new conversation");
  } else if (word == "/system") {
    system_ = rest.empty() ? std::nullopt : std::optional(rest);
    remark(system_ ? "the system message is set" : "there is no system message");
  } else if (word == "/think" && (rest == "on" || rest == "off")) {
    enable_thinking_ = rest == "on";
    remark(*enable_thinking_ ? "the model thinks before it answers" : "the model answers at once");
  } else if (word == "/think") {
    say("write /think on or /think off\n");
  } else if (word == "/save" && rest.empty()) {
    say("write /save FILE\n");
  } else if (word == "/save") {
    save(rest);
  } else {
    say(word, " is no command: /help shows them; put a space before a message that begins with /\n");
  }
  return true;
}

void Chat::save(const std::string& file) const {
  std::error_code ignored;
  if (std::filesystem::exists(file, ignored) && !std::filesystem::is_regular_file(file, ignored))
    fail(ErrorCode::invalid_argument, file, ": is no file", remedy("name a file to write"));
  Json::Array all = messages();
  const std::size_t count = all.size();
  write_file(file, to_json(Json::Object{{"messages", std::move(all)}}, 2) + "\n");
  say("wrote ", count, count == 1 ? " message to " : " messages to ", file, "\n");
}

Json::Array Chat::messages() const {
  Json::Array all;
  if (system_) all.emplace_back(Json::Object{{"role", "system"}, {"content", *system_}});
  all.insert(all.end(), history_.begin(), history_.end());
  return all;
}

SequenceRequest Chat::request(const ChatPromptIds& prompt) const {
  const std::int64_t room = conversation_.max_model_len() - static_cast<std::int64_t>(prompt.ids.size());
  if (room < 1)
    fail(ErrorCode::invalid_argument, "the conversation has ", prompt.ids.size(), " tokens, and with the answer ",
         conversation_.max_model_len(), " is the most",
         remedy("begin a new one with /clear, or raise --max-model-len"));
  TokenConstraints constraints;
  if (flags_.thinking_token_budget) constraints = make_constraints(flags_, session_, true);
  SequenceRequest request = make_request(flags_, session_, prompt.ids, constraints).sequence;
  const GenerationConfig& config = session_.model->generation_config();
  if (!flags_.max_new_tokens && !config.max_new_tokens && !config.max_length) request.max_new_tokens = room;
  return request;
}

void Chat::explain(FinishReason reason, const SequenceRequest& request, std::size_t answer_tokens) const {
  if (reason == FinishReason::numerical_error)
    fail(ErrorCode::data_loss, "the model's logits are not finite", remedy("check the weights; try --dtype float32"));
  if (reason == FinishReason::interrupted) say("(stopped)\n");
  if (reason != FinishReason::length) return;
  if (static_cast<std::int64_t>(request.prompt.size() + answer_tokens) >= conversation_.max_model_len())
    log_warning("the conversation has reached ", conversation_.max_model_len(),
                " tokens, the most there may be: begin a new one with /clear, or raise --max-model-len");
  else
    log_warning("the answer ends after ", answer_tokens, " tokens: raise --max-new-tokens for longer ones");
}

// A message that gets no answer is no part of the history.
void Chat::answer(std::string_view text) {
  if (editor_) restore_terminal();  // Ctrl-C stops the answer
  Json::Array asked = messages();
  asked.emplace_back(Json::Object{{"role", "user"}, {"content", text}});
  Json question = asked.back();
  const ChatPromptIds prompt = prompt_.render(*session_.tokenizer, std::move(asked), enable_thinking_);
  const SequenceRequest request = this->request(prompt);

  if (std::exchange(any_answer_, true) && !is_dialogue_) out_.write("\n");
  AnswerPrinter printer(out_, environment_);
  ThinkSplitter splitter(prompt.opens_thinking);
  RunHooks hooks;
  hooks.is_wanted = [](std::size_t) { return !Dialogue::is_answer_stopped(); };
  hooks.on_progress = [&](const SequenceProgress& progress) { printer.print(splitter.push(progress.text)); };
  const SequenceResult result = conversation_.generate(request, hooks);
  printer.print(splitter.flush());
  printer.end();
  explain(result.finish_reason, request, result.tokens.size());
  if (result.finish_reason == FinishReason::interrupted && printer.content().empty()) return;

  Json reply = Json::Object{{"role", "assistant"}, {"content", printer.content()}};
  if (!printer.thinking().empty()) reply.set("reasoning_content", printer.thinking());
  history_.push_back(std::move(question));
  history_.push_back(std::move(reply));
}

}  // namespace

void run_chat(CommandContext& context) {
  const Options& o = context.options;
  SessionBuilder builder(o.common, o.common.model, context.environment, context.ranks);
  // Where there is no tokenizer, loading one says which file is missing.
  if (!builder.tokenizer()) Tokenizer::from_folder(builder.folder());
  ChatPrompt prompt(builder.folder());
  const Session session = std::move(builder).load();
  Chat(context, session, std::move(prompt)).run();
}

}  // namespace cajal::cli
